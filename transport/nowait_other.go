//go:build !linux

package transport

import "os"

// nowaitWriter is of Linux alone.
type nowaitWriter struct{}

func newNowaitWriter(*os.File) *nowaitWriter { return nil }

func (*nowaitWriter) write([]byte) (int, error) { return 0, nil }
func (*nowaitWriter) unable(error) bool         { return true }
