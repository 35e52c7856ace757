package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// The tests below run the program itself as a child process: the test binary,
// which TestMain turns into the program when this variable is set.
const asProgram = "KUBE_ENRICHER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram)
		main()
	}
	os.Exit(m.Run())
}

const (
	captureDir   = "../../testdata/captures"
	demoSnapshot = "../../examples/demo/snapshot.yaml"
)

// program is a run of the program.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdout  bytes.Buffer
	mu      sync.Mutex
	lines   []string // of standard error
	logged  chan struct{}
	done    chan struct{}
	patient bool // eventually has no limit of its own
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	// No cluster is to be found by accident. A program with the race detector would wait for a
	// second when it ends.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0", "HOME="+t.TempDir(), "KUBECONFIG="+os.Getenv("TEST_KUBECONFIG"), "KUBERNETES_SERVICE_HOST=")
	return cmd
}

// inert returns a program that is built and not started.
func inert(t *testing.T, args ...string) *app {
	t.Helper()
	cfg, err := config.Parse(args, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	a := &app{cfg: cfg, log: log, reg: prometheus.NewRegistry()}
	if err := a.build(); err != nil {
		t.Fatal(err)
	}
	return a
}

// start starts the program with standard input closed.
func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	return startWith(t, nil, nil, args...)
}

func startWith(t *testing.T, stdin io.Reader, stdout io.Writer, args ...string) *program {
	t.Helper()
	return startCommand(t, command(t, args...), stdin, stdout)
}

func startCommand(t *testing.T, cmd *exec.Cmd, stdin io.Reader, stdout io.Writer) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, logged: make(chan struct{}, 1), done: make(chan struct{})}
	p.cmd.Stdin = stdin
	p.cmd.Stdout = &p.stdout
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
			select {
			case p.logged <- struct{}{}:
			default:
			}
		}
	}()
	return p
}

// wait returns the exit code.
func (p *program) wait() int {
	p.t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	<-p.done
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// eventually polls until f holds. It fails when the program ends before, or after
// 30 s. With patient set, it waits for as long as the test binary may run: how
// long things take is not what those tests are about.
func (p *program) eventually(what string, f func() bool) {
	p.t.Helper()
	limit := time.Now().Add(30 * time.Second)
	if p.patient {
		limit = time.Now().Add(time.Hour)
		if end, ok := p.t.Deadline(); ok {
			limit = end.Add(-5 * time.Second)
		}
	}
	ctx, cancel := context.WithDeadline(p.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-p.done:
			p.t.Fatalf("%s: the program ended: %s", what, p.stderr())
		case <-ctx.Done():
			p.t.Fatalf("%s: not in time: %s", what, p.stderr())
		}
	}
}

// runProgram runs the program to its end.
func runProgram(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	p := startProgram(t, args...)
	code = p.wait()
	return p.stdout.String(), p.stderr(), code
}

func get(t *testing.T, url string) (string, int) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		return err.Error(), 0
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), r.StatusCode
}

// freeAddr returns a loopback address that is free for UDP and TCP.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		c, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			c.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// records reads JSON lines.
func records(t *testing.T, out string) []map[string]any {
	t.Helper()
	var rs []map[string]any
	for line := range strings.Lines(out) {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var r map[string]any
		if err := d.Decode(&r); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q is no record: %v", line, err)
		}
		rs = append(rs, r)
	}
	return rs
}

// metric sums up the samples of a metric whose labels hold the given text.
func metric(text, name, labels string) (sum float64) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err == nil {
			sum += v
		}
	}
	return sum
}

// state returns what /readyz says: "ready", "degraded" or "not ready", and its body.
// The status must fit: 503 takes the program out of its Service.
func state(t *testing.T, base string) (state, body string) {
	t.Helper()
	body, code := get(t, base+"/readyz")
	var r struct {
		Ready bool
		State string
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return "", body // it does not listen yet
	}
	if (code == http.StatusOK) != (r.State == "ready" || r.State == "degraded") || r.Ready != (code == http.StatusOK) {
		t.Errorf("/readyz: %d %s", code, body)
	}
	return r.State, body
}

// balances waits for a scrape in which the ledger balances with n records received,
// and returns its text. A scrape reads one counter after the other, so the one in
// which the last record is counted need not balance yet.
func (p *program) balances(base string, n float64) (metrics string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			checkLedger(p.t, metrics, n)
		}
	}()
	p.eventually("the ledger balances", func() bool {
		metrics, _ = get(p.t, base+"/metrics")
		return metric(metrics, "kube_enricher_records_received_total", "") == n &&
			metric(metrics, "kube_enricher_records_written_total", "")+
				metric(metrics, "kube_enricher_records_dropped_total", "")+
				metric(metrics, "kube_enricher_records_held", "") == n
	})
	return metrics
}

// checkLedger wants the ledger to balance with n records received.
func checkLedger(t *testing.T, metrics string, n float64) {
	t.Helper()
	received := metric(metrics, "kube_enricher_records_received_total", "")
	written := metric(metrics, "kube_enricher_records_written_total", "")
	dropped := metric(metrics, "kube_enricher_records_dropped_total", "")
	held := metric(metrics, "kube_enricher_records_held", "")
	if received != n || received != written+dropped+held {
		t.Errorf("received %v (want %v), written %v, dropped %v, held %v", received, n, written, dropped, held)
	}
}

func TestWrongUsage(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	if err := os.WriteFile(broken, []byte("apiVersion: v1\nkind: List\nitems:\n- kind: [Pod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"-lisen", "x"}, []string{"-lisen", "-listen"}},
		{[]string{"-listen", "tcp://:1"}, []string{"-listen", "netflow, sflow, flow"}},
		{[]string{"-format", "xml"}, []string{"-format", "json"}},
		{[]string{"-fields", "default,+Nonsense"}, []string{"-fields", "Nonsense"}},
		{[]string{"-kube.off", "-kube.snapshot", "x"}, []string{"-kube.off", "-kube.snapshot"}},
		{[]string{"-kube.snapshot", filepath.Join(dir, "none.yaml")}, []string{"-kube.snapshot", "no such file"}},
		{[]string{"-kube.snapshot", broken}, []string{"-kube.snapshot", "line"}},
		{[]string{"-kubeconfig", filepath.Join(dir, "none")}, []string{"-kubeconfig", "no such file"}},
		{[]string{}, []string{"-kubeconfig", "-kube.snapshot", "-kube.off"}},
		{[]string{"flows.csv"}, []string{"flows.csv", "no such file"}},
		{[]string{"-check", "-kube.off", "-transport.file", filepath.Join(dir, "none", "x")}, []string{"-transport.file"}},
		{[]string{"-kube.off", "-transport", "kafka", "-transport.kafka.tls", "-transport.kafka.tls.ca", filepath.Join(dir, "none")}, []string{"-transport.kafka.tls.ca", "no such file"}},
		{[]string{"-check", "-kube.off", "-transport", "kafka", "-transport.kafka.tls", "-transport.kafka.tls.ca", broken}, []string{"-transport.kafka.tls.ca", "no certificate in PEM"}},
		{[]string{"-check", "-kube.off", "-transport", "kafka", "-transport.kafka.tls", "-transport.kafka.tls.client", broken, "-transport.kafka.tls.key", broken}, []string{"-transport.kafka.tls.client", "broken.yaml"}},
	} {
		stdout, stderr, code := runProgram(t, tc.args...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 0 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", tc.args, code, stdout, stderr)
		}
		for _, w := range tc.want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%q: %q does not name %q", tc.args, stderr, w)
			}
		}
	}
	if stdout, stderr, code := runProgram(t, "-check", "-kube.snapshot", demoSnapshot); code != exitDone || stdout != "ok: flags, snapshot, outputs file:json\n" {
		t.Errorf("-check: exit code %d, %q, %q", code, stdout, stderr)
	}
	for retain, warned := range map[string]bool{"15m": true, "16m": false} {
		if _, stderr, code := runProgram(t, "-check", "-kube.snapshot", demoSnapshot, "-kube.retain", retain); code != exitDone || strings.Contains(stderr, "-templates.hold") != warned {
			t.Errorf("-check -kube.retain %s: exit code %d, %q", retain, code, stderr)
		}
	}
	if stdout, _, code := runProgram(t, "-v"); code != exitDone || !strings.Contains(stdout, "goflow2 v2.2.6") {
		t.Errorf("-v: exit code %d, %q", code, stdout)
	}
	if stdout, _, code := runProgram(t, "-h"); code != exitDone || !strings.Contains(stdout, "-kube.snapshot") {
		t.Errorf("-h: exit code %d, %q", code, stdout)
	}
}

// TestUnusableKubeconfig names the ways on also when the environment names a
// kubeconfig that is not there.
func TestUnusableKubeconfig(t *testing.T) {
	t.Setenv("TEST_KUBECONFIG", "/nonexistent")
	_, stderr, code := runProgram(t)
	for _, want := range []string{"KUBECONFIG=/nonexistent", "-kubeconfig", "-kube.snapshot", "-kube.off"} {
		if code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stderr, "\n") {
			t.Errorf("exit code %d: %q", code, stderr)
		}
	}
}

// TestCaptures replays every capture and wants the truth's 5-tuples, bytes and
// packets in the JSON.
func TestCaptures(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(captureDir, "*.pcap"))
	if err != nil || len(files) < 14 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			stdout, stderr, code := runProgram(t, "-kube.off", file)
			if code != exitDone {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			var got []string
			for _, r := range records(t, stdout) {
				got = append(got, fmt.Sprint(r["SrcAddr"], " ", r["DstAddr"], " ", r["SrcPort"], " ", r["DstPort"], " ", r["Proto"], " ", r["Bytes"], " ", r["Packets"]))
			}
			want := truth(t, strings.TrimSuffix(file, ".pcap")+".truth.csv")
			if len(got) != len(want) {
				t.Fatalf("%d records, want %d", len(got), len(want))
			}
			for i := range want {
				// Where the truth has no length it is of the outer packet of a
				// tunnel, which the collector's own test speaks of.
				if got[i] != want[i] && !strings.HasSuffix(want[i], " 0 1") {
					t.Errorf("record %d is %s, want %s", i, got[i], want[i])
				}
			}
		})
	}
}

func truth(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range rows[1:] {
		if r[slices.Index(rows[0], "kind")] == "options" {
			continue
		}
		if r[5] == "" { // without IE 1, the bytes are those of the frames
			_, after, _ := strings.Cut(r[len(r)-1], "|layer2_octet_delta_count=")
			r[5], _, _ = strings.Cut(after, "|")
		}
		for i := range 7 {
			if a, err := netip.ParseAddr(r[i]); i < 2 && err == nil {
				r[i] = a.String()
			}
			if i >= 2 && r[i] == "" {
				r[i] = "0"
			}
		}
		out = append(out, strings.Join(r[:7], " "))
	}
	return out
}

// TestDamagedCapture writes what can be read, then fails with the offset.
func TestDamagedCapture(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(captureDir, "softflowd-v5.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runProgram(t, "-kube.off", cut)
	if n := len(records(t, stdout)); code != exitFailed || n < 100 || !strings.Contains(stderr, "offset") || !strings.Contains(stderr, cut) {
		t.Errorf("exit code %d, %d records, stderr %q", code, n, stderr)
	}
}

// TestReference sends the flow of the documented reference record and wants it
// key by key.
func TestReference(t *testing.T) {
	const want = `{"BiFlowDirection":0,"Bytes":20800,"DstAS":0,"DstAddr":"10.96.0.1","DstMac":"0a:58:0a:f4:00:01","DstNet":0,"DstPort":443,"DstVlan":0,"EgressVrfID":0,"Etype":2048,"EtypeName":"IPv4","ForwardingStatus":0,"FragmentId":0,"FragmentOffset":0,"IPTTL":0,"IPTos":0,"IPv6FlowLabel":0,"IcmpCode":0,"IcmpName":"","IcmpType":0,"InIf":12,"IngressVrfID":0,"NextHop":"","NextHopAS":0,"OutIf":0,"Packets":400,"Proto":6,"ProtoName":"TCP","SamplerAddress":"10.244.0.2","SamplingRate":0,"SequenceNum":577,"SrcAS":0,"SrcAddr":"10.244.0.5","SrcHostIP":"10.89.0.2","SrcMac":"0a:58:0a:f4:00:05","SrcNamespace":"local-path-storage","SrcNet":0,"SrcPod":"local-path-provisioner-78776bfc44-p2xkl","SrcPort":56144,"SrcVlan":0,"SrcWorkload":"local-path-provisioner","SrcWorkloadKind":"Deployment","TCPFlags":0,"TimeFlowEnd":0,"TimeFlowStart":0,"TimeReceived":1628419398,"Type":"IPFIX","VlanId":0}` + "\n"
	snapshot := filepath.Join(t.TempDir(), "snapshot.yaml")
	if err := os.WriteFile(snapshot, []byte(referenceObjects), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "reference.pcap")
	if err := os.WriteFile(file, pcap(1628419398, netip.MustParseAddrPort("10.244.0.2:40000"), referenceMessage()), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runProgram(t, "-kube.snapshot", snapshot, file)
	if code != exitDone || stdout != want {
		t.Errorf("exit code %d, stderr %q\ngot  %swant %s", code, stderr, stdout, want)
	}
}

const referenceObjects = `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: local-path-provisioner-78776bfc44-p2xkl
    namespace: local-path-storage
    uid: 0a000000-0000-0000-0000-000000000001
    creationTimestamp: "2021-08-08T10:00:00Z"
    ownerReferences:
    - {apiVersion: apps/v1, kind: ReplicaSet, name: local-path-provisioner-78776bfc44, uid: 0a000000-0000-0000-0000-000000000002, controller: true}
  spec: {nodeName: kind-control-plane}
  status: {phase: Running, hostIP: 10.89.0.2, podIP: 10.244.0.5, podIPs: [{ip: 10.244.0.5}], startTime: "2021-08-08T10:00:00Z"}
- apiVersion: apps/v1
  kind: ReplicaSet
  metadata:
    name: local-path-provisioner-78776bfc44
    namespace: local-path-storage
    uid: 0a000000-0000-0000-0000-000000000002
    ownerReferences:
    - {apiVersion: apps/v1, kind: Deployment, name: local-path-provisioner, uid: 0a000000-0000-0000-0000-000000000003, controller: true}
`

// referenceMessage is the IPFIX message of the reference record.
func referenceMessage() []byte {
	be := binary.BigEndian
	var tmpl, data []byte
	field := func(id, n int, v uint64) {
		tmpl = be.AppendUint16(be.AppendUint16(tmpl, uint16(id)), uint16(n))
		data = append(data, be.AppendUint64(nil, v)[8-n:]...)
	}
	field(56, 6, 0x0a580af40005)
	field(80, 6, 0x0a580af40001)
	field(10, 4, 12)
	field(60, 1, 4)
	field(8, 4, 0x0af40005)
	field(12, 4, 0x0a600001)
	field(7, 2, 56144)
	field(11, 2, 443)
	field(4, 1, 6)
	field(1, 8, 20800)
	field(2, 8, 400)
	set := func(id int, b []byte) []byte {
		return append(be.AppendUint16(be.AppendUint16(nil, uint16(id)), uint16(4+len(b))), b...)
	}
	body := append(set(2, append(be.AppendUint16(be.AppendUint16(nil, 256), uint16(len(tmpl)/4)), tmpl...)), set(256, data)...)
	msg := be.AppendUint16(be.AppendUint16(nil, 10), uint16(16+len(body)))
	msg = be.AppendUint32(be.AppendUint32(be.AppendUint32(msg, 1628419398), 577), 0)
	return append(msg, body...)
}

// pcap is a capture of one UDP datagram to port 2055, over raw IPv4.
func pcap(seconds uint32, source netip.AddrPort, payload []byte) []byte {
	be, le := binary.BigEndian, binary.LittleEndian
	udp := be.AppendUint16(be.AppendUint16(be.AppendUint16(be.AppendUint16(nil, source.Port()), 2055), uint16(8+len(payload))), 0)
	ip := be.AppendUint16([]byte{0x45, 0}, uint16(28+len(payload)))
	ip = append(ip, 0, 1, 0, 0, 64, 17, 0, 0)
	ip = append(append(ip, source.Addr().AsSlice()...), 127, 0, 0, 1)
	packet := slices.Concat(ip, udp, payload)
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint16(le.AppendUint16(b, 2), 4)
	b = le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(b, 0), 0), 65535), 101)
	b = le.AppendUint32(le.AppendUint32(b, seconds), 0)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(packet))), uint32(len(packet)))
	return append(b, packet...)
}

// TestDemo names pods, services and nodes of the demo's snapshot.
func TestDemo(t *testing.T) {
	stdout, stderr, code := runProgram(t, "-kube.snapshot", demoSnapshot, filepath.Join(captureDir, "ovs-ipfix.pcap"))
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	kinds := make(map[any]int)
	for _, r := range records(t, stdout) {
		kinds[r["SrcWorkloadKind"]]++
		kinds[r["DstWorkloadKind"]]++
	}
	for _, k := range []string{"Deployment", "Service"} {
		if kinds[k] == 0 {
			t.Errorf("no record names a %s: %v", k, kinds)
		}
	}
}

// exporter sends the datagrams of a capture to a running program.
func sendCapture(t *testing.T, to, name string) (datagrams int) {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return sendBy(t, c, name, 1<<30)
}

// sendBy sends the first datagrams of a capture by a connection.
func sendBy(t *testing.T, c net.Conn, name string, most int) (datagrams int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(captureDir, name+".pcap"))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for b = b[24:]; len(b) >= 16 && datagrams < most; {
		n := int(le.Uint32(b[8:]))
		packet := b[16 : 16+n]
		b = b[16+n:]
		if packet[12] == 8 && packet[13] == 0 { // Ethernet, IPv4
			packet = packet[14:]
		}
		ihl := int(packet[0]&0xf) * 4
		if _, err := c.Write(packet[ihl+8:]); err != nil {
			t.Fatal(err)
		}
		datagrams++
	}
	return datagrams
}

// collect starts the program as a collector on loopback.
func collect(t *testing.T, args ...string) (p *program, flows, base string) {
	t.Helper()
	flows, addr := freeAddr(t), freeAddr(t)
	p = startProgram(t, append([]string{"-listen", "flow://" + flows + "?count=2", "-addr", addr, "-kube.off"}, args...)...)
	base = "http://" + addr
	p.eventually("ready", func() bool { _, code := get(t, base+"/readyz"); return code == http.StatusOK })
	return p, flows, base
}

// TestCollect receives, serves HTTP, and drains at SIGTERM.
func TestCollect(t *testing.T) {
	debugAddr := freeAddr(t)
	p, flows, base := collect(t, "-debug.addr", debugAddr, "-cluster", "c1")
	sendCapture(t, flows, "softflowd-v9")
	const n = 964
	p.eventually("written", func() bool {
		text, _ := get(t, base+"/metrics")
		return metric(text, "kube_enricher_records_written_total", "") == n
	})
	text := p.balances(base, n)
	for _, name := range []string{"datagrams_received_total", "datagram_bytes_received_total", "records_received_total", "templates", "exporters", "exporter_last_seen_timestamp_seconds", "build_info"} {
		if metric(text, "kube_enricher_"+name, "") == 0 {
			t.Errorf("kube_enricher_%s is 0 or missing", name)
		}
	}
	if body, code := get(t, base+"/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %q", code, body)
	}
	if body, code := get(t, "http://"+debugAddr+"/templates"); code != http.StatusOK || !strings.Contains(body, `"template-id": 1024`) {
		t.Errorf("/templates: %d %q", code, body)
	}
	if body, code := get(t, "http://"+debugAddr+"/exporters"); code != http.StatusOK || !strings.Contains(body, `"exporter": "127.0.0.1"`) || !strings.Contains(body, `"sequence_lost": 0`) {
		t.Errorf("/exporters: %d %q", code, body)
	}
	if _, code := get(t, base+"/templates"); code != http.StatusNotFound {
		t.Error("/templates is on -addr")
	}
	// What reached the sockets before the signal is written.
	sendCapture(t, flows, "softflowd-v9")
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	rs := records(t, p.stdout.String())
	if len(rs) != 2*n {
		t.Errorf("%d records of %d", len(rs), 2*n)
	}
	for _, r := range rs {
		if r["Cluster"] != "c1" {
			t.Fatalf("record without cluster: %v", r)
		}
	}
}

// TestIdleFlush sees a lone record at once, although the collector goes on.
func TestIdleFlush(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	flows := freeAddr(t)
	addr := freeAddr(t)
	p := startWith(t, nil, w, "-listen", "flow://"+flows, "-addr", addr, "-kube.off")
	w.Close()
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	c, err := net.Dial("udp", flows)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lines := bufio.NewReader(r)
	for range 3 {
		if _, err := c.Write(referenceMessage()); err != nil {
			t.Fatal(err)
		}
		if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, `"SrcAddr":"10.244.0.5"`) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	// The reader goes away: the program ends by itself, quietly.
	r.Close()
	p.eventuallyEnds(func() { _, _ = c.Write(referenceMessage()) })
	if code := p.wait(); code != exitDone || strings.Contains(p.stderr(), "level=error") {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// eventuallyEnds repeats f until the program has ended.
func (p *program) eventuallyEnds(f func()) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
			f()
		case <-timeout:
			p.t.Fatal("the program did not end: ", p.stderr())
		}
	}
}

// TestClosedPipe is `kube-enricher FILE | head -1`.
func TestClosedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-kube.off"}
	for range 40 {
		args = append(args, filepath.Join(captureDir, "pmacctd-v10.pcap"))
	}
	p := startWith(t, nil, w, args...)
	w.Close()
	if _, err := bufio.NewReaderSize(r, 512).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r.Close()
	code := p.wait()
	if line, rest, _ := strings.Cut(p.stderr(), "\n"); code != exitDone || !strings.Contains(line, "msg=started") || rest != "" {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestReopen moves the output file away, as logrotate does.
func TestReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "flows.json")
	p, flows, base := collect(t, "-transport.file", file)
	written := func(n float64) func() bool {
		return func() bool {
			text, _ := get(t, base+"/metrics")
			return metric(text, "kube_enricher_records_written_total", "") == n
		}
	}
	sendCapture(t, flows, "fprobe-v5")
	p.eventually("first", written(225))
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.eventually("reopened", func() bool { _, err := os.Stat(file); return err == nil })
	sendCapture(t, flows, "fprobe-v5")
	p.eventually("second", written(450))
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	for _, f := range []string{file, file + ".1"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(records(t, string(b))); n != 225 {
			t.Errorf("%s: %d records", f, n)
		}
	}
}

// TestManyWorkers has several sockets write to one file: lines stay whole.
func TestManyWorkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "flows.json")
	flows, addr := freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+flows+"?count=8", "-addr", addr, "-kube.off", "-transport.file", file)
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	const exporters = 24
	for range exporters {
		sendCapture(t, flows, "softflowd-v5")
	}
	p.eventually("written", func() bool {
		text, _ := get(t, "http://"+addr+"/metrics")
		return metric(text, "kube_enricher_records_written_total", "") == 744*exporters
	})
	p.balances("http://"+addr, 744*exporters)
	p.signal(syscall.SIGTERM)
	p.wait()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, string(b))); n != 744*exporters {
		t.Errorf("%d records", n)
	}
}

// TestPortInUse fails with one line that names the port.
func TestPortInUse(t *testing.T) {
	p, flows, base := collect(t)
	_, stderr, code := runProgram(t, "-listen", "flow://"+flows, "-addr", "", "-kube.off")
	if code != exitFailed || strings.Count(lastLine(stderr), flows) != 1 || !strings.Contains(stderr, "in use") {
		t.Errorf("exit code %d: %q", code, stderr)
	}
	_, stderr, code = runProgram(t, "-listen", "flow://"+freeAddr(t), "-addr", strings.TrimPrefix(base, "http://"), "-kube.off")
	if code != exitFailed || !strings.Contains(stderr, "-addr") || !strings.Contains(stderr, "in use") {
		t.Errorf("exit code %d: %q", code, stderr)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// startStalled starts a program that has received 5 * 744 records, and whose output nobody reads.
func startStalled(t *testing.T) (p *program, base string) {
	t.Helper()
	r, w, err := os.Pipe() // nobody reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	flows, addr := freeAddr(t), freeAddr(t)
	p = startWith(t, nil, w, "-listen", "flow://"+flows, "-addr", addr, "-kube.off")
	w.Close()
	base = "http://" + addr
	p.eventually("ready", func() bool { _, code := get(t, base+"/readyz"); return code == http.StatusOK })
	for range 5 {
		sendCapture(t, flows, "softflowd-v5")
	}
	p.eventually("received", func() bool {
		text, _ := get(t, base+"/metrics")
		return metric(text, "kube_enricher_records_received_total", "") == 5*744
	})
	return p, base
}

// TestSecondSignal ends at once, although the output is stalled.
func TestSecondSignal(t *testing.T) {
	p, base := startStalled(t)
	p.balances(base, 5*744)
	p.signal(syscall.SIGTERM)
	p.eventually("stopping", func() bool { return strings.Contains(p.stderr(), "second signal ends at once") })
	start := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitFailed || time.Since(start) > 5*time.Second {
		t.Errorf("exit code %d after %s: %s", code, time.Since(start), p.stderr())
	}
}

// TestTwinSignals signals twice at once, as timeout(1) does: that is one signal.
func TestTwinSignals(t *testing.T) {
	addr := freeAddr(t)
	p := startProgram(t, "-listen", "flow://127.0.0.1:0", "-addr", addr, "-kube.off")
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone || !strings.Contains(p.stderr(), "msg=done") {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestPipeMode is `goflow2 | kube-enricher`, in goflow2's two naming styles.
func TestPipeMode(t *testing.T) {
	const in = `{"type":"IPFIX","time_received_ns":1795399200000000000,"src_addr":"10.244.0.5","dst_addr":"10.96.0.1","bytes":1e3,"big":18446744073709551615}
{"SrcAddr":"10.244.0.6", "TimeReceived":1795399200, "DstAddr":"203.0.113.9" }
not json
`
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(w, in); w.Close() }()
	p := startWith(t, r, nil, "-kube.snapshot", demoSnapshot)
	code := p.wait()
	lines := strings.Split(p.stdout.String(), "\n")
	if code != exitDone || len(lines) != 4 || lines[3] != "" {
		t.Fatalf("exit code %d, %q, %s", code, lines, p.stderr())
	}
	if !strings.HasPrefix(lines[0], strings.TrimSuffix(strings.SplitAfter(in, "\n")[0], "}\n")) || !strings.Contains(lines[0], `,"src_pod":"`) ||
		!strings.Contains(lines[0], `"dst_workload_kind":"Service"`) || strings.Contains(lines[0], "SrcPod") {
		t.Errorf("first line %s", lines[0])
	}
	if !strings.HasPrefix(lines[1], `{"SrcAddr":"10.244.0.6", "TimeReceived":1795399200, "DstAddr":"203.0.113.9" `) || !strings.Contains(lines[1], `"SrcPod":"`) || strings.Contains(lines[1], "DstPod") {
		t.Errorf("second line %s", lines[1])
	}
	if lines[2] != "not json" {
		t.Errorf("third line %s", lines[2])
	}
	if !strings.Contains(p.stderr(), "standard input is a pipe") {
		t.Errorf("nothing says where input comes from: %s", p.stderr())
	}
}

// TestStdinByName reads a file on standard input by the name -.
func TestStdinByName(t *testing.T) {
	p := startWith(t, strings.NewReader(`{"SrcAddr":"192.0.2.1"}`), nil, "-kube.off", "-")
	if code := p.wait(); code != exitDone || p.stdout.String() != `{"SrcAddr":"192.0.2.1"}`+"\n" {
		t.Errorf("exit code %d, %q, %s", code, p.stdout.String(), p.stderr())
	}
}
