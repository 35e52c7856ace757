package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// TestCaptureOnStdin gives captures on standard input, which are known by how they begin, and
// files with any name. The records are those of the file.
func TestCaptureOnStdin(t *testing.T) {
	file := filepath.Join(captureDir, "softflowd-v9.pcap")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, _, code := runProgram(t, "-kube.snapshot", demoSnapshot, file)
	if code != exitDone || strings.Count(want, "\n") != 964 {
		t.Fatalf("exit code %d", code)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		data []byte
		args []string
	}{
		{"pipe", raw, nil},
		{"dash", raw, []string{"-"}},
		{"said outright", raw, []string{"-input", "capture", "-"}},
		{"compressed", zipped.Bytes(), []string{"-"}},
	} {
		cmd := command(t, append([]string{"-kube.snapshot", demoSnapshot}, tc.args...)...)
		cmd.Stdin = &onePiece{data: tc.data}
		out, err := cmd.Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %v, %d bytes of %d", tc.name, err, len(out), len(want))
		}
	}
	named := filepath.Join(t.TempDir(), "export of today")
	if err := os.WriteFile(named, zipped.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, code := runProgram(t, "-kube.snapshot", demoSnapshot, named); code != exitDone || got != want {
		t.Errorf("any name: exit code %d", code)
	}
}

// onePiece is read byte by byte at first, so that the program has to wait for the rest of what
// tells a capture.
type onePiece struct{ data []byte }

func (r *onePiece) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	if len(r.data) > 3 && len(p) > 1 && r.data[0] != 0 {
		p = p[:1]
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

// TestNoCapture gives files that are no captures. What is wrong is the same with -check.
func TestNoCapture(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tc := range []struct{ file, want string }{
		{file("empty.pcap", ""), "is empty; give a pcap or pcapng file"},
		{file("flows.json", `{"SrcAddr":"10.0.0.1"}`), "looks like JSON; give records on standard input: kube-enricher - < "},
		{file("text.pcap", "hello"), "is no capture: it begins with 68656c6c"},
		{dir, "is a directory; give a capture in it"},
		{filepath.Join(dir, "none.pcap"), "no such file"},
	} {
		for _, args := range [][]string{{"-kube.off", tc.file}, {"-kube.off", "-check", tc.file}} {
			if _, stderr, code := runProgram(t, args...); code != exitUsage || !strings.Contains(stderr, tc.want) {
				t.Errorf("%v: exit code %d: %s", args, code, stderr)
			}
		}
	}
}

// dnsCapture returns a capture of DNS, made by gopacket.
func dnsCapture(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
		udp := &layers.UDP{SrcPort: 40000, DstPort: 53}
		if i == 7 {
			udp.DstPort = 123
		}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		packet := gopacket.NewSerializeBuffer()
		eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
		err := gopacket.SerializeLayers(packet, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, gopacket.Payload("a query of DNS"))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(packet.Bytes()), Length: len(packet.Bytes())}, packet.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestNoExport reads a capture without exports.
func TestNoExport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dns.cap")
	if err := os.WriteFile(file, dnsCapture(t), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runProgram(t, "-kube.off", file)
	if code != exitDone || stdout != "" || !strings.Contains(stderr, `msg="no packet of the capture is a flow export"`) || !strings.Contains(stderr, `packets=50 udp_ports="53,123"`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestWrongPort sends IPFIX to a port for sFlow, and sFlow to one for NetFlow. The log says what
// it is, and the way out.
func TestWrongPort(t *testing.T) {
	for _, tc := range []struct{ scheme, capture, want string }{
		{"sflow", "ovs-ipfix", "it is IPFIX, and port PORT is for sFlow; send it to a port of netflow:// in -listen, or give -listen flow://:PORT for any"},
		{"netflow", "ovs-sflow", "it is sFlow, and port PORT is for NetFlow and IPFIX; send it to a port of sflow:// in -listen, or give -listen flow://:PORT for any"},
	} {
		flows := freeAddr(t)
		p := startProgram(t, "-listen", tc.scheme+"://"+flows, "-addr", "", "-kube.off")
		p.eventually("started", func() bool { return strings.Contains(p.stderr(), "msg=started") })
		sendCapture(t, flows, tc.capture)
		_, port, _ := net.SplitHostPort(flows)
		p.eventually("the log says so", func() bool { return strings.Contains(p.stderr(), strings.ReplaceAll(tc.want, "PORT", port)) })
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != exitDone {
			t.Errorf("exit code %d: %s", code, p.stderr())
		}
	}
}

// TestCutShort stops captures and pipes whose ends have not come by signals. The exit code is
// that of a shell for such a signal, and the log says how far the program came.
func TestCutShort(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(captureDir, "softflowd-v9.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		data   []byte
		n      float64 // records in it
		signal syscall.Signal
		want   string
	}{
		{"capture", raw[:30000], 560, syscall.SIGINT, `msg="the capture was cut short" capture="standard input" packets=21`},
		{"lines", []byte("{\"SrcAddr\":\"10.0.0.1\"}\n"), 1, syscall.SIGTERM, "received=1 written=1"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		addr := freeAddr(t)
		p := startWith(t, r, nil, "-kube.off", "-addr", addr, "-")
		r.Close()
		if _, err := w.Write(tc.data); err != nil {
			t.Fatal(err)
		}
		p.eventually("read", func() bool {
			text, _ := get(t, "http://"+addr+"/metrics")
			return metric(text, "kube_enricher_records_received_total", "") == tc.n
		})
		p.signal(tc.signal)
		if code := p.wait(); code != exitSignal+int(tc.signal) || !strings.Contains(p.stderr(), tc.want) {
			t.Errorf("%s: exit code %d: %s", tc.name, code, p.stderr())
		}
	}
}

// TestCheckSays wants -check to say what it has looked at, and that it did not contact a cluster.
func TestCheckSays(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "config")
	config := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-kube.off", "-filter", "Bytes > 1", filepath.Join(captureDir, "ovs-ipfix.pcap")}, "ok: flags, filter, 1 captures, outputs file:json\n"},
		{[]string{"-kubeconfig", kubeconfig}, "ok: flags, kubeconfig, outputs file:json; cluster not contacted\n"},
	} {
		if stdout, stderr, code := runProgram(t, append([]string{"-check"}, tc.args...)...); code != exitDone || stdout != tc.want {
			t.Errorf("exit code %d: %q %s", code, stdout, stderr)
		}
	}
}

// TestSnapshotWithoutPods wants a warning for a snapshot that can hardly be meant.
func TestSnapshotWithoutPods(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: v1\nkind: List\nitems: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := runProgram(t, "-kube.snapshot", file, filepath.Join(captureDir, "ovs-ipfix.pcap"))
	if code != exitDone || !strings.Contains(stderr, "level=warning msg=\"snapshot read; it has no pods") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
