package main

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// terminal opens a pseudo-terminal: what is written to the second is read from
// the first.
func terminal(t *testing.T) (outside, inside *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	needs.OK(t, "a pseudo-terminal", err)
	t.Cleanup(func() { outside.Close() })
	fd := int(outside.Fd())
	needs.OK(t, "a pseudo-terminal", unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	needs.OK(t, "a pseudo-terminal", err)
	inside, err = os.OpenFile("/dev/pts/"+strconv.FormatUint(uint64(n), 10), os.O_RDWR|unix.O_NOCTTY, 0)
	needs.OK(t, "a pseudo-terminal", err)
	return outside, inside
}

// TestTextTerminal wants colours on a terminal, unless NO_COLOR is set.
func TestTextTerminal(t *testing.T) {
	for _, tc := range []struct {
		env    []string
		colors bool
	}{
		{[]string{"TERM=xterm", "NO_COLOR="}, true},
		{[]string{"TERM=xterm", "NO_COLOR=1"}, false},
		{[]string{"TERM=dumb", "NO_COLOR="}, false},
	} {
		outside, inside := terminal(t)
		cmd := command(t, "-format", "text", "-kube.snapshot", demoSnapshot, namedCapture)
		cmd.Env = append(cmd.Env, tc.env...)
		cmd.Stdout = inside
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		inside.Close()
		out, _ := io.ReadAll(outside) // ends with an error when nobody has it open any more
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(out, []byte("\x1b[")); got != tc.colors || !bytes.Contains(out, []byte(" → ")) {
			t.Errorf("%v: colours %v in %.300q", tc.env, got, out)
		}
	}
}
