package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Records that count once are compared with what was sent in captures of OVN, as the
// interfaces of pods and hosts saw it.

// ends are who sends and who receives.
type ends struct{ src, dst string }

// podSubnets are those of the lab's nodes.
var podSubnets = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}

// labGateways are the logical routers' addresses in the pods' subnets, which have no
// interface.
var labGateways = []string{"10.244.0.1", "10.244.1.1", "fd00:10:244:1::1", "fd00:10:244:2::1"}

// hasInterface reports whether a pod or host on the nodes' bridges has an address, and
// so an interface at which everything that it sends is seen.
func hasInterface(t *testing.T, s string) bool {
	t.Helper()
	addr, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	inside := slices.ContainsFunc(podSubnets, func(p netip.Prefix) bool { return p.Contains(addr) })
	return inside && !slices.Contains(labGateways, s) || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
}

// isService reports whether an address is of the lab's Services.
func isService(addr string) bool {
	return strings.HasPrefix(addr, "10.96.") || strings.HasPrefix(addr, "fd00:10:96:")
}

// hairpin stands for a pod that talks to itself through a Service.
const hairpin = "169.254.169.5"

// sentOverall sums up by pair what was sent on the nodes' bridges: what left the
// interfaces of pods and hosts, and what arrived there from who has no such interface,
// which are the outside, other nodes' hosts and OVN itself. An answer of a Service left
// the backend's interface, before its source was translated.
func sentOverall(t *testing.T, truth map[conversation]counters) map[ends]counters {
	t.Helper()
	sent := make(map[conversation]bool) // without interface and direction
	answered := make(map[conversation]bool)
	for c := range truth {
		if c.dir == "out" {
			c.at, c.dir = "", ""
			sent[c] = true
			answered[conversation{dst: c.dst, proto: c.proto, dstPort: c.dstPort}] = true
		}
	}
	sums := make(map[ends]counters)
	for c, n := range truth {
		if c.dir == "in" {
			tuple := c
			tuple.at, tuple.dir = "", ""
			toClient := conversation{dst: c.dst, proto: c.proto, dstPort: c.dstPort}
			toItself := toClient
			toItself.dst = hairpin
			if hasInterface(t, c.src) || sent[tuple] || isService(c.src) && (answered[toClient] || answered[toItself]) {
				continue
			}
		}
		sum := sums[ends{c.src, c.dst}]
		sums[ends{c.src, c.dst}] = counters{sum.packets + n.packets, sum.bytes + n.bytes}
	}
	return sums
}

// countsOnce sums up by pair the records that count once. overhead are the bytes of each
// packet that the exporter counts beside the IP packet.
func countsOnce(t *testing.T, list []map[string]any, overhead uint64) map[ends]counters {
	t.Helper()
	sums := make(map[ends]counters)
	for _, r := range list {
		if text(r["CountsOnce"]) == "true" {
			n := make(map[conversation]counters)
			add(t, n, conversation{}, text(r["Packets"]), text(r["Bytes"]))
			one, pair := n[conversation{}], ends{text(r["SrcAddr"]), text(r["DstAddr"])}
			sum := sums[pair]
			sums[pair] = counters{sum.packets + one.packets, sum.bytes + one.bytes - overhead*one.packets}
		}
	}
	return sums
}

// TestCountsOnceOVN holds the records that count once to what was sent. The bars are
// what is off now. docs/traffic-metrics.md explains it line by line.
func TestCountsOnceOVN(t *testing.T) {
	for _, tc := range []struct {
		capture  string
		args     []string
		overhead uint64 // see countsOnce
		most     float64
		least    float64 // what is off cannot be less: it shows that the test sees it
	}{
		{capture: "ipfix1", most: 0.005},
		{capture: "ovs4-ipfix1", most: 0.005},
		// Without the nodes' ranges nothing that came in from a tunnel counts.
		{capture: "ipfix1", args: []string{"-kube.off"}, most: 0.08, least: 0.07},
		// A sample has its checksum and its Ethernet header, and none is taken of what
		// comes from outside.
		{capture: "sflow1", overhead: 18, most: 0.103, least: 0.09},
	} {
		t.Run(strings.Join(append([]string{tc.capture}, tc.args...), " "), func(t *testing.T) {
			if len(tc.args) == 0 {
				tc.args = []string{"-kube.snapshot", filepath.Join(ovnDir, "snapshot.yaml")}
			}
			args := append(tc.args, "-fields", "default,+CountsOnce", "-loglevel", "error", filepath.Join(ovnDir, tc.capture+".pcap.gz"))
			got := countsOnce(t, records(t, outputOf(t, args...)), tc.overhead)
			want := sentOverall(t, ovnTruth(t, tc.capture))
			all := make(map[ends]bool)
			for k := range want {
				all[k] = true
			}
			for k := range got {
				all[k] = true
			}
			var total, off uint64
			var wrong []string
			for k := range all {
				if strings.HasPrefix(k.dst, "ff02:") { // goes on by itself before and after the capture
					continue
				}
				w, g := want[k], got[k]
				total += w.packets
				if w != g {
					off += max(w.packets, g.packets) - min(w.packets, g.packets)
					wrong = append(wrong, fmt.Sprintf("%s > %s: %v, sent were %v", k.src, k.dst, g, w))
				}
			}
			slices.Sort(wrong)
			t.Logf("%d of %d packets are off:\n%s", off, total, strings.Join(wrong, "\n"))
			if total < 2000 {
				t.Errorf("only %d packets were sent", total)
			}
			if share := float64(off) / float64(total); share > tc.most || share < tc.least {
				t.Errorf("%.2f %% of the packets are off, want %.2f to %.2f", 100*share, 100*tc.least, 100*tc.most)
			}
		})
	}
}

// TestCountsOnceIsCounted compares the field, which is written without metrics, with
// what the metrics count.
func TestCountsOnceIsCounted(t *testing.T) {
	const prefix = "kube_enricher_workload_"
	for capture, uncounted := range map[string]string{
		"ipfix1": "repeated", "ovs4-ipfix1": "repeated", "sflow1": "repeated", "netflow": "", "ovn-sample": "sample",
	} {
		t.Run(capture, func(t *testing.T) {
			args := []string{"-kube.snapshot", filepath.Join(ovnDir, "snapshot.yaml"), "-loglevel", "error", filepath.Join(ovnDir, capture+".pcap.gz")}
			var want, packets float64
			not := 0
			for _, r := range records(t, outputOf(t, append([]string{"-fields", "default,+CountsOnce"}, args...)...)) {
				if text(r["CountsOnce"]) == "true" {
					want++
					packets += float(t, text(r["Packets"]))
				} else {
					not++
				}
			}
			sums := make(map[string]float64)
			for _, f := range gather(t, args...) {
				name, ok := strings.CutPrefix(f.GetName(), prefix)
				if !ok {
					continue
				}
				for _, m := range f.GetMetric() {
					if name == "records_total" {
						name = m.GetLabel()[0].GetValue()
						sums[name] = m.GetCounter().GetValue()
						name = "records_total"
						continue
					}
					sums[name] += m.GetCounter().GetValue()
				}
			}
			if sums["counted"] != want || sums["flows_total"] != want || sums["packets_total"] != packets {
				t.Errorf("%v, want %v records and %v packets", sums, want, packets)
			}
			if all := sums["repeated"] + sums["sample"] + sums["no_address"]; all != float64(not) {
				t.Errorf("%v do not count, want %d", sums, not)
			}
			if uncounted != "" && sums[uncounted] == 0 {
				t.Errorf("%v, want some %s", sums, uncounted)
			}
		})
	}
}
