package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// lineEncoder writes a record's sequence number and as many x as it has bytes.
type lineEncoder struct{}

func (lineEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	dst = strconv.AppendUint(dst, uint64(r.Msg.SequenceNum), 10)
	for range r.Msg.Bytes {
		dst = append(dst, 'x')
	}
	return append(dst, '\n')
}

// bench is a file output under test, with all that is around it.
type bench struct {
	*File
	t      *testing.T
	reg    *prometheus.Registry
	log    *logtest.Hook
	handed int
	ended  chan error
	cancel context.CancelFunc
}

func newBench(t *testing.T, cfg FileConfig, enc Encoder) *bench {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	b := &bench{t: t, reg: prometheus.NewPedanticRegistry(), log: hook}
	var err error
	if b.File, err = NewFile(cfg, enc, log, b.reg); err != nil {
		t.Fatal(err)
	}
	return b
}

// start runs the output until stop, finish or the end of the test.
func (b *bench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	b.ended = make(chan error, 1)
	go func() { b.ended <- b.Run(ctx) }()
}

func (b *bench) stop() error {
	b.cancel()
	return <-b.ended
}

func (b *bench) done() error {
	b.Finish()
	return <-b.ended
}

func (b *bench) hand(w Writer, seq, bytes int) {
	r := new(flow.Record)
	r.Msg.SequenceNum, r.Msg.Bytes = uint32(seq), uint64(bytes)
	w.HandleFlow(r)
	b.handed++
}

// writeNow does what Run would do with what w has.
func (b *bench) writeNow(w Writer) {
	b.t.Helper()
	w.Idle()
	for c := b.buf.next(0); c != nil; c = b.buf.next(0) {
		b.noError(b.write(c))
		b.buf.release(c)
	}
}

// scrape returns all metrics by name and label values, and checks the ledger.
func (b *bench) scrape() map[string]float64 {
	b.t.Helper()
	m := gather(b.t, b.reg)
	sum := m["records_written_total file"] + m["records_held output"]
	for _, r := range dropReasonNames {
		n, ok := m["records_dropped_total "+r+" file"]
		if !ok {
			b.t.Fatalf("no counter for reason %s in %v", r, m)
		}
		sum += n
	}
	if int(sum) != b.handed {
		b.t.Fatalf("the ledger does not balance: %d handed over, %v", b.handed, m)
	}
	return m
}

// expect checks the ledger's numbers.
func (b *bench) expect(written, full, failed, shut, held int) {
	b.t.Helper()
	m := b.scrape()
	for name, want := range map[string]int{
		"records_written_total file":              written,
		"records_dropped_total output_full file":  full,
		"records_dropped_total output_error file": failed,
		"records_dropped_total shutdown file":     shut,
		"records_held output":                     held,
	} {
		if int(m[name]) != want {
			b.t.Errorf("%s is %v, want %d", name, m[name], want)
		}
	}
}

func (b *bench) noError(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// wholeLines returns the lines of data, which must end with one.
func wholeLines(t *testing.T, data []byte) []string {
	t.Helper()
	if len(data) == 0 {
		return nil
	}
	if data[len(data)-1] != '\n' {
		t.Fatalf("ends with half a line: %q", data[max(0, len(data)-100):])
	}
	return strings.Split(string(data[:len(data)-1]), "\n")
}

func TestFileManyWriters(t *testing.T) {
	const workers, records = 8, 500
	path := filepath.Join(t.TempDir(), "out.json")
	b := newBench(t, FileConfig{Path: path, Block: true, BufferBytes: 256 << 10}, newJSON(t))
	b.noError(b.Open())
	b.noError(b.Problem())
	b.start()
	var wg sync.WaitGroup
	for id := range workers {
		w := b.NewWriter()
		wg.Go(func() {
			r := flowtest.Reference()
			r.Msg.SrcAs = uint32(id)
			for i := range records {
				r.Msg.SequenceNum = uint32(i)
				w.HandleFlow(r)
				if i%17 == 0 {
					w.Idle()
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if _, err := b.reg.Gather(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	b.handed = workers * records
	b.scrape()
	b.noError(b.done())
	b.expect(workers*records, 0, 0, 0, 0)

	data, err := os.ReadFile(path)
	b.noError(err)
	var next [workers]uint32
	for _, line := range wholeLines(t, data) {
		var rec struct{ SrcAS, SequenceNum uint32 }
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if rec.SequenceNum != next[rec.SrcAS] {
			t.Fatalf("worker %d: record %d comes after %d", rec.SrcAS, rec.SequenceNum, int(next[rec.SrcAS])-1)
		}
		next[rec.SrcAS]++
	}
	for id, n := range next {
		if n != records {
			t.Errorf("worker %d: %d records, want %d", id, n, records)
		}
	}
	m := b.scrape()
	if int(m["output_bytes_total file"]) != len(data) || m["output_batches_total file"] == 0 ||
		m["output_write_seconds file"] != m["output_batches_total file"] || m["output_errors_total file"] != 0 || m["output_buffered_bytes file"] != 0 {
		t.Errorf("%d bytes written, but %v", len(data), m)
	}
}

// TestFileFlush checks that a record comes out without being followed by
// another one, whether its worker is idle or busy with something else.
func TestFileFlush(t *testing.T) {
	r, w := pipe(t)
	b := newBench(t, FileConfig{Stdout: w}, lineEncoder{})
	b.start()
	wr := b.NewWriter()
	in := bufio.NewReader(r)
	for i := range 10 {
		b.hand(wr, i, 0)
		if i%2 == 0 && wr.Idle() {
			t.Error("asks to be called again")
		}
		if line, err := in.ReadString('\n'); line != fmt.Sprintln(i) {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	b.noError(b.stop())
	b.expect(10, 0, 0, 0, 0)
	b.hand(wr, 0, 0)
	b.hand(b.NewWriter(), 0, 0)
	b.expect(10, 0, 0, 2, 0)
}

// TestFileStalled fills a pipe that nobody reads from: the newest records are
// dropped, and what was counted as written is what comes out in the end.
func TestFileStalled(t *testing.T) {
	const records = 3000
	r, w := pipe(t)
	b := newBench(t, FileConfig{Stdout: w, BufferBytes: minBuffer}, lineEncoder{})
	b.start()
	wr := b.NewWriter()
	for i := range records {
		b.hand(wr, i, 100)
		if i%10 == 0 {
			wr.Idle()
		}
		if i%500 == 0 {
			b.scrape()
		}
	}
	m := b.scrape()
	full, held := m["records_dropped_total output_full file"], m["records_held output"]
	if full == 0 || held == 0 || m["output_buffered_bytes file"] > minBuffer {
		t.Errorf("%v dropped, %v held, %v bytes", full, held, m["output_buffered_bytes file"])
	}
	read := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(r)
		read <- data
	}()
	b.noError(b.done())
	w.Close()
	lines := wholeLines(t, <-read)
	b.expect(len(lines), int(full), 0, 0, 0)
	last := -1
	for _, line := range lines {
		n, err := strconv.Atoi(strings.TrimSuffix(line, strings.Repeat("x", 100)))
		if err != nil || n <= last {
			t.Fatalf("after record %d: %s", last, line)
		}
		last = n
	}
}

// TestFileDeadline stops an output that is stalled. What is in the pipe then is
// what was counted, and perhaps the beginning of one more record.
func TestFileDeadline(t *testing.T) {
	r, w := pipe(t)
	b := newBench(t, FileConfig{Stdout: w, DrainTimeout: time.Millisecond}, lineEncoder{})
	b.start()
	wr := b.NewWriter()
	for i := range 3000 {
		b.hand(wr, i, 100)
	}
	// The deadline is over before a slow machine has written anything.
	until(t, "the pipe is written to", func() bool { return b.scrape()["records_written_total file"] > 0 })
	if err := b.stop(); !errors.Is(err, ErrDrain) {
		t.Errorf("error %v, want ErrDrain", err)
	}
	w.Close()
	data, err := io.ReadAll(r)
	b.noError(err)
	written := bytes.Count(data, []byte("\n"))
	if written == 0 {
		t.Error("nothing was written")
	}
	b.expect(written, 0, 0, 3000-written, 0)
	if n := len(b.log.AllEntries()); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
}

// stuck is a writer that takes nothing until it is told to.
type stuck chan struct{}

func (s stuck) Write(p []byte) (int, error) {
	<-s
	return len(p), nil
}

func TestFileStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := make(stuck)
		b := newBench(t, FileConfig{Stdout: out, DrainTimeout: 10 * time.Second}, lineEncoder{})
		if err := b.Problem(); err == nil || err.Error() != "not opened yet" {
			t.Errorf("ready before it is open: %v", err)
		}
		b.start()
		wr := b.NewWriter()
		b.hand(wr, 1, 0)
		wr.Idle()
		synctest.Wait()
		b.noError(b.Problem())
		time.Sleep(12 * time.Second)
		if err := b.Problem(); err == nil || err.Error() != "stdout: stalled for 12s" {
			t.Errorf("a stalled output is ready: %v", err)
		}
		b.hand(wr, 2, 0)
		b.expect(0, 0, 0, 0, 2)
		if err := b.stop(); !errors.Is(err, ErrDrain) {
			t.Errorf("error %v, want ErrDrain", err)
		}
		b.expect(0, 0, 0, 2, 0)
		close(out) // the write returns too late to count
		synctest.Wait()
		b.expect(0, 0, 0, 2, 0)
	})
}

// flaky is a writer that follows a script: how many bytes it takes, and
// whether it then fails. When the script is over it takes everything.
type flaky struct {
	out    bytes.Buffer
	script []int // n: takes n bytes; -n-1: takes n bytes, of which the second call fails
	err    error
	failed bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.failed {
		f.failed = false
		return 0, f.err
	}
	if len(f.script) == 0 {
		return f.out.Write(p)
	}
	n := f.script[0]
	f.script = f.script[1:]
	if n < 0 {
		n = -n - 1
		if n == 0 {
			return 0, f.err
		}
		f.failed = true
	}
	n = min(n, len(p))
	f.out.Write(p[:n])
	return n, nil
}

// TestFilePartial checks what becomes of records when writes are short or fail in
// the middle of one. Records are of five bytes, three in a chunk.
func TestFilePartial(t *testing.T) {
	for _, tc := range []struct {
		name    string
		script  []int
		chunks  int
		want    string
		written int
		failed  int
		errors  int
	}{
		{"short writes", []int{1, 1, 5, 3}, 2, "0000\n0001\n0002\n1000\n1001\n1002\n", 6, 0, 0},
		{"fails at once", []int{-1}, 2, "1000\n1001\n1002\n", 3, 3, 1},
		{"fails between records", []int{-6}, 2, "0000\n1000\n1001\n1002\n", 4, 2, 1},
		{"fails in a record", []int{-8}, 2, "0000\n0001\n1000\n1001\n1002\n", 5, 1, 1},
		{"fails in the last record", []int{-13}, 2, "0000\n0001\n0002\n1000\n1001\n1002\n", 6, 0, 1},
		{"fails again while finishing", []int{-8, -2, 1}, 3, "0000\n0001\n2000\n2001\n2002\n", 5, 4, 2},
		{"fails until the end", []int{-8, -1}, 2, "0000\n0001\n", 2, 4, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := &flaky{script: tc.script, err: unix.ENOSPC}
			b := newBench(t, FileConfig{Stdout: out}, lineEncoder{})
			b.noError(b.Open())
			w := b.NewWriter().(*writer)
			for c := range tc.chunks {
				for i := range 3 {
					r := new(flow.Record)
					r.Msg.SequenceNum = uint32(c*1000 + i)
					b.buf.enc = paddedEncoder{}
					w.HandleFlow(r)
					b.handed++
				}
				b.writeNow(w)
				b.scrape()
			}
			b.Finish()
			b.noError(b.loop(b.File))
			b.noError(b.conclude(nil))
			if got := out.out.String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			b.expect(tc.written, 0, tc.failed, 0, 0)
			if m := b.scrape(); int(m["output_errors_total file"]) != tc.errors {
				t.Errorf("%v errors, want %d", m["output_errors_total file"], tc.errors)
			}
		})
	}
}

type paddedEncoder struct{}

func (paddedEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	return fmt.Appendf(dst, "%04d\n", r.Msg.SequenceNum)
}

// TestFileTruncatesTail checks that half a record is removed from the end of a
// file, so that the next one begins where a line begins.
func TestFileTruncatesTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	b := newBench(t, FileConfig{Path: path}, paddedEncoder{})
	b.noError(b.Open())
	d := b.dst.Load()
	d.w = &limited{w: d.w, left: 8}
	w := b.NewWriter()
	for i := range 3 {
		b.hand(w, i, 0)
	}
	b.writeNow(w)
	b.expect(1, 0, 2, 0, 0)
	if err := b.Problem(); err == nil || !strings.HasSuffix(err.Error(), "no space left on device") {
		t.Errorf("ready with a full disk: %v", err)
	}
	data, err := os.ReadFile(path)
	if string(data) != "0000\n" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	d.w.(*limited).left = math.MaxInt
	b.hand(w, 3, 0)
	b.Finish()
	b.noError(b.loop(b.File))
	b.noError(b.Problem())
	if data, err = os.ReadFile(path); string(data) != "0000\n0003\n" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

// limited writes so many bytes and then finds the disk full.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left == 0 {
		return 0, unix.ENOSPC
	}
	n, err := l.w.Write(p[:min(l.left, len(p))])
	l.left -= n
	return n, err
}

func TestFileFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full: ", err)
	}
	for _, block := range []bool{false, true} {
		b := newBench(t, FileConfig{Path: "/dev/full", Block: block}, lineEncoder{})
		b.start()
		w := b.NewWriter()
		for i := range 5000 {
			b.hand(w, i, 100)
		}
		err := b.done()
		b.expect(0, 0, 5000, 0, 0)
		if !block {
			b.noError(err)
		} else if err == nil || err.Error() != "output: 5000 records could not be written: write /dev/full: no space left on device" {
			t.Errorf("error %v", err)
		}
		if err := b.Problem(); err == nil || err.Error() != "write /dev/full: no space left on device" {
			t.Errorf("ready: %v", err)
		}
		if n := len(b.log.AllEntries()); n != 1 {
			t.Errorf("%d lines in the log, want 1", n)
		}
	}
}

// TestFileFailing checks what is logged and what Ready says while an output
// fails, gets nothing to write, and works again.
func TestFileFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &limited{w: io.Discard}
		b := newBench(t, FileConfig{Stdout: out}, lineEncoder{})
		b.start()
		w := b.NewWriter()
		const seconds = 35
		for i := range seconds * 10 {
			b.hand(w, i, 0)
			w.Idle()
			time.Sleep(time.Second / 10)
		}
		b.expect(0, 0, seconds*10, 0, 0)
		if n := len(b.log.AllEntries()); n < 3 || n > 4 {
			t.Errorf("%d lines in the log in %d seconds", n, seconds)
		}
		if e := b.log.LastEntry(); e.Level != logrus.WarnLevel || e.Data["dropped"] == nil || e.Data[logrus.ErrorKey] == nil || e.Message != "stdout: records were dropped" {
			t.Errorf("the log says %v: %s", e.Data, e.Message)
		}
		if b.Problem() == nil {
			t.Error("ready while it fails")
		}
		time.Sleep(forgetAfter)
		b.noError(b.Problem())

		out.left = math.MaxInt
		b.hand(w, 0, 0)
		time.Sleep(2 * ratelog.Interval)
		b.expect(1, 0, seconds*10, 0, 0)
		if e := b.log.LastEntry(); e.Level != logrus.InfoLevel || e.Message != "stdout: works again" {
			t.Errorf("the log says %s", e.Message)
		}
		b.noError(b.stop())
	})
}

// TestFileClosed ends the reader of standard output in the middle.
func TestFileClosed(t *testing.T) {
	for _, block := range []bool{false, true} {
		r, w := pipe(t)
		b := newBench(t, FileConfig{Stdout: w, BufferBytes: minBuffer, Block: block}, lineEncoder{})
		b.start()
		wr := b.NewWriter()
		b.hand(wr, 0, 10)
		wr.Idle()
		in := bufio.NewReader(r)
		if line, err := in.ReadString('\n'); err != nil {
			t.Fatal(line, err)
		}
		r.Close()
		for i := range 5000 {
			b.hand(wr, i, 100)
		}
		wr.Idle()
		if err := <-b.ended; err != ErrClosed {
			t.Errorf("error %v, want ErrClosed", err)
		}
		m := b.scrape()
		if m["records_held output"] != 0 || m["records_dropped_total output_error file"] == 0 || m["records_dropped_total shutdown file"] != 0 {
			t.Errorf("%v", m)
		}
		if n := len(b.log.AllEntries()); n != 0 {
			t.Errorf("%d lines in the log of a quiet end", n)
		}
	}
}

func TestFileReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	b := newBench(t, FileConfig{Path: path, Block: true}, lineEncoder{})
	b.start()
	w := b.NewWriter()
	const rotations = 5
	for rotation := range rotations {
		for i := range 1000 {
			b.hand(w, i, 10)
		}
		w.Idle()
		for { // wait for the file, which Run opens
			if os.Rename(path, fmt.Sprint(path, rotation)) == nil {
				break
			}
			runtime.Gosched()
		}
		b.Reopen()
	}
	for {
		if _, err := os.Stat(path); err == nil {
			break
		}
		runtime.Gosched()
	}
	b.hand(w, 0, 10)
	b.noError(b.done())
	b.expect(rotations*1000+1, 0, 0, 0, 0)
	files, err := filepath.Glob(path + "*")
	if len(files) != rotations+1 {
		t.Errorf("files %v, %v", files, err)
	}
	lines := 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		b.noError(err)
		lines += len(wholeLines(t, data))
	}
	if lines != rotations*1000+1 {
		t.Errorf("%d lines, want %d", lines, rotations*1000+1)
	}
	if data, err := os.ReadFile(path); !strings.HasSuffix(string(data), "0xxxxxxxxxx\n") {
		t.Errorf("the last record is not in the last file: %q, %v", data, err)
	}
}

// TestFileRemoved takes away the file, then its directory too.
func TestFileRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	path := filepath.Join(dir, "out")
	b := newBench(t, FileConfig{Path: path}, paddedEncoder{})
	b.noError(os.Mkdir(dir, 0o755))
	b.noError(b.Open())
	w := b.NewWriter()
	write := func(seq int) {
		b.hand(w, seq, 0)
		b.writeNow(w)
	}
	content := func() string {
		data, err := os.ReadFile(path)
		b.noError(err)
		return string(data)
	}
	write(0)
	b.noError(os.Remove(path))
	b.check()
	write(1)
	if got := content(); got != "0001\n" {
		t.Errorf("after the file was removed: %q", got)
	}
	// A file that was renamed stays in use until it can be opened anew.
	b.noError(os.Rename(dir, dir+"2"))
	b.openAgain()
	if b.Problem() == nil {
		t.Error("ready without the directory")
	}
	write(2)
	if b.Problem() == nil {
		t.Error("a write to the old file hides that the new one cannot be opened")
	}
	b.noError(os.Mkdir(dir, 0o755))
	b.check()
	b.noError(b.Problem())
	write(3)
	if got := content(); got != "0003\n" {
		t.Errorf("after the directory was renamed: %q", got)
	}
	// One that was removed does not: the records wait for a new one.
	b.noError(os.RemoveAll(dir))
	b.check()
	if err := b.Problem(); err == nil || b.dst.Load() != nil {
		t.Errorf("removed: ready %v", err)
	}
	b.hand(w, 4, 0)
	b.expect(4, 0, 0, 0, 1)
	b.noError(os.Mkdir(dir, 0o755))
	b.writeNow(w)
	b.noError(b.Problem())
	if got := content(); got != "0004\n" {
		t.Errorf("after the directory was removed: %q", got)
	}
	b.expect(5, 0, 0, 0, 0)
}

// TestFileNamedPipe writes to a named pipe whose readers come and go.
func TestFileNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skip("needs a named pipe: ", err)
	}
	b := newBench(t, FileConfig{Path: path}, lineEncoder{})
	b.noError(b.Open())
	if err := b.Problem(); !errors.Is(err, errNoReader) {
		t.Errorf("ready without a reader: %v", err)
	}
	b.start()
	w := b.NewWriter()
	next := 0
	for range 3 {
		r, err := os.Open(path) // returns once the output has opened it too
		b.noError(err)
		in := bufio.NewReader(r)
		b.hand(w, next, 0)
		w.Idle()
		if line, err := in.ReadString('\n'); line != fmt.Sprintln(next) || err != nil {
			t.Fatalf("got %q, want %d: %v", line, next, err)
		}
		next++
		// Far more than fits the pipe: the reader leaves in the middle of a record.
		for range 1000 {
			b.hand(w, next, 500)
		}
		w.Idle()
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		r.Close()
		next++
		for b.Problem() == nil { // until the output has seen it
			runtime.Gosched()
		}
		r, err = os.Open(path)
		b.noError(err)
		in = bufio.NewReader(r)
		b.hand(w, next, 0)
		w.Idle()
		half := strconv.Itoa(next-1) + strings.Repeat("x", 500) + "\n"
		for line := ""; line != fmt.Sprintln(next); {
			if line, err = in.ReadString('\n'); err != nil || line != half && line != fmt.Sprintln(next) {
				t.Fatalf("a new reader gets %q, %v", line, err)
			}
		}
		r.Close()
		next++
	}
	b.noError(b.stop())
	b.expect(b.handed, 0, 0, 0, 0)
}

// TestOpenPath tells pipes to which a reader may come back from others, and
// ends a line that a killed program left.
func TestOpenPath(t *testing.T) {
	_, w := pipe(t)
	d, err := openPath(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	d.Close()
	if d.fifo || d.regular {
		t.Errorf("a pipe without a name is taken for %+v", d)
	}

	path := filepath.Join(t.TempDir(), "out")
	for _, tc := range []struct {
		found, want string
		binary      bool
	}{
		{"", "0000\n", false},
		{"0009\n", "0009\n0000\n", false},
		{"0009\n00", "0009\n00\n0000\n", false},
		{"\x02\x08\x01\x05\x08", "\x02\x08\x010000\n", true},
	} {
		if err := os.WriteFile(path, []byte(tc.found), 0o600); err != nil {
			t.Fatal(err)
		}
		b := newBench(t, FileConfig{Path: path, Binary: tc.binary}, paddedEncoder{})
		b.start()
		b.hand(b.NewWriter(), 0, 0)
		b.noError(b.done())
		b.expect(1, 0, 0, 0, 0)
		if data, err := os.ReadFile(path); string(data) != tc.want {
			t.Errorf("%q became %q, want %q, %v", tc.found, data, tc.want, err)
		}
	}
}

func TestFileOpenError(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none", "out"): "no such file or directory",
		dir:                               "is a directory",
	} {
		b := newBench(t, FileConfig{Path: path}, lineEncoder{})
		if err := b.Open(); err == nil || !strings.HasPrefix(err.Error(), "open "+path) {
			t.Errorf("%s: %v", path, err)
		}
		w := b.NewWriter()
		b.hand(w, 0, 0)
		if err := b.Run(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		b.hand(w, 0, 0)
		b.expect(0, 0, 2, 0, 0)
		if b.Problem() == nil {
			t.Error("ready without being open")
		}
	}
	if _, err := NewFile(FileConfig{BufferBytes: 1}, lineEncoder{}, logrus.New(), prometheus.NewRegistry()); err == nil {
		t.Error("a buffer of one byte is taken")
	}
}

// TestFileBlock checks that nothing is dropped when workers may wait.
func TestFileBlock(t *testing.T) {
	r, w := pipe(t)
	b := newBench(t, FileConfig{Stdout: w, BufferBytes: minBuffer, Block: true}, lineEncoder{})
	b.start()
	const workers, records = 6, 2000 // more workers than chunks
	var wg sync.WaitGroup
	for range workers {
		wr := b.NewWriter()
		wg.Go(func() {
			rec := new(flow.Record)
			rec.Msg.Bytes = 100
			for range records {
				wr.HandleFlow(rec)
			}
		})
	}
	read := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(r)
		read <- data
	}()
	wg.Wait()
	b.handed = workers * records
	b.noError(b.done())
	w.Close()
	if n := len(wholeLines(t, <-read)); n != workers*records {
		t.Errorf("%d lines", n)
	}
	b.expect(workers*records, 0, 0, 0, 0)
}

// TestFileLargeRecord writes records larger than a chunk, and than the buffer.
func TestFileLargeRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	b := newBench(t, FileConfig{Path: path, BufferBytes: minBuffer, Block: true}, lineEncoder{})
	b.start()
	w := b.NewWriter()
	want := 0
	for i := range 200 {
		n := 10
		if i%20 == 0 {
			n = 300_000
		}
		b.hand(w, 1, n)
		want += n + 2
	}
	b.noError(b.done())
	b.expect(200, 0, 0, 0, 0)
	if fi, err := os.Stat(path); err != nil || fi.Size() != int64(want) {
		t.Errorf("%v, want %d bytes", fi.Size(), want)
	}
	if b.buf.allocated > minBuffer {
		t.Errorf("%d bytes are kept", b.buf.allocated)
	}
}

// TestFilePanic checks that an encoder's panic costs the record only.
func TestFilePanic(t *testing.T) {
	b := newBench(t, FileConfig{Path: os.DevNull}, panicEncoder{})
	b.start()
	w := b.NewWriter()
	b.hand(w, 1, 0)
	func() {
		defer func() { _ = recover() }()
		r := new(flow.Record)
		r.Msg.SequenceNum = 13
		w.HandleFlow(r)
	}()
	b.hand(w, 2, 0)
	b.noError(b.done())
	b.expect(2, 0, 0, 0, 0)
}

type panicEncoder struct{ lineEncoder }

func (e panicEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	if r.Msg.SequenceNum == 13 {
		panic("13")
	}
	return e.lineEncoder.AppendRecord(dst, r)
}

func TestBufferTrim(t *testing.T) {
	b := newBuffer(lineEncoder{}, 64*maxChunk, false)
	var cs []*chunk
	for c := b.get(false); c != nil; c = b.get(false) {
		cs = append(cs, c)
	}
	if len(cs) != 64 {
		t.Errorf("%d chunks in a buffer of 64", len(cs))
	}
	for _, c := range cs {
		b.release(c)
	}
	for range 100 {
		b.trim()
	}
	if b.numFree != keepFree || b.allocated != keepFree*maxChunk {
		t.Errorf("%d chunks of %d bytes are kept", b.numFree, b.allocated)
	}
}

// roomyEncoder asks for more room than a record takes, as that of OTLP does.
type roomyEncoder struct{ lineEncoder }

func (e roomyEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	return e.lineEncoder.AppendRecord(slices.Grow(dst, 2*chunkSlack), r)
}

// TestBufferGrown has chunks that have grown: when they are free, no room is taken.
func TestBufferGrown(t *testing.T) {
	b := newBuffer(roomyEncoder{}, 64*maxChunk, false)
	w := b.newWriter()
	r := new(flow.Record)
	r.Msg.Bytes = 100
	for range 3000 {
		w.HandleFlow(r)
	}
	b.sweep(true)
	if taken := b.fill(); taken < 4./64 || taken > 10./64 {
		t.Errorf("%v of the room are taken by 300 kB", taken)
	}
	var cs []*chunk
	grown := false
	for c := b.next(0); c != nil; c = b.next(0) {
		grown = grown || cap(c.buf) > maxChunk
		cs = append(cs, c)
	}
	for _, c := range cs {
		b.release(c)
	}
	if taken := b.fill(); taken != 0 || !grown || !b.park() {
		t.Errorf("%v of the room are taken by nothing, grown: %t", taken, grown)
	}
}

// TestMetricsShared checks that another package may report records_held with
// other labels, and another transport its own numbers, on the same registry.
func TestMetricsShared(t *testing.T) {
	b := newBench(t, FileConfig{}, lineEncoder{})
	b.reg.MustRegister(prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kube_enricher_records_held",
		Help: "Records received and not yet written or dropped, by what they wait for.",
	}, []string{"why"}))
	held := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kube_enricher_records_held",
		Help: "Records received and not yet written or dropped, by what they wait for.",
	}, []string{"why"})
	held.WithLabelValues("pod").Set(3)
	if err := b.reg.Register(held); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Errorf("registering twice: %v", err)
	}
	b.expect(0, 0, 0, 0, 0)
	if _, err := registerOutput(b.reg, "kafka", false, newBuffer(lineEncoder{}, 0, false)); err != nil {
		t.Error(err)
	}
	if _, err := registerOutput(b.reg, "file", false, newBuffer(lineEncoder{}, 0, false)); err == nil {
		t.Error("one transport can be registered twice")
	}
}

func TestFileAllocs(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	b := newBench(t, FileConfig{Path: os.DevNull, BufferBytes: maxChunk * keepFree, Block: true}, newJSON(t))
	b.start()
	w := b.NewWriter()
	r := flowtest.Reference()
	run := func() {
		for range 500 {
			w.HandleFlow(r)
		}
		w.Idle()
		b.handed += 500
	}
	for range 100 { // until there are as many chunks as are ever in use
		run()
	}
	if n := testing.AllocsPerRun(100, run); n > 0.5 {
		t.Errorf("%v allocations in 500 records", n)
	}
	b.noError(b.done())
	b.scrape()
}

func BenchmarkFile(b *testing.B) {
	log, _ := logtest.NewNullLogger()
	e := newJSON(b)
	f, err := NewFile(FileConfig{Path: os.DevNull, Block: true}, e, log, prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- f.Run(context.Background()) }()
	w := f.NewWriter()
	r := flowtest.Reference()
	b.ReportAllocs()
	for b.Loop() {
		w.HandleFlow(r)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	f.Finish()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// TestFileSkip checks that a record that is not wanted is counted, and written
// nowhere.
func TestFileSkip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	b := newBench(t, FileConfig{Path: path}, lineEncoder{})
	b.start()
	w := b.NewWriter()
	for i := range 5 {
		b.hand(w, i, 0)
		w.Skip()
		b.handed++
	}
	b.noError(b.stop())
	b.expect(5, 0, 0, 0, 0)
	if n := b.scrape()["records_dropped_total filter file"]; n != 5 {
		t.Errorf("%v counted as filtered, want 5", n)
	}
}

// gather returns all metrics by name and label values.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]float64)
	for _, f := range families {
		for _, s := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "kube_enricher_")
			for _, l := range s.GetLabel() {
				name += " " + l.GetValue()
			}
			switch {
			case s.Counter != nil:
				m[name] = s.Counter.GetValue()
			case s.Gauge != nil:
				m[name] = s.Gauge.GetValue()
			case s.Histogram != nil:
				m[name] = float64(s.Histogram.GetSampleCount())
			}
		}
	}
	return m
}

// longEncoder writes lines of which a pipe does not hold a whole number.
type longEncoder struct{}

func (longEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	return fmt.Appendf(dst, "%0997d\n", r.Msg.SequenceNum)
}

// TestFileDirect writes without the goroutine of Run: as long as nothing is in
// the way, workers write by themselves.
func TestFileDirect(t *testing.T) {
	for _, kind := range []string{"file", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out")
			var reader *os.File
			if kind == "pipe" {
				if err := unix.Mkfifo(path, 0o600); err != nil {
					t.Skip("needs a named pipe: ", err)
				}
				var err error
				if reader, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
					t.Fatal(err)
				}
				defer reader.Close()
			}
			f, err := NewFile(FileConfig{Path: path, BufferBytes: 4 << 20}, longEncoder{}, logrus.New(), prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Open(); err != nil {
				t.Fatal(err)
			}
			w := f.NewWriter()
			sequence := uint32(0)
			put := func(n int) {
				for range n {
					r := new(flow.Record)
					r.Msg.SequenceNum = sequence
					sequence++
					w.HandleFlow(r)
				}
				w.Idle()
			}
			put(3)
			l := f.buf.ledger()
			if d := f.dst.Load(); d.nowait == nil {
				t.Skip("needs a file system that can be written to without waiting")
			}
			if l.written != 3 || l.held != 0 {
				t.Fatalf("%d written, %d held", l.written, l.held)
			}
			if kind == "file" {
				if fi, err := os.Stat(path); err != nil || fi.Size() == 0 {
					t.Fatal("nothing is in the file")
				}
				return
			}
			// The pipe fills up, in the middle of a record; the rest follows when Run
			// finds a reader, in order.
			const more = 200
			for range more {
				put(10)
			}
			if l = f.buf.ledger(); l.held == 0 || l.written+l.held+l.dropped[dropOutputFull] != 3+10*more {
				t.Fatalf("%d written, %d held, %d dropped", l.written, l.held, l.dropped[dropOutputFull])
			}
			f.Finish()
			done := make(chan error, 1)
			go func() { done <- f.Run(t.Context()) }()
			all := make(chan []byte, 1)
			go func() {
				_ = reader.SetReadDeadline(time.Time{})
				b, _ := io.ReadAll(reader) // until the output closes it
				all <- b
			}()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			l = f.buf.ledger()
			b := <-all
			var want []byte
			for i := range uint32(l.written) {
				r := new(flow.Record)
				r.Msg.SequenceNum = i
				want = longEncoder{}.AppendRecord(want, r)
			}
			if !bytes.Equal(b, want) || l.written != 3+10*more {
				t.Errorf("%d bytes for %d records, want %d; %d held", len(b), l.written, len(want), l.held)
			}
		})
	}
}

// TestFileParks lets an output rest: the first record behind that is out as soon
// as ever, also if its worker never pauses.
func TestFileParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(syncBuffer)
		f, err := NewFile(FileConfig{Stdout: out}, lineEncoder{}, logrus.New(), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		w := f.NewWriter()
		for range 3 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			f.buf.mu.Lock()
			parked := f.buf.parked
			f.buf.mu.Unlock()
			if !parked {
				t.Fatal("awake, with nothing to do")
			}
			before := out.Len()
			w.HandleFlow(new(flow.Record))
			time.Sleep(2 * flushEvery)
			synctest.Wait()
			if out.Len() == before {
				t.Fatal("a record is not out after two ticks")
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// syncBuffer is a buffer that may be looked at while it is written to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Len()
}
