//go:build !linux

// Package hugepages puts the heap of the program into huge pages, on Linux.
package hugepages

import "context"

// Use does nothing here.
func Use(context.Context) {}

// Once does nothing here.
func Once() bool { return false }
