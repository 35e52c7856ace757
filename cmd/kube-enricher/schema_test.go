package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	"github.com/netsampler/goflow2/v2/decoders/sflow"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
)

// goflow2 is goflow2's decoders and producer with its default configuration,
// put together as its program does it (utils/pipe.go). TestGoflow2Program
// compares it with the program.
type goflow2 struct {
	producer  producer.ProducerInterface
	templates map[netip.AddrPort]netflow.NetFlowTemplateSystem
}

func newGoflow2(t *testing.T) *goflow2 {
	t.Helper()
	cfg, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(cfg, protoproducer.CreateSamplingSystem)
	if err != nil {
		t.Fatal(err)
	}
	return &goflow2{p, make(map[netip.AddrPort]netflow.NetFlowTemplateSystem)}
}

// decode returns the lines of JSON that goflow2 prints for a datagram.
func (s *goflow2) decode(src netip.AddrPort, payload []byte, received time.Time) ([][]byte, error) {
	b := bytes.NewBuffer(bytes.Clone(payload))
	if s.templates[src] == nil {
		s.templates[src] = netflow.CreateTemplateSystem()
	}
	var packet any
	var err error
	switch {
	case len(payload) >= 4 && binary.BigEndian.Uint32(payload) == 5:
		p := new(sflow.Packet)
		packet, err = p, sflow.DecodeMessageVersion(b, p)
	case len(payload) >= 2 && payload[1] == 5:
		p := new(netflowlegacy.PacketNetFlowV5)
		packet, err = p, netflowlegacy.DecodeMessageVersion(b, p)
	default:
		var v9 netflow.NFv9Packet
		var ipfix netflow.IPFIXPacket
		err = netflow.DecodeMessageVersion(b, s.templates[src], &v9, &ipfix)
		packet = &v9
		if ipfix.Version == 10 {
			packet = &ipfix
		}
	}
	if err != nil {
		return nil, err
	}
	msgs, err := s.producer.Produce(packet, &producer.ProduceArgs{Src: src, SamplerAddress: src.Addr(), TimeReceived: received})
	if err != nil {
		return nil, err
	}
	defer s.producer.Commit(msgs)
	var lines [][]byte
	for _, m := range msgs {
		line, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// differential decodes datagrams with goflow2 and with our decoder, which
// encodes them in schema v2.
type differential struct {
	t    *testing.T
	them *goflow2
	us   *collector.Decoder
	ours [][]byte
}

func newDifferential(t *testing.T) *differential {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	c, err := collector.New(collector.Config{}, nil, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	mapping := parseArgs(t).Mapping
	enc, err := encode.NewJSON(encode.JSONConfig{Schema: "v2", Mapping: mapping})
	if err != nil {
		t.Fatal(err)
	}
	d := &differential{t: t, them: newGoflow2(t)}
	d.us = c.NewDecoder(handle(func(r *flow.Record) {
		d.ours = append(d.ours, bytes.TrimSuffix(enc.AppendRecord(nil, r), []byte("\n")))
	}))
	return d
}

func (d *differential) datagram(src netip.AddrPort, payload []byte, received time.Time) (ours, theirs [][]byte, err error) {
	d.ours = nil
	d.us.Datagram(src, collector.AnyFlow, payload, received.UnixNano())
	theirs, err = d.them.decode(src, payload, received)
	return d.ours, theirs, err
}

func object(t *testing.T, line []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return m
}

// differing names the fields of two lines that are not equal, or that one of
// them lacks.
func differing(t *testing.T, ours, theirs []byte) []string {
	t.Helper()
	if bytes.Equal(ours, theirs) {
		return nil
	}
	return differ(object(t, ours), object(t, theirs))
}

func differ(a, b map[string]any) []string {
	names := make(map[string]bool)
	for k, v := range a {
		if w, ok := b[k]; !ok || !reflect.DeepEqual(v, w) {
			names[k] = true
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			names[k] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// closedList has the fields of goflow2's JSON in which captures may make us
// differ, with what must hold then.
var closedList = map[string]func(us, them map[string]any) bool{
	"ip_ttl":   func(_, them map[string]any) bool { return number(them, "ip_ttl") == 0 && them["type"] == "IPFIX" },
	"etype":    func(_, them map[string]any) bool { return them["etype"] == "" && them["src_addr"] == "" },
	"src_port": laterFragment,
	"dst_port": laterFragment,
	// IE 352 of frames that are not of IP.
	"bytes":     func(_, them map[string]any) bool { return number(them, "bytes") == 0 && them["src_addr"] == "" },
	"in_if":     interfaceFormat("in_if"),
	"out_if":    interfaceFormat("out_if"),
	"icmp_type": icmp,
	"icmp_code": icmp,
	// goflow2 has the export time.
	"time_flow_start_ns": uptime("time_flow_start_ns"),
	"time_flow_end_ns":   uptime("time_flow_end_ns"),
}

func number(m map[string]any, key string) uint64 {
	n, _ := m[key].(json.Number)
	v, _ := strconv.ParseUint(n.String(), 10, 64)
	return v
}

// icmp: goflow2 reads type and code neither in sampled packets nor in destination ports,
// and does not tell whether there are any.
func icmp(us, them map[string]any) bool {
	if number(them, "icmp_type") != 0 || number(them, "icmp_code") != 0 {
		return false
	}
	if them["type"] == "SFLOW_5" {
		return us["proto"] == "ICMP" || us["proto"] == "IPv6-ICMP"
	}
	return number(us, "src_port") == 0 && number(us, "dst_port") == number(us, "icmp_type")<<8|number(us, "icmp_code")
}

func laterFragment(us, them map[string]any) bool {
	return them["type"] == "SFLOW_5" && number(them, "fragment_offset") != 0 && number(us, "src_port") == 0 && number(us, "dst_port") == 0
}

// interfaceFormat: in these captures, an interface above the largest index is none.
func interfaceFormat(key string) func(us, them map[string]any) bool {
	return func(us, them map[string]any) bool {
		return them["type"] == "SFLOW_5" && number(them, key) >= 0x3fffffff && number(us, key) == 0
	}
}

func uptime(key string) func(us, them map[string]any) bool {
	return func(us, them map[string]any) bool {
		return them["type"] == "IPFIX" && number(them, key)%1e9 == 0 && number(us, key) <= number(them, key)
	}
}

// TestSchemaV2Captures compares each line of schema v2 with goflow2's, byte by
// byte, on every capture. Where they differ it is in a field of the closed list
// of differences, for the reason there.
func TestSchemaV2Captures(t *testing.T) {
	for _, file := range captures(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			d := newDifferential(t)
			compared, equal, lost := 0, 0, 0
			seen := make(map[string]int)
			_, err := capture.Read(t.Context(), file, func(g *capture.Datagram) {
				ours, theirs, err := d.datagram(g.Src, g.Payload, g.Time)
				if err != nil {
					lost++
					return
				}
				if len(ours) != len(theirs) {
					t.Errorf("%d records, goflow2 has %d", len(ours), len(theirs))
					return
				}
				for i := range theirs {
					compared++
					names := differing(t, ours[i], theirs[i])
					if len(names) == 0 {
						if !bytes.Equal(ours[i], theirs[i]) {
							t.Errorf("not in goflow2's order:\n got %s\nwant %s", ours[i], theirs[i])
						}
						equal++
						continue
					}
					us, them := object(t, ours[i]), object(t, theirs[i])
					for _, name := range names {
						seen[name]++
						if ok := closedList[name]; ok == nil || !ok(us, them) {
							t.Errorf("%s is %v, goflow2 has %v in %.300s", name, us[name], them[name], theirs[i])
						}
					}
				}
			})
			if err != nil {
				t.Error(err)
			}
			var list []string
			for _, name := range slices.Sorted(maps.Keys(seen)) {
				list = append(list, fmt.Sprintf("%s %d", name, seen[name]))
			}
			t.Logf("%d records compared, %d equal, goflow2 failed on %d datagrams; in the closed list: %s", compared, equal, lost, strings.Join(list, ", "))
		})
	}
}

// be appends values in network byte order.
func be(values ...any) []byte {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case []byte:
			b = append(b, v...)
		case string:
			b = append(b, netip.MustParseAddr(v).AsSlice()...)
		default:
			var err error
			if b, err = binary.Append(b, binary.BigEndian, v); err != nil {
				panic(err)
			}
		}
	}
	return b
}

func set(id uint16, content ...any) []byte {
	b := be(content...)
	return be(id, uint16(4+len(b)), b)
}

const exportTime = uint32(1_700_000_000)

// ipfix and v9 make datagrams of sets.
func ipfix(sets ...any) []byte {
	b := be(sets...)
	return be(uint16(10), uint16(16+len(b)), exportTime, uint32(0), uint32(1), b)
}

func v9(sets ...any) []byte {
	return be(uint16(9), uint16(len(sets)), uint32(60_000), exportTime, uint32(0), uint32(1), be(sets...))
}

// v5 makes a datagram of one record.
func v5(first, last uint32, src, dst uint16, proto uint8) []byte {
	return be(uint16(5), uint16(1), uint32(60_000), exportTime, uint32(0), uint32(0), uint32(0),
		"10.0.0.1", "10.0.0.2", "0.0.0.0", uint32(0), uint32(1), uint32(84), first, last, src, dst, uint16(0), proto, make([]byte, 9))
}

// templateSet makes a set of one template 256 of elements and their lengths.
func templateSet(set2 uint16, elements ...uint16) []byte {
	return set(set2, uint16(256), uint16(len(elements)/2), elements)
}

// sflow5 makes a datagram of one sample with a packet's header. Header protocol
// 1 is Ethernet, 11 IPv4, 12 IPv6.
func sflow5(protocol, out uint32, header []byte) []byte {
	return sflowStructures(out, sampledHeader(protocol, header))
}

func sampledHeader(protocol uint32, header []byte) []byte {
	return sflowStructure(1, protocol, uint32(len(header)+4), uint32(4), uint32(len(header)), header, make([]byte, (4-len(header)%4)%4))
}

func sflowStructure(format uint32, content ...any) []byte {
	b := be(content...)
	return be(format, uint32(len(b)), b)
}

// sflowStructures makes a datagram of one flow sample with the given structures.
func sflowStructures(out uint32, structures ...[]byte) []byte {
	return sflowDatagram(1, uint32(7), uint32(3), uint32(100), uint32(700), uint32(0), uint32(3), out, uint32(len(structures)), slices.Concat(structures...))
}

// sflowDatagram makes a datagram of one sample.
func sflowDatagram(format uint32, content ...any) []byte {
	return be(uint32(5), uint32(1), "192.0.2.9", uint32(0), uint32(1), uint32(1000), uint32(1), sflowStructure(format, content...))
}

func ethernet(etype uint16, payload []byte) []byte {
	return be([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, etype, payload)
}

func ipv4(fragment uint16, payload []byte) []byte {
	return be(uint8(0x45), uint8(0), uint16(20+len(payload)), uint16(9), fragment, uint8(64), uint8(17), uint16(0), "10.0.0.1", "10.0.0.2", payload)
}

func ipv6(next uint8, payload []byte) []byte {
	return be(uint32(6<<28), uint16(len(payload)), next, uint8(64), "fd00::1", "fd00::2", payload)
}

// ofSource changes the source id of a NetFlow v9 message.
func ofSource(id uint32, message []byte) []byte {
	binary.BigEndian.PutUint32(message[16:], id)
	return message
}

// TestSchemaV2Differences has one case for each entry of the closed list of
// differences between schema v2 and goflow2 v2.2.6 (docs/fields.md), which
// names them: what the fields are here and there. All other fields are equal.
func TestSchemaV2Differences(t *testing.T) {
	udp := be(uint16(5000), uint16(53), uint16(8), uint16(0))
	type values map[string][2]any // ours, goflow2's
	for _, tc := range []struct {
		name      string
		datagrams [][]byte
		want      values // of the last record
		records   [2]int // of the last datagram, ours and goflow2's; 1 and 1 if not set
		otherPort int    // which datagram is of another source port, from 1 on; 0 for none
	}{
		{name: "TTL in element 192", datagrams: [][]byte{
			ipfix(templateSet(2, 8, 4, 12, 4, 192, 1), set(256, "10.0.0.1", "10.0.0.2", uint8(63)))},
			want: values{"ip_ttl": {63, 0}}},
		{name: "EtherType in element 256", datagrams: [][]byte{
			ipfix(templateSet(2, 256, 2, 1, 4), set(256, uint16(0x0806), uint32(60)))},
			want: values{"etype": {"ARP", ""}}},
		{name: "ports of later fragments", datagrams: [][]byte{sflow5(1, 4, ethernet(0x800, ipv4(185, udp)))},
			want: values{"src_port": {0, 5000}, "dst_port": {0, 53}}},
		{name: "IPv6 extension headers", datagrams: [][]byte{sflow5(1, 4, ethernet(0x86dd, ipv6(0, be(uint8(17), uint8(0), make([]byte, 6), udp))))},
			want: values{"proto": {"UDP", "HOPOPT"}, "src_port": {5000, 0}, "dst_port": {53, 0}, "layer_stack": {"[Ethernet IPv6 UDP]", "[Ethernet IPv6]"}, "layer_size": {"[14 40 8]", "[14 40]"}}},
		{name: "raw IP samples", datagrams: [][]byte{sflow5(11, 4, ipv4(0, udp))},
			want: values{"src_addr": {"10.0.0.1", ""}, "dst_addr": {"10.0.0.2", ""}, "src_net": {"0.0.0.0/0", "invalid Prefix"}, "dst_net": {"0.0.0.0/0", "invalid Prefix"},
				"etype": {"IPv4", ""}, "proto": {"UDP", "HOPOPT"}, "src_port": {5000, 0}, "dst_port": {53, 0}, "ip_ttl": {64, 0}, "fragment_id": {9, 0},
				"layer_stack": {"[IPv4 UDP]", "[]"}, "layer_size": {"[20 8]", "[]"}}},
		{name: "ports behind IPv4 options", datagrams: [][]byte{sflow5(1, 4, ethernet(0x800, be(uint8(0x46), ipv4(0, nil)[1:], uint32(0x01010100), udp)))},
			want: values{"src_port": {5000, 0x0101}, "dst_port": {53, 0x0100}}},
		{name: "other header protocols", datagrams: [][]byte{sflow5(13, 4, be(uint32(100<<12|1<<8|64), ipv4(0, udp)))},
			want: values{"src_addr": {"10.0.0.1", ""}, "dst_addr": {"10.0.0.2", ""}, "src_net": {"0.0.0.0/0", "invalid Prefix"}, "dst_net": {"0.0.0.0/0", "invalid Prefix"},
				"etype": {"IPv4", ""}, "proto": {"UDP", "HOPOPT"}, "src_port": {5000, 0}, "dst_port": {53, 0}, "ip_ttl": {64, 0}, "fragment_id": {9, 0},
				"layer_stack": {"[MPLS IPv4 UDP]", "[]"}, "layer_size": {"[4 20 8]", "[]"}, "mpls_label": {"[100]", "[]"}, "mpls_ttl": {"[64]", "[]"}}},
		{name: "link layers", datagrams: [][]byte{sflow5(1, 4, ethernet(0x88a8, be(uint16(200), uint16(0x8864), uint16(0x1100), uint16(7), uint16(38), uint16(0x21), ipv4(0, udp))))},
			want: values{"src_addr": {"10.0.0.1", ""}, "dst_addr": {"10.0.0.2", ""}, "src_net": {"0.0.0.0/0", "invalid Prefix"}, "dst_net": {"0.0.0.0/0", "invalid Prefix"},
				"etype": {"IPv4", ""}, "proto": {"UDP", "HOPOPT"}, "src_port": {5000, 0}, "dst_port": {53, 0}, "ip_ttl": {64, 0}, "fragment_id": {9, 0}, "vlan_id": {200, 0},
				"layer_stack": {"[Ethernet Dot1Q IPv4 UDP]", "[Ethernet]"}, "layer_size": {"[14 4 20 8]", "[14]"}}},
		{name: "label stacks", datagrams: [][]byte{sflow5(1, 4, ethernet(0x8847, be(uint32(7<<12|64), uint32(0x60001<<12|1<<8|64), ipv4(0, be(udp, make([]byte, 16))))))},
			want: values{"src_addr": {"10.0.0.1", "9:0:4011:0:a00:1:a00:2"}, "dst_addr": {"10.0.0.2", "1388:35:8::"}, "src_net": {"0.0.0.0/0", "::/0"}, "dst_net": {"0.0.0.0/0", "::/0"},
				"etype": {"IPv4", "IPv6"}, "proto": {"UDP", "HOPOPT"}, "src_port": {5000, 0}, "dst_port": {53, 0}, "ip_ttl": {64, 44}, "ipv6_flow_label": {0, 0x01140}, "fragment_id": {9, 0},
				"layer_stack": {"[Ethernet MPLS IPv4 UDP]", "[Ethernet MPLS IPv6]"}, "layer_size": {"[14 8 20 8]", "[14 4 40]"}, "mpls_label": {"[7 393217]", "[7]"}, "mpls_ttl": {"[64 64]", "[64]"}}},
		{name: "GRE with optional fields", datagrams: [][]byte{sflow5(1, 4, ethernet(0x800, be(ipv4(0, nil)[:9], uint8(47), ipv4(0, nil)[10:], uint16(0x2000), uint16(0x800), uint32(1), ipv4(0, udp))))},
			want: values{"layer_stack": {"[Ethernet IPv4 GRE IPv4 UDP]", "[Ethernet IPv4 GRE IPv4]"}, "layer_size": {"[14 20 8 20 8]", "[14 20 4 20]"}}},
		{name: "ports of cut headers", datagrams: [][]byte{sflow5(1, 4, ethernet(0x800, ipv4(0, udp[:4])))},
			want: values{"src_port": {5000, 0}, "dst_port": {53, 0}}},
		{name: "ICMP of sampled packets", datagrams: [][]byte{sflow5(1, 4, ethernet(0x800, be(ipv4(0, nil)[:9], uint8(1), ipv4(0, nil)[10:], uint32(3<<24|1<<16), uint32(0))))},
			want: values{"icmp_type": {3, 0}, "icmp_code": {1, 0}}},
		{name: "VLAN priority of sampled packets", datagrams: [][]byte{sflow5(1, 4, ethernet(0x8100, be(uint16(0xa064), uint16(0x800), ipv4(0, udp))))},
			want: values{"vlan_id": {100, 0xa064}}},
		{name: "unknown VLAN", datagrams: [][]byte{sflowStructures(4, sampledHeader(1, ethernet(0x800, ipv4(0, udp))), sflowStructure(1001, ^uint32(0), ^uint32(0), uint32(7), uint32(0)))},
			want: values{"src_vlan": {0, ^uint32(0)}}},
		{name: "interface formats", datagrams: [][]byte{sflow5(1, 0x80000007, ethernet(0x800, ipv4(0, udp)))},
			want: values{"out_if": {0, 0x80000007}}},
		{name: "drop reasons", datagrams: [][]byte{sflow5(1, 0x40000102, ethernet(0x800, ipv4(0, udp)))},
			want: values{"out_if": {0, 0x40000102}, "forwarding_status": {128, 0}}},
		{name: "AS paths of several segments", datagrams: [][]byte{sflowStructures(4, sampledHeader(1, ethernet(0x800, ipv4(0, udp))),
			sflowStructure(1003, uint32(1), "192.0.2.7", uint32(64500), uint32(64501), uint32(64502), uint32(2), uint32(2), uint32(1), uint32(64510), uint32(1), uint32(1), uint32(64520), uint32(1), uint32(77), uint32(100)))},
			want: values{"as_path": {"[64510 64520]", "[64510]"}, "dst_as": {64520, 64510}, "bgp_communities": {"[77]", "[1]"}}},
		{name: "sampled IP structure", datagrams: [][]byte{sflowStructures(4, sflowStructure(3, uint32(500), uint32(6), "10.0.0.1", "10.0.0.2", uint32(1234), uint32(443), uint32(24), uint32(0)))},
			want: values{"tcp_flags": {24, 0}}},
		{name: "sampled Ethernet structure", datagrams: [][]byte{sflowStructures(4, sflowStructure(2, uint32(60), []byte{2, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0}, uint32(0x0806)))},
			want: values{"bytes": {60, 0}, "etype": {"ARP", ""}, "src_mac": {"02:00:00:00:00:01", "00:00:00:00:00:00"}, "dst_mac": {"02:00:00:00:00:02", "00:00:00:00:00:00"}}},
		{name: "samples with one odd structure", datagrams: [][]byte{sflowStructures(4, sampledHeader(1, ethernet(0x800, ipv4(0, udp))), sflowStructure(1002, uint32(0), uint32(24), uint32(25)))},
			records: [2]int{1, 0}},
		{name: "samples of no packet", datagrams: [][]byte{sflowStructures(4, sflowStructure(2202, uint32(0)))},
			records: [2]int{0, 1}},
		{name: "discarded packets", datagrams: [][]byte{sflowDatagram(5, uint32(7), uint32(0), uint32(3), uint32(0), uint32(3), uint32(0), uint32(257), uint32(1), sampledHeader(1, ethernet(0x800, ipv4(0, udp))))},
			records: [2]int{1, 0}},
		{name: "header sections in 313", datagrams: [][]byte{ipfix(templateSet(2, 313, 28), set(256, ipv4(0, udp)))},
			want: values{"src_addr": {"10.0.0.1", ""}, "dst_addr": {"10.0.0.2", ""}, "src_net": {"0.0.0.0/0", "invalid Prefix"}, "dst_net": {"0.0.0.0/0", "invalid Prefix"},
				"bytes": {28, 0}, "packets": {1, 0}, "etype": {"IPv4", ""}, "proto": {"UDP", "HOPOPT"}, "src_port": {5000, 0}, "dst_port": {53, 0}, "ip_ttl": {64, 0}, "fragment_id": {9, 0},
				"layer_stack": {"[IPv4 UDP]", "[]"}, "layer_size": {"[20 8]", "[]"}}},
		{name: "sampling by interval and space", datagrams: [][]byte{
			ipfix(set(3, be(uint16(300), uint16(3), uint16(1), uint16(144), uint16(4), uint16(305), uint16(4), uint16(306), uint16(4))), set(300, uint32(1), uint32(1), uint32(9))),
			ipfix(templateSet(2, 8, 4), set(256, "10.0.0.1"))},
			want: values{"sampling_rate": {10, 1}}},
		{name: "short option fields", datagrams: [][]byte{
			v9(set(1, be(uint16(300), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(2))), set(300, uint32(1), uint16(512), uint16(0))),
			v9(templateSet(0, 8, 4), set(256, "10.0.0.1"))},
			want: values{"sampling_rate": {512, 0}}},
		{name: "rate of the record's sampler", datagrams: [][]byte{
			v9(set(1, be(uint16(300), uint16(4), uint16(8), uint16(1), uint16(4), uint16(48), uint16(4), uint16(50), uint16(4))), set(300, uint32(1), uint32(5), uint32(100), uint32(1), uint32(6), uint32(200))),
			v9(templateSet(0, 8, 4, 48, 1), set(256, "10.0.0.1", uint8(6)))},
			want: values{"sampling_rate": {200, 100}}},
		{name: "rate of the interface", datagrams: [][]byte{
			v9(set(1, be(uint16(300), uint16(4), uint16(4), uint16(2), uint16(4), uint16(34), uint16(4))), set(300, uint32(1), uint32(100), uint32(2), uint32(1000))),
			v9(templateSet(0, 8, 4, 10, 4), set(256, "10.0.0.1", uint32(2)))},
			want: values{"sampling_rate": {1000, 100}}},
		{name: "rate of the selection sequence", datagrams: [][]byte{
			ipfix(set(3, be(uint16(300), uint16(2), uint16(1), uint16(302), uint16(4), uint16(34), uint16(4))), set(300, uint32(4), uint32(100), uint32(5), uint32(200))),
			ipfix(set(3, be(uint16(301), uint16(2), uint16(1), uint16(301), uint16(4), uint16(302), uint16(4))), set(301, uint32(71), uint32(5))),
			ipfix(templateSet(2, 8, 4, 301, 4), set(256, "10.0.0.1", uint32(71)))},
			want: values{"sampling_rate": {200, 100}}},
		{name: "rate of another source id", datagrams: [][]byte{
			ofSource(5, v9(set(1, be(uint16(300), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(4))), set(300, uint32(1), uint32(100)))),
			v9(templateSet(0, 8, 4), set(256, "10.0.0.1"))},
			want: values{"sampling_rate": {100, 0}}},
		{name: "rate of the source port", otherPort: 2, datagrams: [][]byte{
			v9(set(1, be(uint16(300), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(4))), set(300, uint32(1), uint32(100))),
			v9(set(1, be(uint16(300), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(4))), set(300, uint32(1), uint32(200))),
			v9(templateSet(0, 8, 4), set(256, "10.0.0.1"))},
			want: values{"sampling_rate": {100, 200}}},
		{name: "sampling n out of N", datagrams: [][]byte{
			ipfix(set(3, be(uint16(300), uint16(5), uint16(1), uint16(302), uint16(4), uint16(304), uint16(2), uint16(305), uint16(4), uint16(309), uint16(4), uint16(310), uint16(4))),
				set(300, uint32(1), uint16(3), uint32(1), uint32(2), uint32(512))),
			ipfix(templateSet(2, 8, 4), set(256, "10.0.0.1"))},
			want: values{"sampling_rate": {256, 1}}},
		{name: "sampling by probability", datagrams: [][]byte{
			ipfix(set(3, be(uint16(300), uint16(2), uint16(1), uint16(302), uint16(4), uint16(311), uint16(8))), set(300, uint32(1), math.Float64bits(0.01))),
			ipfix(templateSet(2, 8, 4), set(256, "10.0.0.1"))},
			want: values{"sampling_rate": {100, 0}}},
		{name: "counters in 85 and 86", datagrams: [][]byte{
			ipfix(templateSet(2, 85, 8, 86, 4), set(256, uint64(500), uint32(5)))},
			want: values{"bytes": {500, 0}, "packets": {5, 0}}},
		{name: "counters in 231 and 298", datagrams: [][]byte{
			ipfix(templateSet(2, 231, 8, 298, 4), set(256, uint64(500), uint32(5)))},
			want: values{"bytes": {500, 0}, "packets": {5, 0}}},
		{name: "times from the boot time", datagrams: [][]byte{
			ipfix(templateSet(2, 22, 4, 21, 4, 160, 8), set(256, uint32(1000), uint32(3000), uint64(1_699_990_000_000)))},
			want: values{"time_flow_start_ns": {1_699_990_001_000_000_000, 1_700_000_000_000_000_000}, "time_flow_end_ns": {1_699_990_003_000_000_000, 1_700_000_000_000_000_000}}},
		{name: "bytes in 352", datagrams: [][]byte{ipfix(templateSet(2, 352, 8, 2, 4), set(256, uint64(84), uint32(2)))},
			want: values{"bytes": {84, 0}}},
		{name: "start before the uptime", datagrams: [][]byte{v9(templateSet(0, 22, 4, 21, 4), set(256, ^uint32(0), uint32(50_000)))},
			want: values{"time_flow_start_ns": {1_699_999_939_999_000_000, 1_704_294_907_295_000_000}}},
		{name: "end after the uptime", datagrams: [][]byte{v5(uint32(50_000), uint32(60_500), uint16(40000), uint16(443), uint8(6))},
			want: values{"time_flow_end_ns": {1_700_000_000_500_000_000, 1_695_705_033_204_000_000}}},
		{name: "end from the duration", datagrams: [][]byte{ipfix(templateSet(2, 152, 8, 161, 4), set(256, uint64(1_699_999_990_000), uint32(9000)))},
			want: values{"time_flow_end_ns": {1_699_999_999_000_000_000, 1_700_000_000_000_000_000}}},
		{name: "times of observation", datagrams: [][]byte{v9(templateSet(0, 8, 4, 323, 8), set(256, "10.0.0.1", uint64(1_699_999_990_123)))},
			want: values{"time_flow_start_ns": {1_699_999_990_123_000_000, 1_700_000_000_000_000_000}, "time_flow_end_ns": {1_699_999_990_123_000_000, 1_700_000_000_000_000_000}}},
		{name: "absolute times in v9", datagrams: [][]byte{
			v9(templateSet(0, 152, 8, 153, 8), set(256, uint64(1_600_000_000_000), uint64(1_600_000_009_000)))},
			want: values{"time_flow_start_ns": {1_600_000_000_000_000_000, 1_700_000_000_000_000_000}, "time_flow_end_ns": {1_600_000_009_000_000_000, 1_700_000_000_000_000_000}}},
		{name: "ICMP in the destination port", datagrams: [][]byte{v5(uint32(50_000), uint32(59_000), uint16(0), uint16(0x0303), uint8(1))},
			want: values{"icmp_type": {3, 0}, "icmp_code": {3, 0}}},
		{name: "sampling rate in the record", datagrams: [][]byte{v9(templateSet(0, 8, 4, 34, 4), set(256, "10.0.0.1", uint32(512)))},
			want: values{"sampling_rate": {512, 0}}},
		{name: "zero MAC addresses", datagrams: [][]byte{
			v9(templateSet(0, 56, 6, 80, 6, 81, 6, 57, 6), set(256, []byte{2, 0, 0, 0, 0, 0x11, 2, 0, 0, 0, 0, 0x12}, make([]byte, 12)))},
			want: values{"src_mac": {"02:00:00:00:00:11", "00:00:00:00:00:00"}, "dst_mac": {"02:00:00:00:00:12", "00:00:00:00:00:00"}}},
		{name: "template for both families", datagrams: [][]byte{
			v9(templateSet(0, 27, 16, 28, 16, 8, 4, 12, 4, 15, 4, 62, 16, 18, 4, 63, 16, 9, 1, 29, 1, 13, 1, 30, 1, 4, 1, 32, 2, 139, 2),
				set(256, "::", "::", "0.0.0.0", "255.255.255.255", "10.0.0.9", "::", "0.0.0.0", "::", uint8(24), uint8(0), uint8(32), uint8(0), uint8(1), uint16(0x800), uint16(0)))},
			want: values{"src_addr": {"0.0.0.0", "::"}, "src_net": {"0.0.0.0/24", "::/0"}, "dst_net": {"255.255.255.255/32", "0.0.0.0/0"}, "next_hop": {"10.0.0.9", "::"},
				"bgp_next_hop": {"0.0.0.0", "::"}, "icmp_type": {8, 0}}},
		{name: "zero times", datagrams: [][]byte{ipfix(templateSet(2, 152, 8, 150, 4, 151, 4), set(256, uint64(1_699_999_990_000), uint32(0), uint32(1_699_999_999)))},
			want: values{"time_flow_start_ns": {1_699_999_990_000_000_000, 0}}},
		{name: "element that comes several times", datagrams: [][]byte{ipfix(templateSet(2, 10, 4, 10, 4, 1, 4, 1, 4), set(256, uint32(5), uint32(0), uint32(84), uint32(0)))},
			want: values{"in_if": {5, 0}, "bytes": {84, 0}}},
		{name: "EtherType beside zero addresses", datagrams: [][]byte{ipfix(templateSet(2, 256, 2, 8, 4, 12, 4), set(256, uint16(0x0806), "0.0.0.0", "0.0.0.0"))},
			want: values{"etype": {"ARP", "IPv4"}}},
		{name: "prefixes for addresses", datagrams: [][]byte{ipfix(templateSet(2, 44, 4, 45, 4), set(256, "10.1.0.0", "10.2.0.0"))},
			want: values{"src_addr": {"10.1.0.0", ""}, "dst_addr": {"10.2.0.0", ""}, "etype": {"IPv4", ""}, "src_net": {"0.0.0.0/0", "invalid Prefix"}, "dst_net": {"0.0.0.0/0", "invalid Prefix"}}},
		{name: "ports of TCP and UDP", datagrams: [][]byte{v9(templateSet(0, 4, 1, 180, 2, 181, 2, 182, 2, 183, 2), set(256, uint8(6), uint32(0), uint16(1234), uint16(443)))},
			want: values{"src_port": {1234, 0}, "dst_port": {443, 0}}},
		{name: "VLAN priority", datagrams: [][]byte{v9(templateSet(0, 58, 2, 59, 2), set(256, uint16(0xa064), uint16(0x60c8)))},
			want: values{"vlan_id": {100, 0xa064}, "src_vlan": {100, 0xa064}, "dst_vlan": {200, 0x60c8}}},
		{name: "VLANs in 243 and 254", datagrams: [][]byte{v9(templateSet(0, 243, 2, 254, 2, 58, 2), set(256, uint16(100), uint16(200), uint16(0)))},
			want: values{"vlan_id": {100, 0}, "src_vlan": {100, 0}, "dst_vlan": {200, 0}}},
		{name: "physical interfaces", datagrams: [][]byte{ipfix(templateSet(2, 252, 4, 253, 4), set(256, uint32(3), uint32(4)))},
			want: values{"in_if": {3, 0}, "out_if": {4, 0}}},
		{name: "DSCP in 195", datagrams: [][]byte{ipfix(templateSet(2, 195, 1), set(256, uint8(46)))},
			want: values{"ip_tos": {184, 0}}},
		{name: "empty MPLS sections", datagrams: [][]byte{ipfix(templateSet(2, 70, 3, 71, 3), set(256, []byte{0x05, 0xdd, 0x51, 0, 0, 0}))},
			want: values{"mpls_label": {"[24021]", "[24021 0]"}}},
		{name: "MPLS labels beyond the third", datagrams: [][]byte{ipfix(templateSet(2, 70, 3, 71, 3, 72, 3, 73, 3), set(256, []byte{0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 1}))},
			want: values{"mpls_label": {"[16 32 48 64]", "[16 32 48]"}}},
		{name: "fields without bytes", datagrams: [][]byte{ipfix(templateSet(2, 4, 1, 11, 2, 11, 0), set(256, uint8(17), uint16(53)))},
			want: values{"dst_port": {53, 0}}},
		{name: "responder counters", datagrams: [][]byte{v9(templateSet(0, 8, 4, 231, 4, 232, 4), set(256, "10.0.0.1", uint32(500), uint32(900)))},
			want: values{"bytes": {500, 0}}, records: [2]int{2, 1}},
		{name: "NetFlow v1", datagrams: [][]byte{be(uint16(1), uint16(1), uint32(60_000), exportTime, uint32(0), make([]byte, 48))},
			records: [2]int{1, 0}},
		{name: "records beside a bad neighbour", datagrams: [][]byte{
			ipfix(templateSet(2, 8, 4), set(256, "10.0.0.1"), set(999, uint32(0)))},
			records: [2]int{1, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDifferential(t)
			src := netip.MustParseAddrPort("192.0.2.1:4739")
			var ours, theirs [][]byte
			for i, b := range tc.datagrams {
				from := src
				if i == tc.otherPort-1 {
					from = netip.AddrPortFrom(src.Addr(), src.Port()+1)
				}
				ours, theirs, _ = d.datagram(from, b, time.Unix(int64(exportTime), 0))
			}
			want := tc.records
			if want == [2]int{} {
				want = [2]int{1, 1}
			}
			if got := [2]int{len(ours), len(theirs)}; got != want {
				t.Fatalf("%v records, want %v", got, want)
			}
			if len(theirs) == 0 || len(ours) == 0 {
				return
			}
			names := differing(t, ours[0], theirs[0])
			if w := slices.Sorted(maps.Keys(tc.want)); !slices.Equal(names, w) {
				t.Errorf("different: %v, want %v", names, w)
			}
			for name, v := range tc.want {
				us, them := object(t, ours[0])[name], object(t, theirs[0])[name]
				if fmt.Sprint(us) != fmt.Sprint(v[0]) || fmt.Sprint(them) != fmt.Sprint(v[1]) {
					t.Errorf("%s is %v, goflow2 has %v; want %v", name, us, them, v)
				}
			}
		})
	}
}
