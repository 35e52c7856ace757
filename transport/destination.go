package transport

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadlinePast makes writes return at once, noDeadline makes them wait.
var (
	deadlinePast = time.Unix(1, 0)
	noDeadline   = time.Time{}
)

// destination is an open file, pipe or terminal, or a writer of a test. It is used
// by one goroutine at a time, but for interrupt.
type destination struct {
	w    io.Writer
	file *os.File // nil for a test's writer
	// nowait writes without waiting. It is nil where the system cannot do that.
	nowait *nowaitWriter
	// regular is set for a file that was opened by its path. Nobody else writes to
	// it, so a part of a record may be removed from its end.
	regular bool
	// fifo is set for a named pipe: another reader may come.
	fifo bool
	// size is the file's when it was opened, in bytes.
	size int64
	// partialLine reports whether the file ends in the middle of a line, which was left by
	// a program that was killed.
	partialLine bool
}

// errNoReader is returned for a named pipe that nobody has opened for reading yet.
var errNoReader = errors.New("nobody reads from the named pipe")

// openPath opens a file for appending, and creates it if there is none.
func openPath(path string) (*destination, error) {
	// O_NONBLOCK: to open a named pipe must not wait for a reader. It changes
	// nothing for files.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o644)
	if err != nil {
		if fi, e := os.Stat(path); errors.Is(err, unix.ENXIO) && e == nil && fi.Mode()&fs.ModeNamedPipe != 0 {
			return nil, fmt.Errorf("open %s: %w", path, errNoReader)
		}
		return nil, err
	}
	fi, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	d := &destination{file: file, regular: fi.Mode().IsRegular()}
	if fi.Mode()&fs.ModeNamedPipe != 0 {
		// The path may also lead to a pipe without a name (/dev/stdout), to
		// which no reader can come back.
		_, err := filepath.EvalSymlinks(path)
		d.fifo = err == nil
	}
	d.size = fi.Size()
	if d.w, err = newFDWriter(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	d.nowait = newNowaitWriter(file)
	return d, nil
}

// endsLine reports whether the file's last byte ends a line. It returns true if the
// byte cannot be read.
func endsLine(path string, size int64) bool {
	file, err := os.Open(path)
	if err != nil {
		return true
	}
	defer file.Close()
	var last [1]byte
	n, _ := file.ReadAt(last[:], size-1)
	return n == 0 || last[0] == '\n'
}

// openStdout returns a destination that writes to standard output, or to w if that
// is not nil, by a descriptor of its own.
//
// Two things speak against descriptor 1 itself. When its reader has gone, Go ends
// the program by SIGPIPE, which it does for no other descriptor. And a blocking
// write to a pipe whose reader stalls can neither be interrupted nor be counted
// exactly. So a pipe is opened again, in non-blocking mode. To change the mode of
// descriptor 1 would disturb the programs that share it. Anything else is
// duplicated.
func openStdout(w io.Writer) (*destination, error) {
	if w == nil {
		w = os.Stdout
	}
	stdout, ok := w.(*os.File)
	if !ok {
		return &destination{w: w}, nil
	}
	fi, err := stdout.Stat()
	if err != nil {
		return nil, err
	}
	conn, err := stdout.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	cerr := conn.Control(func(fd uintptr) {
		if fi.Mode()&fs.ModeNamedPipe != 0 {
			path := fmt.Sprintf("/proc/self/fd/%d", fd)
			if file, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
				return
			}
			// Not on this system, or a pipe that belongs to another user.
		}
		var dup int
		if dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); err == nil {
			file = os.NewFile(uintptr(dup), stdout.Name())
		}
	})
	if err = errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("duplicate standard output: %w", err)
	}
	d := &destination{file: file}
	if d.w, err = newFDWriter(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	d.nowait = newNowaitWriter(file)
	return d, nil
}

// interrupt makes a write that waits for a reader return, where possible. It may be
// called by any goroutine.
func (d *destination) interrupt() {
	if d.file != nil {
		_ = d.file.SetWriteDeadline(deadlinePast)
	}
}

// sameFile reports whether d and o are the same file.
func (d *destination) sameFile(o *destination) bool {
	a, errA := d.file.Stat()
	b, errB := o.file.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// removed reports whether the file was removed. Nobody will ever read what is
// written to it.
func (d *destination) removed() bool {
	if !d.regular {
		return false
	}
	fi, err := d.file.Stat()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// truncateTail removes n bytes from the end of a file, and reports whether it did.
// Only regular files can be shortened.
func (d *destination) truncateTail(n int) bool {
	if !d.regular {
		return false
	}
	fi, err := d.file.Stat()
	return err == nil && fi.Size() >= int64(n) && d.file.Truncate(fi.Size()-int64(n)) == nil
}

// Close closes the file.
func (d *destination) Close() error {
	if d.file == nil {
		return nil
	}
	return d.file.Close()
}

// fdWriter makes one write(2) for each call of Write, so that each can be counted.
// An [os.File] loops until all is written.
type fdWriter struct {
	conn syscall.RawConn
	try  func(fd uintptr) bool
	name string

	p   []byte
	n   int
	err error
}

func newFDWriter(file *os.File) (*fdWriter, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &fdWriter{conn: conn, name: file.Name()}
	// The runtime can wait for the descriptor if it takes deadlines. If not, the
	// system call waits.
	pollable := !errors.Is(file.SetWriteDeadline(noDeadline), os.ErrNoDeadline)
	w.try = func(fd uintptr) bool {
		for {
			w.n, w.err = unix.Write(int(fd), w.p)
			switch {
			case w.err == unix.EINTR:
			case w.err == unix.EAGAIN && pollable:
				return false
			case w.err == unix.EAGAIN:
				// Another program has set the shared descriptor to non-blocking mode.
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
			default:
				return true
			}
		}
	}
	return w, nil
}

// Write writes p, or the beginning of p that the destination takes at once. Unlike
// [io.Writer] it returns no error then. It does not keep p.
func (w *fdWriter) Write(p []byte) (int, error) {
	w.p = p
	err := w.conn.Write(w.try)
	w.p = nil
	if err != nil {
		return 0, err // the deadline
	}
	if w.err != nil {
		return 0, &fs.PathError{Op: "write", Path: w.name, Err: w.err}
	}
	return w.n, nil
}
