package hubble

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	root     = "../../"
	captures = root + "testdata/captures-ovn/"
)

var update = flag.Bool("update", false, "write the golden files anew")

// freePort returns an address of loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// program runs the program with arguments until the test ends, and returns the address that
// Hubble's clients connect to once it answers with so many flows.
func program(t *testing.T, flows uint64, args ...string) string {
	t.Helper()
	binary, err := filepath.Abs("bin/kube-enricher")
	if err != nil {
		t.Fatal(err)
	}
	addr := freePort(t)
	var stderr bytes.Buffer
	cmd := exec.Command(binary, append([]string{
		"-hubble.addr", addr, "-kube.snapshot", captures + "snapshot.yaml", "-transport.file", os.DevNull, "-loglevel", "warning",
	}, args...)...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program ended: %v\n%s", err, stderr.String())
		}
	})
	c := client(t, addr)
	deadline := time.Now().Add(30 * time.Second)
	for {
		st, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		if err == nil && st.GetNumFlows() == flows {
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %v, %v\n%s", st, err, stderr.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// captured runs the program on a capture.
func captured(t *testing.T, capture string, flows uint64) string {
	t.Helper()
	return program(t, flows, captures+capture)
}

func client(t *testing.T, addr string) observerpb.ObserverClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return observerpb.NewObserverClient(conn)
}

// command returns the hubble command with arguments.
func command(ctx context.Context, addr string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bin/hubble", append([]string{"--server", addr}, args...)...)
	// No settings of whoever runs the test.
	cmd.Env = []string{"HOME=/nonexistent", "TZ=UTC", "NO_COLOR=1"}
	return cmd
}

// run runs the hubble command and returns what it prints, its errors included.
func run(t *testing.T, addr string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), addr, args...).CombinedOutput()
	if err != nil {
		t.Errorf("hubble %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// changing is what is not the same in each run.
var changing = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:PORT"},
	{regexp.MustCompile(`(Flows/s: ).*`), "${1}RATE"},
	{regexp.MustCompile(`Connected( +)\S+( +)[\d.]+( +)(\d+)/\d+ \([ \d.]+%\)`), "Connected AGE RATE $4/MAX"},
	{regexp.MustCompile(`(Flows: \d+)/[\d,]+ \([\d.]+%\)`), "$1/MAX"},
	{regexp.MustCompile(`kube-enricher (unknown|v?[\d.]+\S*)`), "kube-enricher VERSION"},
	{regexp.MustCompile(`"version":"[^"]*"`), `"version":"VERSION"`},
}

// TestCommand holds what the command prints to golden files, which people have read.
func TestCommand(t *testing.T) {
	addr := captured(t, "ovs4-ipfix1.pcap.gz", 235)
	for _, tt := range []struct {
		name string
		args string
	}{
		{"status", "status"},
		{"list-nodes", "list nodes"},
		{"list-nodes-wide", "list nodes -o wide"},
		{"list-namespaces", "list namespaces"},
		{"observe", "observe --protocol tcp"},
		{"observe-first", "observe --first 3"},
		{"observe-last", "observe --last 3"},
		{"observe-range", "observe --since 2026-11-28T15:16:28Z --until 2026-11-28T15:16:30Z --protocol udp"},
		{"observe-table", "observe --last 5 --protocol udp -o table"},
		{"observe-dict", "observe --last 2 --protocol udp -o dict"},
		{"observe-json", "observe --last 3 --protocol tcp -o jsonpb"},
		{"observe-mask", "observe --last 3 --protocol tcp -o jsonpb --field-mask source.labels,l4"},
		{"observe-node", "observe --all --node-name ovn-node2 --print-node-name --protocol tcp"},
		{"filter-pod", "observe --all --pod shop/client --protocol udp"},
		{"filter-from-pod", "observe --all --from-pod shop/client --to-pod shop/web --protocol udp"},
		{"filter-namespace", "observe --all -n default"},
		{"filter-namespaces", "observe --all --from-namespace shop --to-namespace default"},
		{"filter-label", "observe --all -l app=server --protocol tcp"},
		{"filter-label-set", "observe --all --from-label k8s:app=web --protocol udp"},
		{"filter-reserved", "observe --all --to-label reserved:host"},
		{"filter-ip", "observe --all --ip 10.244.0.6"},
		{"filter-cidr", "observe --all --to-ip 172.18.0.0/16"},
		{"filter-port", "observe --all --to-port 7000"},
		{"filter-verdict", "observe --all --verdict FORWARDED --protocol udp"},
		{"filter-workload", "observe --all --from-workload Deployment/web --protocol udp"},
		{"filter-service", "observe --all --service shop/web"},
		{"filter-direction", "observe --all --traffic-direction egress --protocol udp"},
		{"filter-type", "observe --all -t trace:to-endpoint --protocol udp"},
		{"filter-not", "observe --all --not --protocol tcp --not --protocol icmp"},
		{"filter-reply", "observe --all --reply --protocol udp"},
		{"filter-ipv6", "observe --all --ipv6 --protocol tcp"},
		{"filter-identity", "observe --all --identity host --protocol icmp"},
	} {
		t.Run(tt.name, func(t *testing.T) { golden(t, tt.name, run(t, addr, strings.Fields(tt.args)...)) })
	}
}

// TestRefusedCommand: filters that can have no flows are answered by an error that says why.
func TestRefusedCommand(t *testing.T) {
	addr := captured(t, "ovs4-ipfix1.pcap.gz", 235)
	for _, args := range []string{
		"--http-method get", "--http-path /", "--http-status 404", "--http-url http://.*", "--http-header a:b", "--protocol http", "--protocol dns", "--encrypted",
		"--trace-id 1", "--ip-trace-id 1", "--node-label a=b", "--cel-expression true",
	} {
		out, err := command(t.Context(), addr, append([]string{"observe", "--all"}, strings.Fields(args)...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no record tells") && !strings.Contains(string(out), "CEL") {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}

// TestNetworks names ends outside of the cluster, and asks for them by their names.
func TestNetworks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "networks.yaml")
	if err := os.WriteFile(file, []byte("172.18.0.0/16: lab-hosts\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := program(t, 235, "-networks", file, captures+"ovs4-ipfix1.pcap.gz")
	golden(t, "networks-name", run(t, addr, "observe", "--all", "--to-fqdn", "lab-*", "--protocol", "tcp"))
	golden(t, "networks-label", run(t, addr, "observe", "--all", "--from-label", "gen:subnet.label=lab-hosts", "--protocol", "tcp", "-o", "jsonpb"))
}

// TestPolicies shows what OVN's network policies decided, and which of them.
func TestPolicies(t *testing.T) {
	addr := program(t, 255, "-ovn.nb", root+"internal/policy/testdata/nb-samples.json", captures+"ovn-sample.pcap.gz")
	for _, tt := range []struct{ name, args string }{
		{"policies-dropped", "observe --all --verdict DROPPED --print-policy-names"},
		{"policies-allowed", "observe --last 20 --verdict FORWARDED --print-policy-names --to-pod shop/denied"},
		{"policies-egress", "observe --all -t policy-verdict --traffic-direction egress --print-policy-names"},
	} {
		t.Run(tt.name, func(t *testing.T) { golden(t, tt.name, run(t, addr, strings.Fields(tt.args)...)) })
	}
}

// golden compares a text with a golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, c := range changing {
		got = c.pattern.ReplaceAllString(got, c.text)
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant, as in %s,\n%s", got, file, want)
	}
}

// TestFollowCommand follows what a collecting program receives.
func TestFollowCommand(t *testing.T) {
	port := freePort(t)
	addr := program(t, 0, "-listen", "netflow://"+port, "-addr", "")
	cmd := command(t.Context(), addr, "observe", "--follow", "--from-pod", "shop/client", "-o", "jsonpb")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	lines := make(chan string, 100)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := out.Read(b)
			if n > 0 {
				lines <- string(b[:n])
			}
			if err == io.EOF || err != nil {
				close(lines)
				return
			}
		}
	}()
	conn, err := net.Dial("udp", port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 300 { // until the command follows
		if _, err := conn.Write(netflow5()); err != nil {
			t.Fatal(err)
		}
		select {
		case line, ok := <-lines:
			if !ok || !strings.Contains(line, `"pod_name":"client-`) || !strings.Contains(line, `"destination_port":8080`) {
				t.Fatalf("the command prints %q", line)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatal("the command prints nothing")
}

// netflow5 is a datagram with one flow from the lab's client.
func netflow5() []byte {
	b := make([]byte, 24+48)
	b[1], b[3] = 5, 1 // version, records
	now := uint32(time.Now().Unix())
	b[8], b[9], b[10], b[11] = byte(now>>24), byte(now>>16), byte(now>>8), byte(now)
	r := b[24:]
	copy(r, []byte{10, 244, 0, 5})
	copy(r[4:], []byte{10, 244, 0, 6})
	r[19], r[23] = 3, 200                               // packets, bytes
	r[32], r[33], r[34], r[35] = 0x9c, 0x41, 0x1f, 0x90 // ports 40001 and 8080
	r[38] = 6
	return b
}
