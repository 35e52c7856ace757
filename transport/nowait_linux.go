package transport

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nowaitWriter writes what the kernel takes at once (RWF_NOWAIT of pwritev2(2)):
// to a pipe with room, a file whose pages are in memory, /dev/null. Terminals and
// some file systems do not support it. It is used by one goroutine at a time.
type nowaitWriter struct {
	conn syscall.RawConn
	try  func(fd uintptr) // kept: a closure a call would allocate
	iov  unix.Iovec
	n    int
	err  error
}

// newNowaitWriter returns nil if the file has no descriptor.
func newNowaitWriter(file *os.File) *nowaitWriter {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil
	}
	w := &nowaitWriter{conn: conn}
	w.try = func(fd uintptr) {
		// The offset of -1 is the file's own. A system call that does not wait needs
		// none of the runtime's preparations for one that may.
		offset := ^uintptr(0)
		n, _, errno := unix.RawSyscall6(unix.SYS_PWRITEV2, fd, uintptr(unsafe.Pointer(&w.iov)), 1, offset, offset, unix.RWF_NOWAIT)
		if w.n, w.err = int(n), nil; errno != 0 {
			w.n, w.err = 0, errno
		}
	}
	return w
}

// write writes as much of p as can be written at once, and does not keep p. Its
// errors need no care: an ordinary write will meet them again.
func (w *nowaitWriter) write(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.iov.Base = &p[0]
	w.iov.SetLen(len(p))
	err = w.conn.Control(w.try)
	w.iov.Base = nil
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}

// unsupported reports whether an error of write means that all further writes will
// fail, too.
func (w *nowaitWriter) unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE)
}
