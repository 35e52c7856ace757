package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// TestFirstRecord sees that a record comes out while goflow2 idles, and that it
// is flushed.
func TestFirstRecord(t *testing.T) {
	for name, in := range map[string]string{
		"json": "{}\n", "json with newline later": "{\"a\":1}\n{", "protobuf": string(messageOf(tenBytes(1))), "protobuf and newline": string(messageOf(tenBytes(1))) + "\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			c := &collect{}
			r, _ := newReader(t, Config{}, pr, c)
			ran := make(chan error)
			go func() { ran <- r.Run(t.Context()) }()
			start := time.Now()
			if _, err := io.WriteString(pw, in); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if len(c.records) != 1 || c.idle.Load() != 1 || time.Since(start) != 0 {
				t.Errorf("%s: %d records, flushed %d times after %v", name, len(c.records), c.idle.Load(), time.Since(start))
			}
			pw.Close()
			if err := <-ran; err != nil && name != "json with newline later" {
				t.Error(name, err)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		c := &collect{}
		r, _ := newReader(t, Config{}, pr, c)
		ran := make(chan error)
		go func() { ran <- r.Run(t.Context()) }()
		write := func() {
			t.Helper()
			if _, err := io.WriteString(pw, "{}\n"); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		expect := func(want int64) {
			t.Helper()
			synctest.Wait()
			if got := c.idle.Load(); got != want {
				t.Errorf("Idle was called %d times, want %d", got, want)
			}
		}
		expect(0) // nothing was handed on
		write()
		expect(1)
		write() // soon after another: together with what may follow
		expect(1)
		time.Sleep(flushEvery - time.Microsecond)
		write()
		expect(1)
		time.Sleep(time.Microsecond)
		expect(2)
		time.Sleep(time.Hour)
		expect(2) // and not again

		c.pending.Store(3) // Idle is to be called again
		write()
		expect(3)
		time.Sleep(pendingEvery)
		expect(4)
		time.Sleep(pendingEvery - time.Microsecond)
		expect(4)
		write() // flushed with its own pace
		expect(5)
		time.Sleep(pendingEvery)
		expect(6)
		time.Sleep(time.Hour)
		expect(6)

		// Under load, Idle keeps its pace.
		for range 1000 {
			write()
			time.Sleep(100 * time.Microsecond)
		}
		if n := c.idle.Load() - 6; n < 15 || n > 25 {
			t.Errorf("Idle was called %d times in 100 ms", n)
		}
		pw.Close()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	for in, records := range map[string]int{"{}\n{}\n": 2, "{}\n{}": 2, "{}\n{\"a": 1, "": 0} {
		got := runReader(t, Config{}, io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)))
		if !errors.Is(got.err, broken) || got.err.Error() != fmt.Sprintf("read input: at offset %d: broken", len(in)) {
			t.Error(got.err)
		}
		if len(got.records) != records || got.idle.Load() == 0 {
			t.Errorf("%q: %d records, flushed %d times", in, len(got.records), got.idle.Load())
		}
	}
	got := runReader(t, Config{}, iotest.ErrReader(nil)) // 0, nil for ever
	if !errors.Is(got.err, io.ErrNoProgress) {
		t.Error(got.err)
	}
}

// TestCancel ends reading while a Read is under way.
func TestCancel(t *testing.T) {
	for _, c := range []struct {
		in           string
		records, cut int
	}{
		{"", 0, 0},
		{"{}\n{}\n", 2, 0},
		{"{}\n{\"a\":1}", 2, 0}, // the newline was still to come
		{"{}\n{\"a\":", 1, 1},
		{string(messageOf(tenBytes(1))) + "\n", 1, 0},
		{string(messageOf(tenBytes(1))) + "\x0b\x08", 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			defer pw.Close() // lets the goroutine in Read go, which Run leaves behind
			r, done := newReader(t, Config{}, pr, &collect{})
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error)
			go func() { ran <- r.Run(ctx) }()
			if _, err := io.WriteString(pw, c.in); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			cancel()
			got := done(<-ran)
			if got.err != nil || len(got.records) != c.records || got.cut != c.cut || got.idle.Load() == 0 {
				t.Errorf("%q: %v, %d records, %d cut", c.in, got.err, len(got.records), got.cut)
			}
			if _, err := io.WriteString(pw, "{}\n"); err != nil {
				t.Error(err) // the goroutine takes it, and nobody else
			}
			synctest.Wait()
			if len(got.records) != c.records {
				t.Errorf("%q: a record was handed on after Run had returned", c.in)
			}
		})
	}
	// In the middle of a buffer, all of which has been read.
	ctx, cancel := context.WithCancel(t.Context())
	c := &collect{after: func(n int) {
		if n == 2 {
			cancel()
		}
	}}
	r, done := newReader(t, Config{}, io.MultiReader(strings.NewReader("{}\n{}\n{}\n{}\n"), iotest.ErrReader(errors.New("read on"))), c)
	if got := done(r.Run(ctx)); got.err != nil || len(got.records) != 4 {
		t.Errorf("%v, %d records", got.err, len(got.records))
	}
}

// TestCancelPipe has a pipe of the operating system, whose Read can be
// interrupted: no goroutine stays behind.
func TestCancelPipe(t *testing.T) {
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	defer pw.Close()
	if pr.SetReadDeadline(time.Time{}) != nil {
		t.Skip("needs pipes with deadlines")
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, done := newReader(t, Config{}, pr, &collect{after: func(int) { cancel() }})
	if _, err := pw.WriteString("{}\n"); err != nil {
		t.Fatal(err)
	}
	if got := done(r.Run(ctx)); got.err != nil || len(got.records) != 1 {
		t.Errorf("%v, %d records", got.err, len(got.records))
	}
	// What is written now is not stolen by a Read that was left behind.
	if _, err := pw.WriteString("mine"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := pr.Read(b); err != nil || string(b[:n]) != "mine" {
		t.Errorf("%q, %v", b[:n], err)
	}
}
