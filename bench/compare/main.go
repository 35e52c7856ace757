//go:build linux

// Command compare measures what a record costs kube-enricher, and what it costs
// programs that do less. It starts them in turn on loopback, sends each the same
// datagrams at the same pace, takes the CPU time of the whole process from the
// operating system, and prints a table. Nothing is said of a run in which one of
// them lost a record.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// bench is what a run of the benchmarks needs.
type bench struct {
	root    string // of the repository
	bin     string // where the programs are
	dir     string // for files
	repeat  int
	seconds float64
	pods    int
	log     io.Writer // progress

	snapshots map[int]string // files, by number of pods
	look      func(*process) // called at the end of each measured run
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	b := &bench{log: progress, snapshots: make(map[int]string)}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&b.root, "root", "..", "the repository")
	flags.StringVar(&b.bin, "bin", "../bin", "directory with kube-enricher, gen, readloop and goflow2/goflow2")
	flags.IntVar(&b.repeat, "repeat", 5, "how often each program is run")
	flags.Float64Var(&b.seconds, "seconds", 5, "how long each run is measured")
	flags.IntVar(&b.pods, "pods", 50_000, "pods known")
	only := flags.String("only", "", "regular expression: the cases to run; empty is those of the table")
	list := flags.Bool("list", false, "list the cases")
	profiles := flags.String("profile", "", "write profiles of kube-enricher under load to this directory, and compare nothing")
	pgo := flags.String("pgo", "", "with -profile: write the CPU profile to this file, too")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	cases, extra := tableCases(), growthCases()
	if *list {
		for _, c := range append(cases, extra...) {
			fmt.Fprintf(out, "%-22s %s\n", c.name, c.title)
		}
		return nil
	}
	if *only != "" {
		re, err := regexp.Compile(*only)
		if err != nil {
			return err
		}
		var some []benchCase
		for _, c := range append(cases, extra...) {
			if re.MatchString(c.name) {
				some = append(some, c)
			}
		}
		cases = some
	}
	var err error
	for _, p := range []*string{&b.root, &b.bin} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)

	if *profiles != "" {
		return b.profile(ctx, *profiles, *pgo)
	}
	fmt.Fprintf(out, "%s\n\n", machine())
	fmt.Fprintln(out, "| case | bar | measured | met | runs |")
	fmt.Fprintln(out, "|---|---|---|---|---|")
	begin := time.Now()
	for _, c := range cases {
		fmt.Fprintf(progress, "%4.0f s  %s: %s\n", time.Since(begin).Seconds(), c.name, c.title)
		r, err := c.run(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r = result{measured: "no result: " + err.Error(), met: "no"}
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", c.title, c.bar, r.measured, r.met, r.runs)
	}
	return nil
}

// benchCase is one row of the table.
type benchCase struct {
	name, title, bar string
	run              func(context.Context, *bench) (result, error)
}

// result is what a row says.
type result struct {
	measured string
	met      string // yes or no, empty without a bar
	runs     string // what the medians are of
}

// met returns yes if a bar is reached, else no.
func met(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}

// machine says what the numbers were measured on.
func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel := "?"
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, %s", model, runtime.NumCPU(), kernel, runtime.Version(), time.Now().UTC().Format("2006-01-02"))
}
