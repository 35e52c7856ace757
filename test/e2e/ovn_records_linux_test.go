package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// ovnCollector is the running program, and what it wrote.
type ovnCollector struct {
	*enricher
	all []*ovnRecord
}

// ovnRecord is a record, and the parts of it that are compared.
type ovnRecord struct {
	record
	kind string // Type
	lab.Conversation
	exporter netip.Addr
	egress   bool
	port     string // the interface that it was taken at, in IPFIX
	inIf     int
	tunnel   bool
	once     bool // CountsOnce
	count    lab.Count
}

func (e *ovnCollector) addRecord(line []byte) {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		e.bad = append(e.bad, string(line))
		return
	}
	text := func(field string) string { s, _ := r[field].(string); return s }
	addr := func(field string) netip.Addr { a, _ := netip.ParseAddr(text(field)); return a }
	number := func(field string) int { n, _ := r[field].(float64); return int(n) }
	o := &ovnRecord{
		record: r, kind: text("Type"), exporter: addr("SamplerAddress"), inIf: number("InIf"), egress: number("FlowDirection") == 1, tunnel: number("TunnelType") != 0,
		Conversation: lab.Conversation{Src: addr("SrcAddr"), Dst: addr("DstAddr"), Proto: uint8(number("Proto"))},
		count:        lab.Count{Packets: number("Packets"), Bytes: number("Bytes")},
	}
	o.once, _ = r["CountsOnce"].(bool)
	if o.Proto == 6 || o.Proto == 17 {
		o.SrcPort, o.DstPort = uint16(number("SrcPort")), uint16(number("DstPort"))
	}
	if o.port = text("InIfName"); o.egress {
		o.port = text("OutIfName")
	}
	e.all = append(e.all, o)
}

const ipfix, sflow = "IPFIX", "SFLOW_5"

// records returns all records of some kinds that have addresses.
func (e *ovnCollector) records(kinds ...string) []*ovnRecord {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*ovnRecord
	for _, r := range e.all {
		if r.Src.IsValid() && slices.Contains(kinds, r.kind) {
			found = append(found, r)
		}
	}
	return found
}

// objects writes the file of the lab's Kubernetes objects, which are those of the
// captures, without an annotation that today's OVN-Kubernetes writes no more.
func objects(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(root + "/testdata/captures-ovn/snapshot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const old = "k8s.ovn.org/node-gateway-router-lrp-ifaddrs"
	if strings.Count(string(text), old) != 2 || strings.Count(string(text), "k8s.ovn.org/node-id") != 2 {
		t.Fatal("the objects have other annotations than they should")
	}
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), old, "example.org/old")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// collect starts the program in the collector's namespace.
func (c *ovnLab) collect(args ...string) *ovnCollector {
	t := c.t
	t.Helper()
	port := harness.FreePort(t)
	e := &ovnCollector{enricher: &enricher{http: fmt.Sprintf("127.0.0.1:%d", port)}}
	c.lab.Forward("", e.http, collector, "127.0.0.1:8080")
	e.stdout = lineWriter{mu: &e.mu, line: e.addRecord}
	e.stderr = lineWriter{mu: &e.mu, line: e.addLog}
	cmd := c.lab.Command(collector, append([]string{
		binary, "-listen", "netflow://:2055,sflow://:6343", "-addr", ":8080", "-logfmt", "json", "-kube.snapshot", objects(t),
		"-fields", "default,+PNode,+CountsOnce,+FlowDirection,+InIfName,+OutIfName,+TunnelType",
	}, args...)...)
	cmd.Env = command(t).Env
	e.launch(t, cmd)
	e.waitReady(t)
	return e
}

// export has both nodes export every packet of br-int by IPFIX and sFlow, with the
// commands that OVN-Kubernetes issues for its targets.
func (c *ovnLab) export() {
	for _, n := range c.nodes {
		n.sw.Vsctl("--", "--id=@ipfix", "create", "ipfix", fmt.Sprintf(`targets=["%s:2055"]`, collectorAddr),
			"cache_active_timeout=2", "cache_max_flows=10000", "sampling=1", "--", "set", "bridge", "br-int", "ipfix=@ipfix")
		n.sw.Vsctl("--", "--id=@sflow", "create", "sflow", "agent="+mgmtPort, fmt.Sprintf(`targets=["%s:6343"]`, collectorAddr),
			"sampling=1", "--", "set", "bridge", "br-int", "sflow=@sflow")
	}
}
