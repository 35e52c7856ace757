// Package transport writes records: encoders turn a record into bytes, outputs
// take the bytes where they belong and keep account of every record.
package transport

import (
	"context"
	"errors"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

//go:generate go test -run ^TestFieldsDoc$ . -update

// Encoder turns records into bytes.
type Encoder interface {
	// AppendRecord appends one whole record, with whatever ends or precedes a
	// record in this format, and returns the extended slice. It keeps neither
	// dst nor r. Any number of goroutines may call it at once.
	AppendRecord(dst []byte, r *flow.Record) []byte
}

// Output is where records go.
type Output interface {
	// NewWriter returns a writer for one worker.
	NewWriter() Writer
	// Run writes what the writers hand over. When ctx ends it takes in what the
	// writers still hold, writes it out within the output's deadline, and
	// returns. Records handed over later are dropped and counted.
	Run(ctx context.Context) error
}

// Writer takes the records of one worker, from one goroutine.
type Writer interface {
	// HandleFlow takes a record, which is written or counted as dropped later.
	// It does not keep r.
	HandleFlow(r *flow.Record)
	// Skip takes a record that is not to be written: it is counted as dropped
	// for reason "filter".
	Skip()
	// Idle says that no more records are at hand: those taken are written
	// without delay. It returns whether it wants to be called again soon.
	Idle() (pending bool)
}

// ErrClosed is returned by an output's Run when the reader of its standard
// output has gone. It is no failure: nobody wants more records.
var ErrClosed = errors.New("the reader of the output has gone")

// ErrDrain is returned by an output's Run when not all records could be written
// before the deadline. They are counted as dropped for reason "shutdown".
var ErrDrain = errors.New("not all records could be written before the deadline")
