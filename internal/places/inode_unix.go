//go:build unix

package places

import (
	"io/fs"
	"syscall"
)

// inode returns the number of a file, which changes when it is replaced.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
