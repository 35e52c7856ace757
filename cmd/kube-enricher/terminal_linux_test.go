package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

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

// TestSummarySessions compares the summary on a terminal, after a capture and after what was
// read from it by a pipe. There is none elsewhere.
func TestSummarySessions(t *testing.T) {
	run := func(stdin string, terminalWanted bool, args ...string) (stdout, stderr string) {
		cmd := command(t, append([]string{"-loglevel", "warning"}, args...)...)
		if stdin != "" {
			cmd.Stdin = strings.NewReader(stdin)
		}
		var out, errs bytes.Buffer
		cmd.Stdout = &out
		if !terminalWanted {
			cmd.Stderr = &errs
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			return out.String(), errs.String()
		}
		outside, inside := terminal(t)
		cmd.Stderr = inside
		stderr = shown(t, cmd, outside, inside)
		return out.String(), stderr
	}
	capture := []string{"-kube.snapshot", demoSnapshot, namedCapture}
	stdout, stderr := run("", true, capture...)
	golden(t, "summary-capture.txt", []byte(stderr))
	_, stderr = run(stdout, true, "-kube.off", "-")
	golden(t, "summary-pipe.txt", []byte(stderr))
	for _, tc := range []struct {
		terminal bool
		args     []string
	}{{false, capture}, {true, append([]string{"-summary=false"}, capture...)}} {
		if got, stderr := run("", tc.terminal, tc.args...); stderr != "" || got != stdout {
			t.Errorf("%v: %s", tc, stderr)
		}
	}
}

// session runs the program with a terminal of some width for standard output, and returns
// what is on the terminal.
func session(t *testing.T, width int, env []string, args ...string) string {
	t.Helper()
	outside, inside := terminal(t)
	if err := unix.IoctlSetWinsize(int(outside.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(width)}); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout = inside
	return shown(t, cmd, outside, inside)
}

// shown runs a program that has the inside of a terminal, and returns what is on the terminal.
func shown(t *testing.T, cmd *exec.Cmd, outside, inside *os.File) string {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inside.Close()
	out, _ := io.ReadAll(outside) // ends with an error when nobody has it open any more
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

// TestTextSessions compares what is on terminals of two widths with what was looked at.
func TestTextSessions(t *testing.T) {
	for _, tc := range []struct {
		name  string
		width int
		env   []string
	}{
		{"text-80", 80, []string{"NO_COLOR=1"}},
		{"text-140", 140, []string{"NO_COLOR=1"}},
		{"text-140-color", 140, []string{"NO_COLOR="}},
	} {
		got := session(t, tc.width, append(tc.env, "TERM=xterm", "TZ=UTC"), "-format", "text", "-kube.snapshot", demoSnapshot, namedCapture)
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(line) - 1; n > tc.width && tc.env[0] == "NO_COLOR=1" {
				t.Errorf("%s: %d characters: %s", tc.name, n, line)
			}
		}
		// All lines are like the first ones.
		lines := strings.SplitAfterN(got, "\n", 31)
		golden(t, tc.name+".txt", []byte(strings.Join(lines[:30], "")))
	}
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
		out := session(t, 120, tc.env, "-format", "text", "-kube.snapshot", demoSnapshot, namedCapture)
		if got := strings.Contains(out, "\x1b["); got != tc.colors || !strings.Contains(out, " → ") {
			t.Errorf("%v: colours %v in %.300q", tc.env, got, out)
		}
	}
}
