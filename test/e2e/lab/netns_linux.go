package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// patience bounds whatever should take a moment.
const patience = 30 * time.Second

const (
	namespaceDir = "/run/netns"
	prefix       = "kube-enricher-e2e-" // and the test's process id
)

// Lab is a set of network namespaces.
type Lab struct {
	t      testing.TB
	prefix string
}

// New makes an empty lab. It skips the test where a program is missing or
// namespaces cannot be made.
func New(t testing.TB, programs ...string) *Lab {
	t.Helper()
	for _, program := range append([]string{"ip"}, programs...) {
		NeedsProgram(t, program)
	}
	l := &Lab{t: t, prefix: fmt.Sprintf("%s%d-", prefix, os.Getpid())}
	probe := l.Name("probe")
	if out, err := try("ip", "netns", "add", probe); err != nil {
		t.Skipf("needs network namespaces: %s", out)
	}
	l.remove(probe)
	l.removeStale()
	return l
}

// removeStale removes the namespaces of tests that no longer run.
func (l *Lab) removeStale() {
	names, err := filepath.Glob(filepath.Join(namespaceDir, prefix+"*"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, name := range names {
		name = filepath.Base(name)
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			l.remove(name)
		}
	}
}

func (l *Lab) remove(name string) {
	if out, err := try("ip", "netns", "del", name); err != nil {
		l.t.Errorf("namespace %s is left behind: %s", name, out)
	}
}

// try runs a command and returns what it printed.
func try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Run runs a command, which must succeed, and returns what it printed.
func (l *Lab) Run(name string, args ...string) string {
	l.t.Helper()
	out, err := try(name, args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Name is the system's name of a namespace.
func (l *Lab) Name(ns string) string { return l.prefix + ns }

// Add makes namespaces.
func (l *Lab) Add(names ...string) {
	l.t.Helper()
	for _, ns := range names {
		l.Run("ip", "netns", "add", l.Name(ns))
		l.t.Cleanup(func() {
			if _, err := os.Stat(filepath.Join(namespaceDir, l.Name(ns))); err == nil {
				l.remove(l.Name(ns))
			}
		})
		l.IP(ns, "link", "set", "lo", "up")
	}
}

// Remove removes a namespace before the test ends. An interface in it goes with
// it, and so does the other end of a pair.
func (l *Lab) Remove(ns string) {
	l.t.Helper()
	l.Run("ip", "netns", "del", l.Name(ns))
}

// IP runs the command ip for a namespace.
func (l *Lab) IP(ns string, args ...string) {
	l.t.Helper()
	l.Run("ip", append([]string{"-n", l.Name(ns)}, args...)...)
}

// Exec runs a command in a namespace and returns what it printed.
func (l *Lab) Exec(ns string, args ...string) string {
	l.t.Helper()
	return l.Run("ip", append([]string{"netns", "exec", l.Name(ns)}, args...)...)
}

// Try runs a command in a namespace that may fail.
func (l *Lab) Try(ns string, args ...string) error {
	if out, err := try("ip", append([]string{"netns", "exec", l.Name(ns)}, args...)...); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// Command is a command in a namespace, not started yet. The process id is that
// of the command: ip replaces itself by it.
func (l *Lab) Command(ns string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.Name(ns)}, args...)...)
}

// Start starts a command in a namespace, until the test ends.
func (l *Lab) Start(ns string, args ...string) *proc.Process {
	l.t.Helper()
	return start(l.t, l.Command(ns, args...))
}

// start starts a command and stops it by its process id when the test ends.
func start(t testing.TB, cmd *exec.Cmd) *proc.Process {
	t.Helper()
	p, err := proc.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(unix.SIGTERM, patience); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Pair joins two namespaces by a pair of Ethernet interfaces, which are down.
// The kernel does no work on them that it would leave to a network card: what
// crosses them are the packets that a wire would carry.
func (l *Lab) Pair(nsA, devA, nsB, devB string, mtu int) {
	l.t.Helper()
	l.Run("ip", "link", "add", devA, "mtu", strconv.Itoa(mtu), "netns", l.Name(nsA), "type", "veth",
		"peer", "name", devB, "mtu", strconv.Itoa(mtu), "netns", l.Name(nsB))
	for _, end := range [][2]string{{nsA, devA}, {nsB, devB}} {
		l.Exec(end[0], "ethtool", "-K", end[1], "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off")
	}
}

// In calls f on a thread that is in a namespace. Sockets that f opens stay there.
func (l *Lab) In(ns string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open(filepath.Join(namespaceDir, l.Name(ns)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// Ifindex is the number of an interface.
func (l *Lab) Ifindex(ns, dev string) int {
	l.t.Helper()
	return l.number(ns, "/sys/class/net/"+dev+"/ifindex")
}

// number reads a file that holds a number.
func (l *Lab) number(ns, file string) int {
	l.t.Helper()
	n, err := strconv.Atoi(l.Exec(ns, "cat", file))
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// Write writes a number or the like to a file of /proc/sys/net, which each
// namespace has its own of.
func (l *Lab) Write(ns, file, value string) error {
	return l.In(ns, func() error { return os.WriteFile("/proc/sys/net/"+file, []byte(value), 0) })
}

// Send sends n UDP datagrams, one in a millisecond.
func (l *Lab) Send(ns string, from, to netip.AddrPort, n, size int) {
	l.t.Helper()
	err := l.In(ns, func() error {
		// Not connected: nobody needs to listen.
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(from))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range n {
			<-tick.C
			if _, err := c.WriteToUDPAddrPort(make([]byte, size), to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// Listening reports whether something listens on a TCP port in a namespace.
func (l *Lab) Listening(ns string, port int) bool {
	found := false
	err := l.In(ns, func() error {
		for _, file := range []string{"tcp", "tcp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				fields := strings.Fields(line) // number, local address, remote address, state
				found = found || strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == "0A"
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return found
}

// Forward has TCP connections to address in the namespace from, go to target in
// the namespace to, until the test ends. The namespace "" is the test's own.
func (l *Lab) Forward(from, address, to, target string) {
	l.t.Helper()
	var listener net.Listener
	err := l.maybeIn(from, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			a, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = a.Close() }()
				var b net.Conn
				if err := l.maybeIn(to, func() (err error) { b, err = net.Dial("tcp", target); return err }); err != nil {
					return // the client sees that it is closed
				}
				defer func() { _ = b.Close() }()
				done := make(chan struct{}, 2)
				for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
					go func() {
						_, _ = io.Copy(way[0], way[1])
						done <- struct{}{}
					}()
				}
				<-done
			}()
		}
	}()
}

func (l *Lab) maybeIn(ns string, f func() error) error {
	if ns == "" {
		return f()
	}
	return l.In(ns, f)
}
