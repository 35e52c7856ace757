//go:build !linux

// Package hugepages puts the heap of the program into huge pages, on Linux.
package hugepages

import (
	"context"
	"errors"
)

// Use calls report with an error, since huge pages are used on Linux only.
func Use(_ context.Context, report func(moved int64, err error)) {
	report(0, errors.New("huge pages are used on Linux only"))
}

// Once returns false: huge pages are used on Linux only.
func Once() bool { return false }
