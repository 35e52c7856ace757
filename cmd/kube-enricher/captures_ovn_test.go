package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The captures of OVN are compared with what pods and hosts saw at their
// interfaces, which was counted independently.

// conversation is one direction of a flow at one interface. Ports are empty for
// what has none.
type conversation struct {
	at, dir  string // the interface, "out" for what the pod or host there sent
	src, dst string
	proto    string
	srcPort  string
	dstPort  string
}

func (c conversation) portless() conversation {
	if c.proto == "1" || c.proto == "58" {
		c.srcPort, c.dstPort = "", ""
	}
	return c
}

type counters struct{ packets, bytes uint64 }

// add adds to the counters of a conversation.
func add(t *testing.T, m map[conversation]counters, c conversation, packets, bytes string) {
	t.Helper()
	p, err1 := strconv.ParseUint(packets, 10, 64)
	b, err2 := strconv.ParseUint(bytes, 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	sum := m[c.portless()]
	m[c.portless()] = counters{sum.packets + p, sum.bytes + b}
}

// ovnTruth reads what was seen at the interfaces of pods and hosts.
func ovnTruth(t *testing.T, name string) map[conversation]counters {
	t.Helper()
	header, rows := readTable(t, filepath.Join(ovnDir, name+".truth.csv"))
	truth := make(map[conversation]counters)
	for _, row := range rows {
		col := func(name string) string { return row[slices.Index(header, name)] }
		at := col("interface")
		if at == "ext" {
			continue // beyond the gateways
		}
		add(t, truth, conversation{at, col("dir"), col("src"), col("dst"), col("proto"), col("sport"), col("dport")}, col("packets"), col("bytes"))
	}
	return truth
}

func ovnRecords(t *testing.T, file string) []map[string]any {
	t.Helper()
	return records(t, outputOf(t, "-kube.off", "-fields", "all", "-loglevel", "error", filepath.Join(ovnDir, file)))
}

func tupleOf(r map[string]any) conversation {
	return conversation{src: text(r["SrcAddr"]), dst: text(r["DstAddr"]), proto: text(r["Proto"]), srcPort: text(r["SrcPort"]), dstPort: text(r["DstPort"])}
}

// interfaces sums the records of IPFIX up by the interface of a pod or host that
// each was taken at.
func interfaces(t *testing.T, list []map[string]any) map[conversation]counters {
	t.Helper()
	hosts := map[string]string{"172.18.0.2": "node1", "172.18.0.3": "node2"}
	sums := make(map[conversation]counters)
	for _, r := range list {
		c := tupleOf(r)
		c.at, c.dir = text(r["InIfName"]), "out"
		if text(r["FlowDirection"]) == "1" {
			c.at, c.dir = text(r["OutIfName"]), "in"
		}
		if c.src == "" || text(r["TunnelType"]) != "0" || strings.HasPrefix(c.at, "patch") || strings.HasPrefix(c.at, "ovn-chassi") {
			continue
		}
		if c.at == "ovn-k8s-mp0" {
			c.at = hosts[text(r["SamplerAddress"])]
		}
		add(t, sums, c, text(r["Packets"]), text(r["Bytes"]))
	}
	return sums
}

// TestOVNCaptures compares records with what pods and hosts saw at their
// interfaces.
func TestOVNCaptures(t *testing.T) {
	for _, name := range []string{"ipfix1", "ovs4-ipfix1"} {
		t.Run(name, func(t *testing.T) {
			truth, got := ovnTruth(t, name), interfaces(t, ovnRecords(t, name+".pcap.gz"))
			maps.DeleteFunc(got, unsteady)
			maps.DeleteFunc(truth, unsteady)
			if len(truth) < 100 {
				t.Errorf("%d conversations", len(truth))
			}
			var wrong []string
			for c, want := range truth {
				if got[c] != want {
					wrong = append(wrong, fmt.Sprintf("%v: %v, want %v", c, got[c], want))
				}
				delete(got, c)
			}
			for c, n := range got {
				wrong = append(wrong, fmt.Sprintf("%v: %v, want none", c, n))
			}
			complain(t, wrong)
		})
	}
	// A frame of NetFlow has the Ethernet header, one of sFlow its checksum, too.
	for _, tc := range []struct {
		name     string
		overhead uint64
		want     int
	}{{"netflow", 14, 30}, {"sflow1", 18, 50}} {
		t.Run(tc.name, func(t *testing.T) { ovnSent(t, tc.name, tc.overhead, tc.want) })
	}
}

// unsteady reports whether a conversation goes on by itself, between the nodes'
// link-local addresses: its first and last packets are not in all captures.
func unsteady(c conversation, _ counters) bool {
	return c.proto == "58" && strings.HasPrefix(c.src, "fe80:")
}

// ovnSent looks for all that pods sent by TCP and UDP, in what one exporter says
// of one of its interfaces: the names of interfaces are not in these protocols.
func ovnSent(t *testing.T, name string, overhead uint64, atLeast int) {
	t.Helper()
	truth := ovnTruth(t, name)
	sums := make(map[conversation]counters)
	for _, r := range ovnRecords(t, name+".pcap.gz") {
		c := tupleOf(r)
		c.at = text(r["SamplerAddress"]) + " " + text(r["InIf"])
		add(t, sums, c, text(r["Packets"]), text(r["Bytes"]))
	}
	found := make(map[conversation][]counters) // at each interface
	for c, n := range sums {
		c.at, c.dir = "", "out"
		found[c] = append(found[c], n)
	}
	compared := 0
	var wrong []string
	for c, want := range truth {
		v6 := strings.Contains(c.src, ":")
		if c.dir != "out" || c.proto != "6" && c.proto != "17" || v6 && name == "netflow" { // v5 has IPv4 only
			continue
		}
		compared++
		at := c.at
		c.at = ""
		want.bytes += want.packets * overhead
		if !slices.Contains(found[c], want) {
			wrong = append(wrong, fmt.Sprintf("%s %v: %v, want %v", at, c, found[c], want))
		}
	}
	if compared < atLeast {
		t.Errorf("%d conversations compared, want %d", compared, atLeast)
	}
	complain(t, wrong)
}

// TestOVNSamples has what OVN's own samples carry: the observation point of an ACL.
func TestOVNSamples(t *testing.T) {
	for _, tc := range []struct {
		file    string
		want    int
		domains map[string]int // how many records are of each
		points  []string
	}{
		{
			file: "ovn-sample.pcap.gz", want: 255,
			points: []string{"4301", "4302", "4311", "4321", "4322", "4351"},
		},
		{
			file: "ovn-drop-sample.pcap", want: 1,
			domains: map[string]int{"16777217": 1}, points: []string{"605235327"},
		},
		{file: "ovs31-three-domains.pcap", want: 15},
	} {
		t.Run(tc.file, func(t *testing.T) {
			var wrong []string
			list := ovnRecords(t, tc.file)
			if len(list) != tc.want {
				wrong = append(wrong, fmt.Sprintf("%d records, want %d", len(list), tc.want))
			}
			domains, points := make(map[string]int), make(map[string]bool)
			for _, r := range list {
				domains[text(r["ObservationDomainId"])]++
				points[text(r["ObservationPointId"])] = true
			}
			if tc.domains != nil && !maps.Equal(domains, tc.domains) {
				wrong = append(wrong, fmt.Sprintf("domains %v, want %v", domains, tc.domains))
			}
			if got := slices.Sorted(maps.Keys(points)); tc.points != nil && !slices.Equal(got, tc.points) {
				wrong = append(wrong, fmt.Sprintf("points %v, want %v", got, tc.points))
			}
			complain(t, wrong)
		})
	}
}
