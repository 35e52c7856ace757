//go:build !linux

package transport

import "os"

// nowaitWriter exists on Linux only.
type nowaitWriter struct{}

func newNowaitWriter(*os.File) *nowaitWriter { return nil }

func (*nowaitWriter) write([]byte) (int, error) { return 0, nil }
func (*nowaitWriter) unsupported(error) bool    { return true }
