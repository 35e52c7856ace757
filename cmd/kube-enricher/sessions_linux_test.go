package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// sessions are what a user types and sees on a terminal of some width.
type sessions struct {
	t     *testing.T
	width int
	dir   string // of the sessions' files
	out   strings.Builder
}

// onTerminal is a program whose standard output and standard error are a terminal.
type onTerminal struct {
	t       *testing.T
	cmd     *exec.Cmd
	outside *os.File
	mu      sync.Mutex
	text    bytes.Buffer
	read    chan struct{} // closed when nobody has the terminal open any more
}

// start starts a program on a terminal.
func (s *sessions) start(cmd *exec.Cmd) *onTerminal {
	s.t.Helper()
	outside, inside := terminal(s.t)
	if err := unix.IoctlSetWinsize(int(outside.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(s.width)}); err != nil {
		s.t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "TERM=xterm", "TZ=UTC", "NO_COLOR=1")
	cmd.Stdout, cmd.Stderr = inside, inside
	p := &onTerminal{t: s.t, cmd: cmd, outside: outside, read: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	inside.Close()
	go func() {
		defer close(p.read)
		b := make([]byte, 4096)
		for {
			n, err := outside.Read(b)
			p.mu.Lock()
			p.text.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *onTerminal) shows() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// until waits until the terminal shows a text.
func (p *onTerminal) until(text string) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(p.shows(), text); {
		select {
		case <-p.read:
			p.t.Fatalf("the program ended without %q: %s", text, p.shows())
		case <-time.After(5 * time.Millisecond):
			if time.Now().After(end) {
				p.t.Fatalf("no %q: %s", text, p.shows())
			}
		}
	}
}

// end waits for the end, and returns all that was shown.
func (p *onTerminal) end() string {
	p.t.Helper()
	<-p.read
	_ = p.cmd.Wait() // its exit code is looked at
	return p.shows()
}

// changing is what differs from run to run, and what stands for it.
var changing = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile("\r"), ""},
	{regexp.MustCompile("\x1b\\[[0-9;]*m"), ""},
	{regexp.MustCompile(`(?m)^(INFO|WARN|ERRO)\[[^]]*\]`), "$1[TIME]"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`(version=)\S+|(?m)^((?:kube-enricher|goflow2) )(?:\(?[v0-9d]\S+|unknown)$`), "$1${2}VERSION"},
	{regexp.MustCompile(`(?m)^go1\.\S+$`), "GO"},
	{regexp.MustCompile(`(rcvbuf|sockets|suppressed|records)=\d+`), "$1=N"},
	{regexp.MustCompile(` suppressed=N`), ""},
	{regexp.MustCompile(`(port |flow://:)[0-9]{4,}`), "${1}PORT"},
	{regexp.MustCompile(`(?m)^WARN.*exporter's clock differs.*\n`), ""}, // the capture is old; the time of this line is not certain
	{regexp.MustCompile(`\(list \w+\)`), "(list KIND)"},
	{regexp.MustCompile(`resource=\w+`), "resource=KIND"},
	{regexp.MustCompile(`buffering [0-9.]+ of`), "buffering N of"},
	{regexp.MustCompile(`buffer of \d+ bytes`), "buffer of N bytes"},
	{regexp.MustCompile(`rmem_max +(?:ok|warning) .*`), "rmem_max         ..."},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
}

// note writes a session down: the command and what the terminal showed, at most the first lines of
// it, and the exit code where it is not 0.
func (s *sessions) note(command, shown string, lines, code int) {
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	plain := strings.NewReplacer(exe, "bin/kube-enricher", s.dir, "DIR", captureDir, "testdata/captures", "../../", "")
	text, command := plain.Replace(shown), plain.Replace(command)
	for _, c := range changing {
		text, command = c.pattern.ReplaceAllString(text, c.text), c.pattern.ReplaceAllString(command, c.text)
	}
	if all := strings.SplitAfter(text, "\n"); len(all) > lines+1 {
		text = strings.Join(all[:lines], "") + "[...]\n"
	}
	fmt.Fprintf(&s.out, "$ %s\n%s", command, text)
	if code != 0 {
		fmt.Fprintf(&s.out, "[exit code %d]\n", code)
	}
	s.out.WriteByte('\n')
}

// quote quotes what a shell would not take as it is.
func quote(args []string) string {
	var b strings.Builder
	for _, a := range args {
		b.WriteByte(' ')
		if strings.ContainsAny(a, ` "<>&|*?()`) {
			a = "'" + a + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

// run is a session of the program that ends by itself.
func (s *sessions) run(lines int, args ...string) {
	s.t.Helper()
	s.pipe("", nil, lines, args...)
}

// pipe is a session whose standard input is a file, shown before the command.
func (s *sessions) pipe(before string, stdin io.Reader, lines int, args ...string) {
	s.t.Helper()
	cmd := command(s.t, args...)
	cmd.Stdin = stdin
	p := s.start(cmd)
	shown := p.end()
	s.note(before+"kube-enricher"+quote(args), shown, lines, cmd.ProcessState.ExitCode())
}

// live is a session of a collector, which is interrupted once the terminal shows all of some
// texts. The function does what is to happen once it has started.
func (s *sessions) live(then func(), texts []string, args ...string) {
	s.t.Helper()
	cmd := command(s.t, args...)
	p := s.start(cmd)
	p.until("started")
	then()
	for _, text := range texts {
		p.until(text)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	s.note("kube-enricher"+quote(args), p.end(), 40, cmd.ProcessState.ExitCode())
}

// section begins a part of the sessions.
func (s *sessions) section(title string) { fmt.Fprintf(&s.out, "## %s\n\n", title) }

// file makes a file for the sessions.
func (s *sessions) file(name, text string) string {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// TestSessions runs what a new user may type, right and wrong, on terminals of two widths, and
// compares all that they show with what was looked at.
func TestSessions(t *testing.T) {
	for _, width := range []int{80, 140} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			s := &sessions{t: t, width: width, dir: t.TempDir()}
			s.starts()
			s.wrongInput()
			s.checks()
			s.demo()
			s.text()
			s.words()
			golden(t, fmt.Sprintf("sessions-%d.txt", width), []byte(s.out.String()))
		})
	}
}

// starts are live starts, and the summary after a capture.
func (s *sessions) starts() {
	s.section("A start that speaks")
	flows := freeAddr(s.t)
	s.live(func() { sendCapture(s.t, flows, "ovs-ipfix") }, []string{"first record named", "snapshot read"},
		"-listen", "flow://"+flows, "-addr", "", "-transport.file", filepath.Join(s.dir, "flows.json"), "-kube.snapshot", demoSnapshot)
	s.out.WriteString("# after a minute without a datagram:\n" + s.silence() + "\n")
	s.run(60, "-kube.snapshot", demoSnapshot, "-transport.file", filepath.Join(s.dir, "named.json"), namedCapture)
	s.run(60, "-kube.snapshot", demoSnapshot, "-transport.file", filepath.Join(s.dir, "named.json"), "-summary=false", namedCapture)
}

// silence returns what a minute without a datagram logs.
func (s *sessions) silence() string {
	var b bytes.Buffer
	synctest.Test(s.t, func(t *testing.T) {
		log := newLogger(&config.Config{LogLevel: 4}, &b)
		f := &firstSigns{log: log, gather: prometheus.NewRegistry().Gather, names: true, listen: []collector.Listener{{Host: "192.0.2.1", Port: 2055}}}
		p := start(f.run)
		time.Sleep(2 * silentAfter)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return regexp.MustCompile(`time="[^"]*"`).ReplaceAllString(b.String(), "time=TIME")
}

// wrongInput is what is given by mistake.
func (s *sessions) wrongInput() {
	s.section("Wrong input")
	dns := s.file("dns.cap", string(dnsCapture(s.t)))
	s.run(20, "-kube.off", dns)
	raw, err := os.ReadFile(filepath.Join(captureDir, "ovs-ipfix.pcap"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.pipe("cat ovs-ipfix.pcap | ", bytes.NewReader(raw), 3, "-kube.off", "-fields", "SrcAddr,DstAddr,Bytes")
	for _, w := range []struct{ scheme, capture string }{{"sflow", "ovs-ipfix"}, {"netflow", "ovs-sflow"}} {
		flows := freeAddr(s.t)
		c, err := net.Dial("udp", flows)
		if err != nil {
			s.t.Fatal(err)
		}
		s.live(func() { sendBy(s.t, c, w.capture, 1) }, []string{"datagram dropped"}, "-listen", w.scheme+"://"+flows, "-addr", "", "-kube.off")
		c.Close()
	}
	for _, file := range []string{
		s.file("empty.pcap", ""), s.dir, filepath.Join(s.dir, "none.pcap"), s.file("text.pcap", "hello"),
		s.file("records.json", `{"SrcAddr":"10.0.0.1"}`),
	} {
		s.run(20, "-kube.off", file)
		s.run(20, "-check", "-kube.off", file)
	}
	s.run(20, "-kube.snapshot", s.file("nothing.yaml", "apiVersion: v1\nkind: List\nitems: []\n"), "-transport.file", filepath.Join(s.dir, "none.json"), filepath.Join(captureDir, "ovs-ipfix.pcap"))
	for _, args := range [][]string{{"version"}, {"-version"}, {"help"}, {"-lissten", "x"}, {"-format", "xml"}, {"-listen", "2055"}, {}} {
		s.run(8, args...)
	}
	s.cutShort(raw)
}

// cutShort interrupts a capture whose end has not come.
func (s *sessions) cutShort(raw []byte) {
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.Close()
	addr := freeAddr(s.t)
	args := []string{"-kube.off", "-addr", addr, "-transport.file", "/dev/null", "-"}
	cmd := command(s.t, args...)
	cmd.Stdin = r
	p := s.start(cmd)
	r.Close()
	if _, err := w.Write(raw); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if text, _ := get(s.t, "http://"+addr+"/metrics"); metric(text, "kube_enricher_records_written_total", "") == 105 {
			break
		} else if time.Now().After(end) {
			s.t.Fatalf("not read: %s", p.shows())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	s.note("cat | kube-enricher"+quote(args)+"   # Ctrl-C", p.end(), 30, cmd.ProcessState.ExitCode())
}

// checks are -check and -check.live.
func (s *sessions) checks() {
	s.section("Checks")
	s.run(20, "-check", "-kube.off", "-filter", "Bytes > 1", filepath.Join(captureDir, "ovs-ipfix.pcap"))
	away := s.away()
	s.run(20, "-check", "-kubeconfig", away)
	s.run(20, "-check", "-check.live", "-kubeconfig", away, "-listen", "flow://"+freeAddr(s.t), "-addr", freeAddr(s.t))
	s.run(20, "-check", "-check.live", "-kube.snapshot", demoSnapshot, "-listen", "flow://"+freeAddr(s.t), "-addr", freeAddr(s.t))
}

// away makes a kubeconfig of a cluster that is out of reach.
func (s *sessions) away() string {
	return s.file("kubeconfig", "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://"+freeAddr(s.t)+"'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n")
}

// demo is what "make demo" shows once the program is built.
func (s *sessions) demo() {
	s.section("make demo")
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := command(s.t)
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "../../examples/demo/demo.sh", exe, namedCapture, demoSnapshot}
	p := s.start(cmd)
	shown := p.end()
	s.note("make demo", shown, 100, cmd.ProcessState.ExitCode())
}

// text is text of stored records, its columns, and the short filters.
func (s *sessions) text() {
	s.section("Text")
	stored, err := os.ReadFile(filepath.Join(s.dir, "named.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	begin := s.out.Len()
	s.pipe("cat named.json | ", bytes.NewReader(stored), 10, "-kube.off", "-summary=false", "-format", "text")
	s.run(6, "-summary=false", "-kube.snapshot", demoSnapshot, "-format", "text", "-fields", "+TcpFlags", namedCapture)
	s.run(6, "-summary=false", "-kube.snapshot", demoSnapshot, "-format", "text", "-fields", "+TCPFlags,+SrcNode", namedCapture)
	s.pipe("cat named.json | ", bytes.NewReader(stored), 6, "-kube.off", "-summary=false", "-format", "text", "-fields", "+SrcPod,+DstWorkloadKind")
	for _, args := range [][]string{{"-n", "shop"}, {"-pod", "shop/frontend-6c8b9f7d54-x2x7k"}, {"-port", "53"}, {"-ip", "10.244.1.0/24", "-filter", "Bytes > 1000"}} {
		s.run(5, append(append([]string{"-loglevel", "warning", "-summary=false", "-kube.snapshot", demoSnapshot, "-format", "text"}, args...), namedCapture)...)
	}
	for line := range strings.Lines(s.out.String()[begin:]) {
		if n := utf8.RuneCountInString(line) - 1; n > s.width && strings.Contains(line, " → ") {
			s.t.Errorf("%d characters: %s", n, line)
		}
	}
}

// words are errors of the filter, and what the log says of what is out of reach.
func (s *sessions) words() {
	s.section("Errors in our words")
	for _, filter := range []string{
		"Bytes = 1", "SrcNamespace == prod", "SrcAddr == 10.0.0.1", `SrcNamspace == "shop"`, "Bytes > ", `Bytes > "1"`,
	} {
		s.run(6, "-check", "-kube.off", "-filter", filter)
	}
	s.run(6, "-check", "-kube.off", "-port", "https")
	s.run(6, "-check", "-kube.off", "-ip", "10.0.0")
	s.live(func() {}, []string{"brokers unreachable", "cannot reach the Kubernetes API"}, "-listen", "flow://"+freeAddr(s.t), "-addr", "", "-kubeconfig", s.away(),
		"-transport", "kafka", "-transport.kafka.brokers", freeAddr(s.t), "-transport.kafka.topic", "flows")
}
