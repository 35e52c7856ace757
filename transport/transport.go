// Package transport writes records. An encoder (internal/encode) turns a record into
// bytes. Outputs write the bytes to a file or to Kafka, and count what becomes of every
// record.
//
// A worker's [Writer] encodes into a chunk of the output's buffer (buffer.go). The
// output's runner (runner.go) starts and stops the goroutine that writes the chunks,
// and the output's driver (file.go, kafka.go) writes them. A new output is another
// driver in a file of its own.
package transport

import (
	"context"
	"errors"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Encoder turns records into bytes.
type Encoder interface {
	// AppendRecord appends one whole record, with the separator or the length that
	// the format has, and returns the extended slice. It keeps neither dst nor r.
	// Any number of goroutines may call it at once.
	AppendRecord(dst []byte, r *flow.Record) []byte
}

// Keyer makes the keys of records, for outputs that keep records with equal keys
// together.
type Keyer interface {
	// AppendKey appends the key of a record and returns the extended slice. It appends
	// nothing if the record has no key. It keeps neither dst nor r. Any number of
	// goroutines may call it at once.
	AppendKey(dst []byte, r *flow.Record) []byte
}

// Output is where records go. An output is inert until Open or Run. Open comes first,
// and Run is called once. NewWriter is called once for each worker, before or during
// Run, from any goroutine. Finish comes after the last record of all writers. Problem,
// Full and Reopen may come at any time, from any goroutine.
type Output interface {
	// Open opens what can be opened at once, so that a wrong setting is found before
	// anything is started. Calling it is optional: Run opens what is not open.
	Open() error
	// NewWriter returns a writer for one worker.
	NewWriter() Writer
	// Run writes the records that the writers accept. It is called once. When ctx
	// ends it collects what the writers still hold, writes it before the output's
	// deadline, and returns. Records that come later are counted as dropped. Errors
	// are [ErrClosed], [ErrDrain] and failures.
	Run(ctx context.Context) error
	// Finish announces that no more records will come. Run then ends when all records are
	// written, however long that takes, unless its context ends.
	Finish()
	// Problem returns nil, or an error that says why records are not written. They may
	// still find room in the buffer.
	Problem() error
	// Full reports whether the buffer has no room for another chunk of records. What
	// comes is dropped then, or waits with a blocking output.
	Full() bool
	// Reopen makes the output open its destination again, for log rotation. It does
	// not wait for that. Outputs without a file ignore it.
	Reopen()
}

// Writer accepts the records of one worker. It is used by one goroutine.
type Writer interface {
	// Handler has the methods HandleFlow and Idle. A record that HandleFlow accepts
	// is written later, or counted as dropped; HandleFlow does not keep it. Idle
	// makes the accepted records be written without delay, but for outputs that
	// write in large batches.
	flow.Handler
	// Skip accepts a record that is not to be written. It is counted as dropped for
	// the reason "filter".
	Skip()
}

// ErrClosed is returned by an output's Run when the reader of its standard
// output has gone. It is not a failure: nobody wants more records.
var ErrClosed = errors.New("the reader of the output has gone")

// ErrDrain is returned by an output's Run when not all records could be written
// before the deadline. They are counted as dropped for reason "shutdown".
var ErrDrain = errors.New("not all records could be written before the deadline")
