// Command gotest runs go test and reports the tests that were skipped.
//
//	gotest go test [flags] [packages]
//
// It prints what go test prints, then how many tests were skipped and why. Two
// variables of the environment are for CI:
//
//   - TEST_NEEDS lists programs that are installed, separated by blanks. A test
//     that skips because one of them is not installed fails the run.
//   - TEST_SKIPS names a file, to which the reasons are appended, one a line.
//
// A package that the race detector's own assertion ended, and nothing else, is tested again
// (golang/go#78156, see broken.go).
//
// The exit code is that of go test, or 1 if go test succeeded and a test must not
// have been skipped.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = 2
	}
	os.Exit(code)
}

// run runs the command and returns its exit code.
func run(args []string, stdout, stderr io.Writer) (int, error) {
	i := slices.Index(args, "test")
	if i < 1 {
		return 2, errors.New("usage: gotest go test [flags] [packages]")
	}
	signal.Ignore(os.Interrupt) // go test has it, too, and ends
	r := newReport(stdout, slices.Contains(args, "-v"))
	code, err := r.run(slices.Insert(slices.Clone(args), i+1, "-json"), stderr)
	for try := 1; err == nil && code == 1 && try < maxTries; try++ {
		broken := r.takeBroken()
		if len(broken) == 0 {
			break
		}
		fmt.Fprintf(stdout, "again, since the race detector broke by itself (golang/go#78156): %s\n", strings.Join(broken, " "))
		code, err = r.run(withPackages(slices.Insert(slices.Clone(args), i+1, "-json", "-count=1"), broken), stderr)
	}
	if err != nil {
		return 2, err
	}
	if wrong := r.summary(strings.Fields(os.Getenv("TEST_NEEDS"))); wrong && code == 0 {
		code = 1
	}
	if code != 0 {
		fmt.Fprintln(stdout, "FAIL") // as go test ends without -json
	}
	return code, r.save(os.Getenv("TEST_SKIPS"))
}

// run runs the command once and returns its exit code.
func (r *report) run(args []string, stderr io.Writer) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 2, err
	}
	if err := cmd.Start(); err != nil {
		return 2, err
	}
	if err := r.read(out); err != nil {
		return 2, err
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return 2, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// event is a line of go test -json; see "go doc test2json".
type event struct {
	Action, Package, Test, Output string
}

// test names a test of a package.
type test struct{ pkg, name string }

// skip is a test that was skipped.
type skip struct {
	test
	reason string
}

// report gathers the results of a run.
type report struct {
	out     io.Writer
	verbose bool              // all output is printed at once
	tests   map[test][]string // the output of each test that has not ended, by line
	skips   []skip
	states  map[string]*packageState // of packages with something to tell
}

func newReport(out io.Writer, verbose bool) *report {
	return &report{out: out, verbose: verbose, tests: make(map[test][]string), states: make(map[string]*packageState)}
}

// read takes the events of a run, and prints what go test without -json would.
func (r *report) read(in io.Reader) error {
	for b := bufio.NewReader(in); ; {
		line, err := b.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) != nil:
			fmt.Fprintf(r.out, "%s", line) // go itself has something to say
		default:
			r.event(e)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

// event takes one event.
func (r *report) event(e event) {
	t := test{e.Package, e.Test}
	r.note(e)
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		switch {
		case r.verbose, e.Test == "" && e.Output != "PASS\n":
			fmt.Fprint(r.out, e.Output)
		}
		if e.Test != "" {
			r.tests[t] = append(r.tests[t], e.Output)
		}
	case "skip":
		if e.Test != "" {
			r.skips = append(r.skips, skip{t, reason(r.tests[t])})
		}
		delete(r.tests, t)
	case "pass":
		delete(r.tests, t)
	case "fail":
		if e.Test != "" {
			r.flush(t)
			return
		}
		// Tests that had not ended when the package did: a panic or a timeout.
		for other := range r.tests {
			if other.pkg == e.Package {
				r.flush(other)
			}
		}
	}
}

// progress matches lines of output that only tell which test runs.
var progress = regexp.MustCompile(`^=== (RUN|PAUSE|CONT|NAME)\b`)

// flush prints the output of a test that failed.
func (r *report) flush(t test) {
	for _, line := range r.tests[t] {
		if !r.verbose && !progress.MatchString(line) {
			fmt.Fprint(r.out, line)
		}
	}
	delete(r.tests, t)
}

// logLine matches the first line of a message that a test logs.
var logLine = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

// reason returns the reason for which a test was skipped: the last message among
// its output, on one line.
func reason(output []string) string {
	var words []string
	for _, line := range output {
		switch {
		case progress.MatchString(line) || strings.HasPrefix(strings.TrimSpace(line), "--- SKIP"):
		case logLine.MatchString(line):
			words = strings.Fields(line[len(logLine.FindString(line)):])
		default:
			words = append(words, strings.Fields(line)...)
		}
	}
	return cmp.Or(strings.Join(words, " "), "no reason given")
}

// missing matches the reason of a test that needs a program. internal/needs and
// test/e2e/lab have such.
var missing = regexp.MustCompile(`^needs (\S+), which is not installed$`)

// summary prints the skipped tests by reason, and reports whether one was skipped
// although the program that it needs is among those installed.
func (r *report) summary(installed []string) (wrong bool) {
	if len(r.skips) == 0 {
		fmt.Fprintln(r.out, "skips: 0")
		return false
	}
	byReason := make(map[string][]string)
	for _, s := range r.skips {
		byReason[s.reason] = append(byReason[s.reason], s.name)
	}
	fmt.Fprintf(r.out, "skips: %d\n", len(r.skips))
	reasons := slices.SortedFunc(maps.Keys(byReason), func(a, b string) int {
		return cmp.Or(len(byReason[b])-len(byReason[a]), cmp.Compare(a, b))
	})
	for _, reason := range reasons {
		names := byReason[reason]
		const most = 3
		more := ""
		if len(names) > most {
			more = fmt.Sprintf(" and %d more", len(names)-most)
		}
		fmt.Fprintf(r.out, "%5d × %s: %s%s\n", len(names), reason, strings.Join(names[:min(len(names), most)], ", "), more)
	}
	for _, s := range r.skips {
		if m := missing.FindStringSubmatch(s.reason); len(m) == 2 && slices.Contains(installed, m[1]) {
			fmt.Fprintf(r.out, "FAIL\t%s: %s was skipped: it %s, although CI installs it\n", s.pkg, s.name, s.reason)
			wrong = true
		}
	}
	return wrong
}

// save appends the reasons to a file, if one is named.
func (r *report) save(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	for _, s := range r.skips {
		if _, err = fmt.Fprintln(f, s.reason); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}
