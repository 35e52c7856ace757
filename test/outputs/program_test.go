//go:build outputs

// Package outputs sends records to real receivers. "make e2e-outputs" builds them and
// runs it.
package outputs

import (
	"bytes"
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
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	root    = "../.."
	capture = root + "/testdata/captures/softflowd-v9.pcap"
)

var built struct {
	once sync.Once
	path string
	err  error
}

// TestMain removes what the tests have built.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.path != "" {
		_ = os.RemoveAll(filepath.Dir(built.path))
	}
	os.Exit(code)
}

// program builds the program and returns its path.
func program(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		var dir string
		if dir, built.err = os.MkdirTemp("", "outputs"); built.err != nil {
			return
		}
		built.path = filepath.Join(dir, "kube-enricher")
		out, err := exec.Command("go", "build", "-o", built.path, root+"/cmd/kube-enricher").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// receiver returns a program that "make e2e-outputs" has built.
func receiver(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs %s, which make e2e-outputs builds", path)
	}
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// server is a receiver, which can be started again after it was stopped.
type server struct {
	command func() *exec.Cmd
	ready   func() bool
	log     bytes.Buffer
	cmd     *exec.Cmd
}

// start starts the server and waits until it answers.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = s.command()
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(100 * time.Millisecond) {
		if s.ready() {
			return
		}
	}
	path := s.cmd.Path
	s.stop(os.Kill)
	t.Fatalf("%s does not start: %s", path, &s.log)
}

// stop ends the server, by a signal.
func (s *server) stop(sig os.Signal) {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// answers returns a function that reports whether something answers with 2xx at a URL.
func answers(url string) func() bool {
	return func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode/100 == 2
	}
}

// accepts returns a function that reports whether somebody accepts connections.
func accepts(addr string) func() bool {
	return func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	}
}

// run runs the program to its end, which must be a good one, and returns its log.
func run(t *testing.T, args ...string) string {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program(t), append([]string{"-loglevel", "warning"}, args...)...)
	cmd.Stderr = &log
	cmd.Env = append(os.Environ(), "KEY=hunter2")
	if err := cmd.Run(); err != nil || strings.Contains(log.String(), "hunter2") {
		t.Fatalf("%v: %s", err, &log)
	}
	return log.String()
}

// collecting is the program while it takes flows from the network.
type collecting struct {
	cmd         *exec.Cmd
	log         bytes.Buffer
	flows, http string
}

// collect starts the program and waits until it is ready.
func collect(t *testing.T, args ...string) *collecting {
	t.Helper()
	c := &collecting{flows: fmt.Sprintf("127.0.0.1:%d", freePort(t)), http: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	c.cmd = exec.Command(program(t), append([]string{"-kube.off", "-listen", "flow://" + c.flows, "-addr", c.http, "-loglevel", "warning"}, args...)...)
	c.cmd.Stderr = &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	for began := time.Now(); !answers("http://" + c.http + "/readyz")(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("the program is not ready: %s", &c.log)
		}
	}
	return c
}

// metric returns the sum of a metric's values whose labels have the given text.
func (c *collecting) metric(t *testing.T, name, labels string) int {
	t.Helper()
	resp, err := http.Get("http://" + c.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if metric, rest, _ := strings.Cut(series, "{"); metric != "kube_enricher_"+name || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return int(sum)
}

// stop asks the program to stop, which must end well.
func (c *collecting) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(c.cmd.Process.Signal(syscall.SIGTERM), c.cmd.Wait()); err != nil {
		t.Errorf("%v: %s", err, &c.log)
	}
}
