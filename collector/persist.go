package collector

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

const (
	// templatesFormat begins a templates file, so that another file is not taken for
	// one.
	templatesFormat = "kube-enricher-templates/2"
	// writeInterval is the least time between two writes of a table that changed.
	writeInterval = 2 * time.Second
	// seenInterval is how often it is looked for exporters whose time of the last
	// datagram is to be written.
	seenInterval = time.Minute
	// savedTimeStep is how exactly times are written if nothing else has changed, in
	// seconds.
	savedTimeStep = 5 * 60
	// writeShare bounds the share of time that writing takes: a write that took a
	// second is followed by a pause of ten.
	writeShare = 10
	// maxTemplatesFile bounds the size of the file, in bytes. A file that is written
	// anew takes at most maxCompacted: the rest is for what changes then. Exporters
	// that do not fit are not written.
	maxTemplatesFile = 64 << 20
	maxCompacted     = 40 << 20
	// minGrowth is by how much a file grows at least, in bytes, before it is written anew.
	minGrowth = 1 << 20
)

// Errors of a templates file.
var (
	errForeign    = errors.New("not a templates file of this program, or damaged")
	errInUse      = errors.New("another process uses the file")
	errNotRegular = errors.New("not a regular file")
)

// sameSavedTime reports whether the templates file need not have the later of two times, in
// Unix seconds, if it has the earlier one.
func sameSavedTime(a, b uint32) bool { return a/savedTimeStep == b/savedTimeStep }

// templatesFile keeps the table of exporters across restarts. What changes is appended.
// Once that is as much as the rest, the file is written anew, in another one that takes its
// place. While the file is open it is locked, so that no other process writes it.
//
// All methods are for one goroutine. It may hang for as long as the volume of the file
// does; then nothing else waits for it for long.
type templatesFile struct {
	path string
	// abandoned reports whether nobody waits any more for the file to be read. Any
	// goroutine may set it. progress counts the lines that were read.
	abandoned atomic.Bool
	progress  atomic.Int64

	file *os.File // nil if there is none, or it is another process's
	info os.FileInfo
	// size is how much of the file is whole, compacted how much was written anew, in
	// bytes.
	size, compacted int64
	// rewrite reports whether the file must be written anew: it lacks something.
	rewrite bool
	// epoch is how often the file was written anew, and one more; shapes is how many it
	// has.
	epoch, shapes uint32

	written     time.Time     // time of the last write
	pause       time.Duration // until the next write
	seenChecked time.Time
	// sync is (*os.File).Sync, but for tests.
	sync func(*os.File) error
}

func newTemplatesFile(path string) *templatesFile {
	return &templatesFile{path: path, epoch: 1, sync: (*os.File).Sync}
}

// save writes what has changed if it is time to, or if last is true.
func (f *templatesFile) save(t *exporters, now time.Time, last bool) error {
	seen := last || now.Sub(f.seenChecked) >= seenInterval
	if !last && now.Sub(f.written) < f.pause || !seen && !f.rewrite && !t.unsaved.Load() {
		return nil
	}
	if seen {
		f.seenChecked = now
		t.noteSeen()
	}
	if !f.rewrite && !t.unsaved.Load() {
		return nil
	}
	f.written = now
	started := time.Now()
	defer func() { f.pause = max(writeInterval, writeShare*time.Since(started)) }()
	if err := f.write(t); err != nil {
		f.rewrite = true // what was to be written is marked as written
		return fmt.Errorf("write templates (-templates.file): %w", err)
	}
	return nil
}

func (f *templatesFile) write(t *exporters) error {
	if err := f.open(); err != nil {
		return err
	}
	t.unsaved.Store(false)
	if !f.rewrite && f.size < min(2*f.compacted+minGrowth, maxTemplatesFile) {
		full, err := f.append(t)
		if !full || err != nil {
			return err
		}
	}
	return f.compact(t)
}

// open opens and locks the file if there is one that is not open yet, or another one
// than that which is open.
func (f *templatesFile) open() error {
	info, err := os.Stat(f.path)
	if f.file != nil {
		if err == nil && os.SameFile(info, f.info) {
			return nil
		}
		f.close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		f.rewrite = true
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // opening a named pipe waits for its other end
		return errNotRegular
	}
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := lock(file); err != nil {
		return errors.Join(err, file.Close())
	}
	if f.info, err = file.Stat(); err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.rewrite = file, true // unless it is being read
	return nil
}

func (f *templatesFile) close() {
	if f.file != nil {
		_ = f.file.Close() // all was synced
		f.file = nil
	}
}

// lock locks a file until it is closed. Where the file system knows no locks, the file is
// not locked.
func lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errInUse
	}
	return nil
}

// append writes what has changed behind the rest. full reports whether the file has no
// room for it. After an error the file is as before.
func (f *templatesFile) append(t *exporters) (full bool, err error) {
	w := f.newWriter(io.NewOffsetWriter(f.file, f.size), maxTemplatesFile-f.size)
	for _, e := range t.list() {
		if e.unsaved.Swap(false) {
			w.exporter(e, false)
		}
	}
	if err = w.flush(); err == nil {
		err = f.sync(f.file)
	}
	if err != nil || w.full {
		return w.full, errors.Join(err, f.file.Truncate(f.size))
	}
	f.size += w.n
	return false, nil
}

// compact writes the file anew, with all that is known. If that fails, the file is as
// before.
func (f *templatesFile) compact(t *exporters) (err error) {
	dir := filepath.Dir(f.path)
	pending, err := renameio.NewPendingFile(f.path, renameio.WithTempDir(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pending.Cleanup()) }()
	if err := lock(pending.File); err != nil {
		return err
	}
	f.epoch++
	f.shapes = 0
	w := f.newWriter(pending, maxCompacted)
	w.head()
	list := t.list()
	// Those that give records go first: if not all fit, it is others that are left out.
	slices.SortFunc(list, func(a, b *exporter) int {
		if used := a.templatesUsed.Load(); used != b.templatesUsed.Load() {
			if used {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.bytes.Load(), b.bytes.Load())
	})
	for _, e := range list {
		e.unsaved.Store(false)
		w.exporter(e, true)
	}
	if err := w.flush(); err != nil {
		return err
	}
	info, err := pending.Stat()
	if err != nil {
		return err
	}
	// The lock is that of the open file, which goes on by another number.
	fd, err := syscall.Dup(int(pending.Fd()))
	if err != nil {
		return err
	}
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), f.path)
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return errors.Join(err, file.Close())
	}
	f.close()
	f.file, f.info = file, info
	f.size, f.compacted, f.rewrite = w.n, w.n, false
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // not all file systems can; the rename is atomic all the same
		_ = d.Close()
	}
	return nil
}

// removeLeftovers removes the files that processes left beside the templates file which
// were killed while they wrote it anew: those of renameio, and those of versions before.
// Digits are what os.CreateTemp puts in the place of the star.
func (f *templatesFile) removeLeftovers() {
	dir, base := filepath.Split(f.path)
	name := regexp.QuoteMeta(base)
	leftover := regexp.MustCompile(`^(\.` + name + `|` + name + `\.tmp-)[0-9]+$`)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return // nothing is written either then, which is logged
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !leftover.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if lock(file) == nil { // else its writer is alive
			_ = os.Remove(path)
		}
		_ = file.Close()
	}
}

// newWriter returns a writer of lines, which writes at most so many bytes.
func (f *templatesFile) newWriter(w io.Writer, room int64) *storeWriter {
	return &storeWriter{f: f, w: bufio.NewWriterSize(w, 64<<10), room: room}
}
