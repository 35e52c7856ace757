//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running program that receives.
type process struct {
	cmd    *exec.Cmd
	out    bytes.Buffer // what it says
	udp    string       // address it receives on
	http   string       // address of its metrics, empty if it has none
	exited chan error
}

// program is how one of the compared programs is started.
type program struct {
	name string
	// args makes its arguments from the addresses; records go to output.
	file string
	args func(b *bench, udp, http, output string) ([]string, error)
	// environment is what is added to that of this program.
	environment []string
	// written reads how many records it has written so far.
	written func(p *process) (uint64, error)
	// ready reports whether it receives.
	ready func(p *process) bool
	// started, if it is set, is called when it is ready.
	started func(p *process) error
	// settled, if it is set, waits until nothing is written any more.
	settled func(context.Context) error
}

func freePort(network string) (string, error) {
	if network == "udp" {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.LocalAddr().String(), nil
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start runs a program until it is ready. Its records go to output.
func (b *bench) start(ctx context.Context, p *program, output string) (*process, error) {
	udp, err := freePort("udp")
	if err != nil {
		return nil, err
	}
	http, err := freePort("tcp")
	if err != nil {
		return nil, err
	}
	args, err := p.args(b, udp, http, output)
	if err != nil {
		return nil, err
	}
	run := &process{cmd: exec.CommandContext(ctx, filepath.Join(b.bin, p.file), args...), udp: udp, http: http, exited: make(chan error, 1)}
	run.cmd.Env = append(os.Environ(), p.environment...)
	run.cmd.Stdout, run.cmd.Stderr = &run.out, &run.out
	if err := run.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { run.exited <- run.cmd.Wait() }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-run.exited:
			run.exited <- err
			return nil, fmt.Errorf("%s ended: %w: %s", p.name, err, run.out.Bytes())
		default:
		}
		if bound(udp) > 0 && (p.ready == nil || p.ready(run)) {
			if p.started != nil {
				err = p.started(run)
			}
			if err != nil {
				run.stop()
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			return run, nil
		}
		if time.Now().After(deadline) {
			run.stop()
			return nil, fmt.Errorf("%s is not ready after a minute", p.name)
		}
	}
}

// stop ends the program and returns what it has written to its outputs.
func (p *process) stop() string {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.exited:
		p.exited <- err
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		err := <-p.exited
		p.exited <- err
	}
	return p.out.String()
}

// cpu returns the CPU time that the process has taken, of all its threads, in
// user mode and in the kernel. It is the process's CPU clock, which counts
// nanoseconds; /proc/PID/stat has the same in steps of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	// clock_getcpuclockid(3)
	clock := int32(^p.cmd.Process.Pid)<<3 | 2
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(t.Nano()), nil
}

// socketLines returns the fields of /proc/net/udp of the sockets that are bound
// to an address.
func socketLines(udp string) [][]string {
	_, port, _ := net.SplitHostPort(udp)
	n, _ := strconv.Atoi(port)
	var lines [][]string
	for _, file := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) >= 13 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", n)) {
				lines = append(lines, f)
			}
		}
	}
	return lines
}

// bound tells how many sockets are bound to an address.
func bound(udp string) int { return len(socketLines(udp)) }

// waiting returns the bytes in the sockets' buffers.
func waiting(udp string) (n uint64) {
	for _, f := range socketLines(udp) {
		_, rx, _ := strings.Cut(f[4], ":")
		v, _ := strconv.ParseUint(rx, 16, 64)
		n += v
	}
	return n
}

// kernelDrops returns how many datagrams the kernel dropped because a buffer
// was full.
func kernelDrops(udp string) (n uint64) {
	for _, f := range socketLines(udp) {
		v, _ := strconv.ParseUint(f[12], 10, 64)
		n += v
	}
	return n
}

// metrics reads metrics, by name with labels.
func (p *process) metrics() (map[string]float64, error) {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get("http://" + p.http + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	defer c.CloseIdleConnections()
	all := make(map[string]float64)
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		name, value, ok := cutLast(sc.Text())
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			all[name] = v
		}
	}
	return all, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// metricSum adds up a metric over its labels, of which one must have a value.
func metricSum(all map[string]float64, name, label string) (sum float64) {
	for k, v := range all {
		if base, labels, _ := strings.Cut(k, "{"); base == name && strings.Contains(labels, label) {
			sum += v
		}
	}
	return sum
}

// sent is what the generator says.
type sent struct {
	Datagrams uint64  `json:"datagrams"`
	Records   uint64  `json:"records"`
	Seconds   float64 `json:"seconds"`
	Active    float64 `json:"active"` // seconds without the pauses
}

// load is what the generator sends.
type load struct {
	protocol     string
	records      int // a datagram
	rate         float64
	sources      int
	burst, pause time.Duration
	seconds      float64
	pods         int
	outside      int // addresses beyond the cluster that flows go to, instead of pods
	outsideEvery int // one flow in so many goes there; 0 is all
}

// generate sends a load and waits until it is sent.
func (b *bench) generate(ctx context.Context, to string, l load) (sent, error) {
	count := max(int(l.rate*l.seconds), l.records)
	args := []string{
		"-to", to, "-protocol", l.protocol, "-records", strconv.Itoa(l.records), "-rate", fmt.Sprint(l.rate),
		"-count", strconv.Itoa(count), "-pods", strconv.Itoa(l.pods), "-sources", strconv.Itoa(max(l.sources, 1)),
	}
	if l.outside > 0 {
		args = append(args, "-outside", strconv.Itoa(l.outside), "-outside-every", strconv.Itoa(max(l.outsideEvery, 1)))
	}
	if l.burst > 0 {
		args = append(args, "-burst", l.burst.String(), "-pause", l.pause.String())
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "gen"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sent{}, fmt.Errorf("generator: %w", err)
	}
	var s sent
	if err := json.Unmarshal(out, &s); err != nil {
		return sent{}, fmt.Errorf("generator: %w", err)
	}
	return s, nil
}

// settle waits until the program has taken all that came, and has written it.
func (p *process) settle(ctx context.Context, of *program) error {
	for deadline := time.Now().Add(30 * time.Second); waiting(p.udp) > 0; {
		if time.Now().After(deadline) {
			return errors.New("datagrams are still waiting after 30 s")
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if of.settled != nil {
		return of.settled(ctx)
	}
	return sleep(ctx, 200*time.Millisecond) // more than any buffer's flush
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// drainPipe counts what comes through a pipe by count, until it is closed.
func drainPipe(r io.Reader, count func(*bufio.Reader) error) (n uint64, err error) {
	br := bufio.NewReaderSize(r, 1<<20)
	for {
		switch err := count(br); {
		case err == nil:
			n++
		case errors.Is(err, io.EOF):
			return n, nil
		default:
			return n, err
		}
	}
}
