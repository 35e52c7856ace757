// Package transport writes records: encoders turn a record into bytes, outputs
// take the bytes where they belong and keep account of every record.
package transport

import (
	"context"
	"errors"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Encoder turns records into bytes.
type Encoder interface {
	// AppendRecord appends one whole record, with whatever ends or precedes a
	// record in this format, and returns the extended slice. It keeps neither
	// dst nor r. Any number of goroutines may call it at once.
	AppendRecord(dst []byte, r *flow.Record) []byte
}

// Keyer makes the keys of records, for outputs that keep records with the same
// key together.
type Keyer interface {
	// AppendKey appends the key of a record, nothing if it has none, and returns
	// the extended slice. It keeps neither dst nor r. Any number of goroutines may
	// call it at once.
	AppendKey(dst []byte, r *flow.Record) []byte
}

// Output is where records go. An output is inert until Open or Run. Its calls
// come in this order: Open, NewWriter for each worker, Run, Finish; Ready and
// Reopen may come at any time, from any goroutine.
type Output interface {
	// Open opens what can be opened at once, so that a wrong setting shows before
	// anything is started. Calling it is optional: Run opens what is not open.
	Open() error
	// NewWriter returns a writer for one worker.
	NewWriter() Writer
	// Run writes what the writers hand over. When ctx ends it takes in what the
	// writers still hold, writes it out within the output's deadline, and
	// returns. Records handed over later are dropped and counted. Errors are
	// [ErrClosed], [ErrDrain] and failures.
	Run(ctx context.Context) error
	// Finish tells the output that no more records will come. Run then ends when
	// all records are written, however long that takes.
	Finish()
	// Ready returns nil, or what keeps records from being written.
	Ready() error
	// Reopen makes the output open its destination anew, for log rotation. It does
	// not wait for that. Outputs without a file ignore it.
	Reopen()
}

// Writer takes the records of one worker, from one goroutine.
type Writer interface {
	// A record that HandleFlow takes is written or counted as dropped later. Idle
	// writes those taken without delay.
	flow.Handler
	// Skip takes a record that is not to be written: it is counted as dropped
	// for reason "filter".
	Skip()
}

// ErrClosed is returned by an output's Run when the reader of its standard
// output has gone. It is no failure: nobody wants more records.
var ErrClosed = errors.New("the reader of the output has gone")

// ErrDrain is returned by an output's Run when not all records could be written
// before the deadline. They are counted as dropped for reason "shutdown".
var ErrDrain = errors.New("not all records could be written before the deadline")
