// Package netns runs the program in a network namespace and exporters in others:
// what lies between them is the kernel's, address translation, fragments, loss.
package netns

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// patience bounds whatever is waited for.
const patience = 30 * time.Second

// lab is a set of network namespaces.
type lab struct {
	t      *testing.T
	prefix string
}

// newLab skips the test where namespaces cannot be made.
func newLab(t *testing.T) *lab {
	t.Helper()
	needs.Program(t, "ip")
	l := &lab{t: t, prefix: fmt.Sprintf("kube-enricher-test-%d-", os.Getpid())}
	probe := l.prefix + "probe"
	if out, err := l.try("ip", "netns", "add", probe); err != nil {
		t.Skipf("needs network namespaces: %s", out)
	}
	_, _ = l.try("ip", "netns", "del", probe)
	return l
}

// try runs a command and returns what it printed.
func (l *lab) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := l.try(name, args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// exec runs a command in a namespace.
func (l *lab) exec(ns string, args ...string) string {
	l.t.Helper()
	return l.run("ip", append([]string{"netns", "exec", l.prefix + ns}, args...)...)
}

// add makes namespaces, which the end of the test removes.
func (l *lab) add(names ...string) {
	l.t.Helper()
	for _, ns := range names {
		l.run("ip", "netns", "add", l.prefix+ns)
		l.t.Cleanup(func() { _, _ = l.try("ip", "netns", "del", l.prefix+ns) })
		l.run("ip", "-n", l.prefix+ns, "link", "set", "lo", "up")
	}
}

// join connects two namespaces by a pair of interfaces, each named after the
// other side, with the given addresses.
func (l *lab) join(a, b string, mtu int, addrsA, addrsB []string) {
	l.t.Helper()
	l.run("ip", "link", "add", "to-"+b, "mtu", strconv.Itoa(mtu), "netns", l.prefix+a, "type", "veth",
		"peer", "name", "to-"+a, "mtu", strconv.Itoa(mtu), "netns", l.prefix+b)
	for _, end := range []struct {
		ns, dev string
		addrs   []string
	}{{a, "to-" + b, addrsA}, {b, "to-" + a, addrsB}} {
		for _, addr := range end.addrs {
			args := []string{"-n", l.prefix + end.ns, "addr", "add", addr, "dev", end.dev}
			if strings.Contains(addr, ":") {
				args = append(args, "nodad")
			}
			l.run("ip", args...)
		}
		l.run("ip", "-n", l.prefix+end.ns, "link", "set", end.dev, "up")
	}
}

// onlyUDP keeps the kernel from sending anything else from a namespace to a
// peer: a lossy link would lose and count that, too.
func (l *lab) onlyUDP(ns, dev, to, peer, peerDev string) {
	l.t.Helper()
	const mac = "02:00:00:00:00:01"
	l.run("ip", "-n", l.prefix+peer, "link", "set", peerDev, "address", mac)
	l.run("ip", "-n", l.prefix+ns, "neigh", "replace", to, "lladdr", mac, "dev", dev, "nud", "permanent")
	_ = l.in(ns, func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0) }) // where there is IPv6
}

// in calls f on a thread that is in a namespace. Sockets that f opens stay there.
func (l *lab) in(ns string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open(filepath.Join("/run/netns", l.prefix+ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
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

// dial opens a UDP socket of an exporter. port 0 is any.
func (l *lab) dial(ns string, port int, to string) *net.UDPConn {
	l.t.Helper()
	var c *net.UDPConn
	err := l.in(ns, func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c
}

var programDir string // once build was called

var build = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "kube-enricher-test-"); err != nil {
		return "", err
	}
	binary := filepath.Join(programDir, "kube-enricher")
	out, err := exec.Command("go", "build", "-o", binary, "../../cmd/kube-enricher").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build the program: %w: %s", err, out)
	}
	return binary, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		_ = os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// program is the running program.
type program struct {
	l              *lab
	ns             string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	client         http.Client
}

// start starts the program in a namespace.
func (l *lab) start(ns string, args ...string) *program {
	l.t.Helper()
	file, err := build()
	if err != nil {
		l.t.Fatal(err)
	}
	args = append([]string{"netns", "exec", l.prefix + ns, file, "-listen", "flow://:2055?count=2", "-addr", "127.0.0.1:8080", "-kube.off"}, args...)
	p := &program{l: l, ns: ns, cmd: exec.Command("ip", args...)}
	p.cmd.Env = []string{"HOME=" + l.t.TempDir(), "PATH=" + os.Getenv("PATH")}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.client.Transport = &http.Transport{DialContext: func(context.Context, string, string) (c net.Conn, err error) {
		err = l.in(ns, func() (err error) {
			c, err = net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080})
			return err
		})
		return c, err
	}}
	p.eventually("ready", func() bool { _, code := p.get("/readyz"); return code == http.StatusOK })
	return p
}

func (p *program) get(path string) (string, int) {
	r, err := p.client.Get("http://program" + path)
	if err != nil {
		return err.Error(), 0
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error(), 0
	}
	return string(b), r.StatusCode
}

func (p *program) eventually(what string, f func() bool) {
	p.l.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			text, _ := p.get("/metrics")
			p.l.t.Fatalf("%s: not in %v: %s", what, patience, strings.Join(regexp.MustCompile(`(?m)^kube_enricher_(datagrams|records|sets|sequence).*`).FindAllString(text, -1), "\n"))
		}
	}
}

// metric sums up the samples of a metric whose labels hold the given text.
func (p *program) metric(name, labels string) (sum int) {
	text, _ := p.get("/metrics")
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "kube_enricher_"+name)
		if ok && (rest[0] == '{' || rest[0] == ' ') && strings.Contains(rest, labels) {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			sum += int(v)
		}
	}
	return sum
}

// stop ends the program and returns its records. The ledger must balance, with
// nothing undecodable.
func (p *program) stop(want int) (records []map[string]any) {
	t := p.l.t
	t.Helper()
	p.eventually("written", func() bool { return p.metric("records_written_total", "") == want })
	if received, dropped := p.metric("records_received_total", ""), p.metric("records_dropped_total", ""); received != want || dropped != 0 {
		t.Errorf("%d records received, %d dropped, want %d", received, dropped, want)
	}
	for _, name := range []string{"sets_held", "sets_dropped_total", "datagrams_dropped_total"} {
		if n := p.metric(name, ""); n != 0 {
			t.Errorf("%s is %d", name, n)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.stderr.String())
	}
	for d := json.NewDecoder(&p.stdout); d.More(); {
		var r map[string]any
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	if len(records) != want {
		t.Errorf("%d records came out, want %d", len(records), want)
	}
	return records
}

func send(t *testing.T, c *net.UDPConn, datagrams ...[]byte) {
	t.Helper()
	for _, b := range datagrams {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

// The messages below are of one template in domain 1, with the elements of a
// shape.

type element struct{ id, length uint16 }

var (
	shapeIPv4 = []element{{8, 4}, {12, 4}, {1, 4}, {2, 4}}
	shapeIPv6 = []element{{2, 4}, {27, 16}, {28, 16}, {7, 2}, {1, 8}}
)

func template(shape []element) []byte {
	b := binary.BigEndian.AppendUint16(nil, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(len(shape)))
	for _, e := range shape {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, e.id), e.length)
	}
	return b
}

// record is a record of a shape whose numbers are n and whose addresses end in n.
func record(shape []element, n uint16) (b []byte) {
	for _, e := range shape {
		v := make([]byte, e.length)
		v[0] = byte(e.length) // 4.x.x.x, 1000::
		switch {
		case e.id == 7:
			v[0] = 0
		case e.length != 16 && e.id != 8 && e.id != 12:
			v[0] = 0
			binary.BigEndian.PutUint16(v[len(v)-2:], 1000)
		case e.length >= 4:
			binary.BigEndian.PutUint16(v[len(v)-2:], n)
		}
		b = append(b, v...)
	}
	return b
}

func set(id int, content []byte) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(id)), uint16(4+len(content)))
	return append(b, content...)
}

func ipfix(sequence uint32, sets ...[]byte) []byte {
	be := binary.BigEndian
	body := slices.Concat(sets...)
	b := be.AppendUint16(be.AppendUint16(nil, 10), uint16(16+len(body)))
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 1_700_000_000), sequence), 1)
	return append(b, body...)
}

func v9(sequence uint32, sets ...[]byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(be.AppendUint16(nil, 9), uint16(len(sets)))
	b = be.AppendUint32(be.AppendUint32(b, 60_000), 1_700_000_000)
	b = be.AppendUint32(be.AppendUint32(b, sequence), 1)
	return append(b, slices.Concat(sets...)...)
}

func v5(sequence uint32, records int) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(be.AppendUint16(nil, 5), uint16(records))
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 60_000), 1_700_000_000), 0)
	b = append(be.AppendUint32(b, sequence), 0, 0, 0, 0)
	for range records {
		r := make([]byte, 48)
		r[0], r[4] = 10, 10
		b = append(b, r...)
	}
	return b
}

func sflow(sequence uint32) []byte {
	words := func(ws ...uint32) (b []byte) {
		for _, w := range ws {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		return b
	}
	// A flow sample with an IPv4 record (format 3).
	flow := words(3, 32, 100, 6, 0x0a000001, 0x0a000002, 1000, 443, 0, 0)
	sample := append(words(sequence, 1, 400, 400, 0, 1, 2, 1), flow...)
	return slices.Concat(words(5, 1, 0x0a000009, 0, sequence, 60_000, 1), words(1, uint32(len(sample))), sample)
}

func repeated(n int, record []byte) []byte { return bytes.Repeat(record, n) }

// behindOneAddress makes a collector and two exporters, "one" and "two", behind a
// router that translates their addresses to its own.
func (l *lab) behindOneAddress() {
	l.t.Helper()
	l.add("collector", "router", "one", "two")
	l.join("collector", "router", 1500, []string{"10.9.0.1/24"}, []string{"10.9.0.254/24"})
	for i, ns := range []string{"one", "two"} {
		l.join(ns, "router", 1500, []string{fmt.Sprintf("10.9.%d.1/24", i+1)}, []string{fmt.Sprintf("10.9.%d.254/24", i+1)})
		l.run("ip", "-n", l.prefix+ns, "route", "add", "default", "via", fmt.Sprintf("10.9.%d.254", i+1))
	}
	if err := l.in("router", func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
		l.t.Fatal(err)
	}
	if out, err := l.try("ip", "netns", "exec", l.prefix+"router", "nft",
		"add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; add rule ip nat out oifname to-collector masquerade"); err != nil {
		if out2, err := l.try("ip", "netns", "exec", l.prefix+"router", "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "to-collector", "-j", "MASQUERADE"); err != nil {
			l.t.Skipf("needs a kernel that translates addresses: nft: %s; iptables: %s", out, out2)
		}
	}
}

// TestNAT has two exporters behind one address, which send different templates
// under one id from the same port: both are decoded right.
func TestNAT(t *testing.T) {
	needs.Program(t, "nft")
	l := newLab(t)
	l.behindOneAddress()
	p := l.start("collector")
	one, two := l.dial("one", 4739, "10.9.0.1:2055"), l.dial("two", 4739, "10.9.0.1:2055")
	send(t, one, ipfix(0, set(2, template(shapeIPv4))))
	p.eventually("first template", func() bool { return p.metric("templates", "") == 1 })
	send(t, two, ipfix(0, set(2, template(shapeIPv6))))
	p.eventually("second template", func() bool { return p.metric("templates", "") == 2 })
	const n = 50
	for i := range uint32(n) {
		send(t, one, ipfix(i, set(256, record(shapeIPv4, uint16(i)))))
		send(t, two, ipfix(i, set(256, record(shapeIPv6, uint16(i)))))
	}
	if n := p.metric("exporters", ""); n != 1 {
		t.Errorf("%d exporters, want one address", n)
	}
	seen := make(map[string]int)
	for _, r := range p.stop(2 * n) {
		seen[fmt.Sprint(r["SamplerAddress"], " ", r["SrcAddr"], " ", r["Bytes"], " ", r["Packets"])]++
	}
	for i := range n {
		v4 := fmt.Sprintf("10.9.0.254 4.0.0.%d 1000 1000", i)
		v6 := fmt.Sprintf("10.9.0.254 %v 1000 1000", netip.AddrFrom16([16]byte{0: 16, 15: byte(i)}))
		if seen[v4] != 1 || seen[v6] != 1 {
			t.Fatalf("%q %d times, %q %d times: %v", v4, seen[v4], v6, seen[v6], seen)
		}
	}
}

// TestSourcePort has an exporter come back from another port: its templates are
// still known.
func TestSourcePort(t *testing.T) {
	l := newLab(t)
	l.add("collector", "exporter")
	l.join("collector", "exporter", 1500, []string{"10.9.0.1/24"}, []string{"10.9.0.2/24"})
	p := l.start("collector")
	send(t, l.dial("exporter", 5000, "10.9.0.1:2055"), ipfix(0, set(2, template(shapeIPv4))))
	p.eventually("template", func() bool { return p.metric("templates", "") == 1 })
	for port := range 20 {
		send(t, l.dial("exporter", 5001+port, "10.9.0.1:2055"), ipfix(uint32(port), set(256, record(shapeIPv4, 7))))
	}
	for _, r := range p.stop(20) {
		if r["SrcAddr"] != "4.0.0.7" {
			t.Fatalf("record %v", r)
		}
	}
}

// TestFragments sends messages longer than the link takes, over IPv4 and IPv6:
// they arrive whole.
func TestFragments(t *testing.T) {
	l := newLab(t)
	l.add("collector", "exporter")
	l.join("collector", "exporter", 1400, []string{"10.9.0.1/24", "fd00:9::1/64"}, []string{"10.9.0.2/24", "fd00:9::2/64"})
	p := l.start("collector")
	want, size := 0, 0
	one := record(shapeIPv6, 9)
	for _, to := range []string{"10.9.0.1:2055", "[fd00:9::1]:2055"} {
		c := l.dial("exporter", 0, to)
		for _, n := range []int{1, 100, 1000, 65000 / len(one)} {
			b := ipfix(0, set(2, template(shapeIPv6)), set(256, repeated(n, one)))
			send(t, c, b)
			want += n
			size += len(b)
			p.eventually("received", func() bool { return p.metric("records_received_total", "") == want })
		}
	}
	if n := p.metric("datagram_bytes_received_total", ""); n != size {
		t.Errorf("%d bytes received, %d sent", n, size)
	}
	var snmp []byte
	if err := l.in("collector", func() (err error) { snmp, err = os.ReadFile("/proc/thread-self/net/snmp"); return err }); err != nil {
		t.Fatal(err)
	}
	if reassembled := snmpCounter(string(snmp), "Ip", "ReasmOKs"); reassembled != 3 {
		t.Errorf("the kernel reassembled %d datagrams over IPv4, want 3", reassembled)
	}
	for _, r := range p.stop(want) {
		if r["SrcAddr"] != "1000::9" || r["Bytes"] != 1000.0 {
			t.Fatalf("record %v", r)
		}
	}
}

// snmpCounter reads /proc/net/snmp: a line of names, then one of values.
func snmpCounter(text, proto, name string) int {
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != proto+":" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		n, _ := strconv.Atoi(fields[slices.Index(names, name)])
		return n
	}
	return -1
}

// exporter sends messages of one protocol with its sequence numbers.
type exporter struct {
	protocol string // as the metrics name it
	// message returns a message of n records, numbered as the exporter does.
	message  func(n int) []byte
	conn     *net.UDPConn
	late     [][]byte // messages that are to be sent in another order
	messages int
	records  int
}

func exporters(l *lab, to string) []*exporter {
	var v5Sequence, v9Sequence, ipfixSequence, sflowSequence uint32
	data := func(n int) []byte { return set(256, repeated(n, record(shapeIPv4, 1))) }
	all := []*exporter{
		{protocol: "netflow_v5", message: func(n int) []byte { v5Sequence += uint32(n); return v5(v5Sequence-uint32(n), n) }},
		{protocol: "netflow_v9", message: func(n int) []byte { v9Sequence++; return v9(v9Sequence, data(n)) }},
		{protocol: "ipfix", message: func(n int) []byte { ipfixSequence += uint32(n); return ipfix(ipfixSequence-uint32(n), data(n)) }},
		{protocol: "sflow_5", message: func(int) []byte { sflowSequence++; return sflow(sflowSequence) }},
	}
	for _, e := range all {
		e.conn = l.dial("exporter", 0, to)
	}
	return all
}

// send sends a message. If shuffled, it comes within 16 messages of its place.
func (e *exporter) send(t *testing.T, rnd *rand.Rand, shuffled bool) {
	n := 1 + rnd.IntN(20)
	if e.protocol == "sflow_5" {
		n = 1
	}
	e.late = append(e.late, e.message(n))
	e.messages++
	e.records += n
	if shuffled && len(e.late) < 16 {
		return
	}
	rnd.Shuffle(len(e.late), func(i, j int) { e.late[i], e.late[j] = e.late[j], e.late[i] })
	send(t, e.conn, e.late...)
	e.late = e.late[:0]
}

// wire is what a link loses and reorders.
type wire struct {
	name string
	// start begins the loss, or says why it cannot be had.
	start func(l *lab) error
	// stop ends it and returns how many packets were lost.
	stop func(l *lab) int
	// reorders reports whether the link itself reorders packets.
	reorders bool
}

var dropped = regexp.MustCompile(`(?:dropped|counter packets) (\d+)`)

var wires = []wire{
	{
		name: "netem",
		start: func(l *lab) error {
			out, err := l.try("ip", "netns", "exec", l.prefix+"exporter", "tc", "qdisc", "add", "dev", "to-collector", "root",
				"netem", "limit", "100000", "delay", "3ms", "reorder", "75%", "loss", "5%")
			if err != nil {
				return fmt.Errorf("tc netem: %s", out)
			}
			return nil
		},
		stop: func(l *lab) int {
			for range 1000 { // what is delayed would be lost with the qdisc
				out := l.exec("exporter", "tc", "-s", "qdisc", "show", "dev", "to-collector")
				if m := dropped.FindStringSubmatch(out); m != nil && strings.Contains(out, "backlog 0b 0p") {
					l.exec("exporter", "tc", "qdisc", "del", "dev", "to-collector", "root")
					n, _ := strconv.Atoi(m[1])
					return n
				}
			}
			l.t.Fatal("netem does not run empty")
			return 0
		},
		reorders: true,
	},
	{
		name: "nftables",
		start: func(l *lab) error {
			out, err := l.try("ip", "netns", "exec", l.prefix+"collector", "nft",
				"add table ip lossy; add chain ip lossy in { type filter hook prerouting priority 0; }; add rule ip lossy in udp dport 2055 numgen random mod 100 < 5 counter drop")
			if err != nil {
				return fmt.Errorf("nft: %s", out)
			}
			return nil
		},
		stop: func(l *lab) int {
			out := l.exec("collector", "nft", "list", "table", "ip", "lossy")
			l.exec("collector", "nft", "delete", "table", "ip", "lossy")
			m := dropped.FindStringSubmatch(out)
			if m == nil {
				l.t.Fatalf("no counter in %s", out)
			}
			n, _ := strconv.Atoi(m[1])
			return n
		},
	},
}

// TestLoss loses and reorders packets: what the sequence numbers say is lost is
// exactly what was sent and did not arrive, in the unit of each protocol.
func TestLoss(t *testing.T) {
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			l := newLab(t)
			l.add("collector", "exporter")
			l.join("collector", "exporter", 1500, []string{"10.9.0.1/24"}, []string{"10.9.0.2/24"})
			l.onlyUDP("exporter", "to-collector", "10.9.0.1", "collector", "to-exporter")
			p := l.start("collector")
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 1))
			all := exporters(l, "10.9.0.1:2055")
			sent := 0 // datagrams
			arrived := func() bool { return p.metric("datagrams_received_total", "") == sent }
			for _, e := range all {
				switch e.protocol {
				case "ipfix":
					send(t, e.conn, ipfix(0, set(2, template(shapeIPv4))))
					sent++
				case "netflow_v9":
					send(t, e.conn, v9(0, set(0, template(shapeIPv4))))
					sent++
				}
			}
			p.eventually("templates", func() bool { return p.metric("templates", "") == 2 })
			round := func(n int, shuffled bool) {
				tick := time.NewTicker(500 * time.Microsecond) // what is delayed by 3 ms is 6 messages late
				defer tick.Stop()
				for range n {
					<-tick.C
					for _, e := range all {
						e.send(t, rnd, shuffled)
						sent++
					}
				}
			}
			round(5, false)
			p.eventually("all without loss", arrived)
			if err := w.start(l); err != nil {
				t.Skip("needs a lossy network: ", err)
			}
			round(2000, !w.reorders)
			lost := w.stop(l)
			sent -= lost
			round(64, false) // closes the gaps
			p.eventually("all but what was lost", arrived)

			if lost == 0 {
				t.Error("nothing was lost")
			}
			total, datagrams := 0, 0
			for _, e := range all {
				label := `"` + e.protocol + `"`
				gotDatagrams, gotRecords := p.metric("datagrams_received_total", label), p.metric("records_received_total", label)
				total += gotRecords
				lostDatagrams := e.messages - gotDatagrams
				if e.protocol == "ipfix" || e.protocol == "netflow_v9" {
					lostDatagrams++ // the template
				}
				datagrams += lostDatagrams
				want := e.records - gotRecords
				if e.protocol == "netflow_v9" || e.protocol == "sflow_5" {
					want = lostDatagrams
				}
				got := 0
				p.eventually("sequence numbers of "+e.protocol, func() bool {
					got = p.metric("sequence_lost_total", label)
					return got >= want
				})
				t.Logf("%s: %d datagrams and %d records sent, %d datagrams lost, %d counted as lost", e.protocol, e.messages, e.records, lostDatagrams, got)
				if got != want {
					t.Errorf("%s: %d lost, want %d", e.protocol, got, want)
				}
			}
			if datagrams != lost {
				t.Errorf("%d datagrams missing, %d packets were dropped on the way", datagrams, lost)
			}
			p.stop(total)
		})
	}
}
