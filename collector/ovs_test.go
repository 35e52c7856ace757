package collector

import (
	"encoding/csv"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// conversation is what wire tables and records are compared by.
type conversation struct {
	src, dst     netip.Addr
	sport, dport uint32
	proto        uint32
}

type volume struct{ packets, bytes uint64 }

// podAddrs are the addresses of the pods whose interfaces wire tables are of.
var podAddrs = map[string][]string{
	"pod-a": {"10.244.0.5", "fd00:10:244::5"},
	"pod-b": {"10.244.0.6", "fd00:10:244::6"},
	"pod-c": {"10.244.1.7", "fd00:10:244:1::7"}, // on the other node
	"pod-d": {"10.244.0.7", "fd00:10:244::7"},
}

// sent reads from a wire table what the pods on the given points sent: that is
// what crossed their own interfaces. Bytes are those of column.
func sent(t *testing.T, name, column string, points ...string) map[conversation]volume {
	t.Helper()
	f, err := os.Open("../testdata/captures/" + name + ".wire.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := func(row []string, column string) string { return row[slices.Index(rows[0], column)] }
	number := func(s string) uint64 {
		n, _ := strconv.ParseUint(s, 0, 64) // empty is 0
		return n
	}
	sums := make(map[conversation]volume)
	for _, row := range rows[1:] {
		point, src := at(row, "point"), at(row, "src")
		if !slices.Contains(points, point) || !slices.Contains(podAddrs[point], src) {
			continue
		}
		c := conversation{netip.MustParseAddr(src), netip.MustParseAddr(at(row, "dst")), uint32(number(at(row, "sport"))), uint32(number(at(row, "dport"))), uint32(number(at(row, "proto")))}
		v := sums[c]
		sums[c] = volume{v.packets + number(at(row, "packets")), v.bytes + number(at(row, column))}
	}
	if len(sums) < 5 {
		t.Fatalf("%s: %d conversations", name, len(sums))
	}
	return sums
}

// TestRepeated holds the records that count to what was really sent, as it was
// counted on the pods' interfaces.
func TestRepeated(t *testing.T) {
	all := []string{"pod-a", "pod-b", "pod-c", "pod-d"}
	node1 := []string{"pod-a", "pod-b", "pod-d"} // pod-c's node exports nothing
	for name, test := range map[string]struct {
		points  []string
		column  string
		trailer uint64 // bytes a packet that the exporter counts beside column
	}{
		"ovs-ipfix-2node-geneve": {points: all, column: "ip_bytes"},
		"ovs-ipfix":              {points: node1, column: "ip_bytes"},
		"ovs-ipfix-nocache":      {points: node1, column: "ip_bytes"},
		"ovs-sflow":              {points: node1, column: "l2_bytes", trailer: 4}, // the frame check sequence
	} {
		t.Run(name, func(t *testing.T) {
			got := make(map[conversation]volume)
			counted, repeated := 0, 0
			c, _ := newTestCollector(t)
			d := c.NewDecoder(&sink{f: func(r *flow.Record) {
				src, ok := r.Addr(flow.FieldSrcAddr)
				dst, _ := r.Addr(flow.FieldDstAddr)
				if !ok {
					return
				}
				if r.Extra.Duplicate {
					repeated++
					return
				}
				counted++
				k := conversation{src, dst, r.Msg.SrcPort, r.Msg.DstPort, r.Msg.Proto}
				v := got[k]
				got[k] = volume{v.packets + r.Msg.Packets, v.bytes + r.Msg.Bytes}
			}})
			for _, g := range readCapture(t, name) {
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
			}
			want := sent(t, name, test.column, test.points...)
			for k, v := range want {
				v.bytes += v.packets * test.trailer
				if got[k] != v {
					t.Errorf("%v: %+v, want %+v", k, got[k], v)
				}
				delete(got, k)
			}
			for k, v := range got {
				t.Errorf("%v: %+v, which was never sent", k, v)
			}
			t.Logf("%d records count, %d are repeated", counted, repeated)
			if repeated == 0 {
				t.Error("no record is repeated")
			}
		})
	}
}

// TestNotRepeated: of other exporters nothing is known, so all records count,
// and their counters are to be multiplied by the sampling rate.
func TestNotRepeated(t *testing.T) {
	for _, name := range []string{"softflowd-v5", "softflowd-v9", "softflowd-v10", "softflowd-v9-sampled10", "pmacctd-v10", "pmacctd-sflow-s10", "fprobe-v5", "ovs-netflow5"} {
		c, _ := newTestCollector(t)
		egress := 0
		d := c.NewDecoder(&sink{f: func(r *flow.Record) {
			if r.Extra.Duplicate || r.Extra.Scaled {
				t.Errorf("%s: a record is repeated (%v) or scaled (%v)", name, r.Extra.Duplicate, r.Extra.Scaled)
			}
			egress += int(r.Extra.FlowDirection)
		}})
		for _, g := range readCapture(t, name) {
			d.Datagram(g.source, AnyFlow, g.payload, g.received)
		}
		// softflowd calls the answers egress: they are no repetition.
		if name == "softflowd-v10" && egress == 0 {
			t.Errorf("%s: no record of direction egress", name)
		}
	}
}

// TestClassifyOVSRecord has what the captures lack: bridges joined by patch ports,
// and versions without names of interfaces.
func TestClassifyOVSRecord(t *testing.T) {
	pod, eth, tunnel, patch := []byte("pod-a-h"), []byte("pod-b-h"), []byte("ovn-node2-0"), []byte("patch-br-int-to-br-ex_node1")
	for name, test := range map[string]struct {
		extra flow.Extra
		want  bool
	}{
		"into the bridge":                        {flow.Extra{OwnFields: flow.OwnFields{InIfName: pod}}, false},
		"into the bridge, without names":         {flow.Extra{}, false},
		"out of a tunnel":                        {flow.Extra{OwnFields: flow.OwnFields{InIfName: tunnel, TunnelType: 7, TunnelSrcAddr: []byte{172, 18, 0, 3}}}, true},
		"out of a tunnel of unknown type":        {flow.Extra{OwnFields: flow.OwnFields{TunnelSrcAddr: []byte{172, 18, 0, 3}}}, true},
		"from port to port":                      {flow.Extra{OwnFields: flow.OwnFields{FlowDirection: 1, InIfName: pod, OutIfName: eth}}, true},
		"from a tunnel to a port":                {flow.Extra{OwnFields: flow.OwnFields{FlowDirection: 1, InIfName: tunnel, OutIfName: pod}}, true},
		"from another bridge to a port":          {flow.Extra{OwnFields: flow.OwnFields{FlowDirection: 1, OutIfName: pod}}, false},
		"out of the bridge, all without a name":  {flow.Extra{OwnFields: flow.OwnFields{FlowDirection: 1}}, true},
		"ingress, whatever the name of the port": {flow.Extra{OwnFields: flow.OwnFields{InIfName: eth, OutIfName: pod}}, false},
		"in from ovn-controller":                 {flow.Extra{OwnFields: flow.OwnFields{InIfName: patch}}, true},
		"in from ovn-controller, to a port":      {flow.Extra{OwnFields: flow.OwnFields{InIfName: patch, OutIfName: pod}}, true},
		"from ovn-controller to a port":          {flow.Extra{OwnFields: flow.OwnFields{FlowDirection: 1, InIfName: patch, OutIfName: pod}}, false},
		"from ovn-controller to no port":         {flow.Extra{OwnFields: flow.OwnFields{FlowDirection: 1, InIfName: patch}}, true},
		"a pod's port, named like a patch port":  {flow.Extra{OwnFields: flow.OwnFields{InIfName: []byte("dispatch-0")}}, false},
	} {
		r := &flow.Record{Extra: test.extra}
		classifyOVSRecord(r)
		if got := r.Extra.Duplicate; got != test.want {
			t.Errorf("%s: repeated is %v, want %v", name, got, test.want)
		}
		if got, want := r.Extra.FromTunnel, strings.HasPrefix(name, "out of a tunnel"); got != want {
			t.Errorf("%s: from a tunnel: %v, want %v", name, got, want)
		}
		if r.Extra.Sampled || !r.Extra.Scaled {
			t.Errorf("%s: sampled is %v, scaled %v", name, r.Extra.Sampled, r.Extra.Scaled)
		}
		r.Msg.ObservationPointId = 4301
		if classifyOVSRecord(r); !r.Extra.Sampled {
			t.Errorf("%s: no sample, with an observation point", name)
		}
	}
}
