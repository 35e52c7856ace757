package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/netobserv/goflow2-kube-enricher/internal/packet/packettest"
)

// at is when the packets built here were captured.
var at = time.Unix(1700000000, 123456789).UTC()

// readAll returns copies of all datagrams.
func readAll(t testing.TB, capture []byte) ([]Datagram, Stats, error) {
	t.Helper()
	var ds []Datagram
	stats, err := read(t.Context(), bytes.NewReader(capture), time.Unix(0, 0), func(d *Datagram) {
		c := *d
		c.Payload = slices.Clone(d.Payload)
		ds = append(ds, c)
	})
	return ds, stats, err
}

func mustRead(t testing.TB, capture []byte) ([]Datagram, Stats) {
	t.Helper()
	ds, stats, err := readAll(t, capture)
	if err != nil {
		t.Fatal(err)
	}
	if sum := stats.Whole + stats.Fragments + stats.NotUDP + stats.Malformed + stats.UnknownLink; sum != stats.Packets {
		t.Errorf("stats %+v do not add up", stats)
	}
	if stats.Datagrams() != uint64(len(ds)) {
		t.Errorf("%d datagrams counted, %d handed on", stats.Datagrams(), len(ds))
	}
	return ds, stats
}

func same(a, b *Datagram) bool {
	return a.Time.Equal(b.Time) && a.Src == b.Src && a.Dst == b.Dst && a.Truncated == b.Truncated && bytes.Equal(a.Payload, b.Payload)
}

func compare(t *testing.T, got, want []Datagram) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d datagrams, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !same(&got[i], &want[i]) {
			t.Fatalf("datagram %d is\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
}

func captures(t testing.TB) map[string][]byte {
	files, err := filepath.Glob("testdata/*.pcap")
	if err != nil || len(files) == 0 {
		t.Fatal("no captures", err)
	}
	m := make(map[string][]byte)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m[strings.TrimSuffix(filepath.Base(f), ".pcap")] = b
	}
	return m
}

// frames returns the packets of a real capture as gopacket reads them.
func frames(t testing.TB, capture []byte) []frame {
	r, err := pcapgo.NewReader(bytes.NewReader(capture))
	if err != nil {
		t.Fatal(err)
	}
	var fs []frame
	for {
		data, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return fs
		}
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, frame{time: ci.Timestamp, link: uint16(r.LinkType()), data: data})
	}
}

// datagrams returns the datagrams of whole packets as gopacket decodes them.
func datagrams(fs []frame) []Datagram {
	var ds []Datagram
	for _, f := range fs {
		p := gopacket.NewPacket(f.data, layers.LinkType(f.link), gopacket.Default)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			continue
		}
		flow := p.NetworkLayer().NetworkFlow()
		src, _ := netip.AddrFromSlice(flow.Src().Raw())
		dst, _ := netip.AddrFromSlice(flow.Dst().Raw())
		ds = append(ds, Datagram{
			Time: f.time, Payload: udp.Payload,
			Src: netip.AddrPortFrom(src, uint16(udp.SrcPort)), Dst: netip.AddrPortFrom(dst, uint16(udp.DstPort)),
		})
	}
	return ds
}

// TestRealCaptures compares with gopacket, and checks the number of datagrams
// that each capture is known to have.
func TestRealCaptures(t *testing.T) {
	known := map[string]int{"fprobe-v5": 8, "ovs-netflow5": 5, "ovs-ipfix-nolistener": 66}
	for name, capture := range captures(t) {
		t.Run(name, func(t *testing.T) {
			got, _ := mustRead(t, capture)
			if len(got) != known[name] {
				t.Errorf("%d datagrams, want %d", len(got), known[name])
			}
			compare(t, got, datagrams(frames(t, capture)))
		})
	}
}

// TestContainers puts the packets of a real capture into every kind of file.
func TestContainers(t *testing.T) {
	fs := frames(t, captures(t)["ovs-ipfix-nolistener"])
	for i := range fs { // parts of a microsecond, to see which files keep them
		fs[i].time = fs[i].time.Add(time.Duration(i%1000) * time.Nanosecond)
	}
	want := datagrams(fs)
	rounded := slices.Clone(want)
	for i := range rounded {
		rounded[i].Time = rounded[i].Time.Truncate(time.Microsecond)
	}

	var pcapgoNano, pcapgoNg bytes.Buffer
	nano := pcapgo.NewWriterNanos(&pcapgoNano)
	if err := nano.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	ng, err := pcapgo.NewNgWriter(&pcapgoNg, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		ci := gopacket.CaptureInfo{Timestamp: f.time, CaptureLength: len(f.data), Length: len(f.data)}
		if err := errors.Join(nano.WritePacket(ci, f.data), ng.WritePacket(ci, f.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ng.Flush(); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name    string
		capture []byte
		want    []Datagram
	}{
		{"pcap little", pcapFile(binary.LittleEndian, false, fs...), rounded},
		{"pcap big", pcapFile(binary.BigEndian, false, fs...), rounded},
		{"pcap little nano", pcapFile(binary.LittleEndian, true, fs...), want},
		{"pcap big nano", pcapFile(binary.BigEndian, true, fs...), want},
		{"pcapng little", ngFile(binary.LittleEndian, fs...), want},
		{"pcapng big", ngFile(binary.BigEndian, fs...), want},
		{"two sections", slices.Concat(ngFile(binary.BigEndian, fs[:20]...), ngFile(binary.LittleEndian, fs[20:]...)), want},
		{"by gopacket, pcap nano", pcapgoNano.Bytes(), want},
		{"by gopacket, pcapng", pcapgoNg.Bytes(), want},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := mustRead(t, c.capture)
			compare(t, got, c.want)
		})
		t.Run(c.name+" gzip", func(t *testing.T) {
			got, _ := mustRead(t, gzipped(t, c.capture))
			compare(t, got, c.want)
		})
	}
}

func TestResolution(t *testing.T) {
	f := frame{link: linkRaw, data: ip4(protoUDP, 0, 0, false, udpOf([]byte("x")))}
	for _, c := range []struct {
		name       string
		resolution int
		offset     int64
		ticks      uint64
		want       string // Unix time
	}{
		{"default", -1, 0, 1700000000123456, "1700000000.123456000"},
		{"seconds", 0, 0, 1700000000, "1700000000.000000000"},
		{"milli", 3, 0, 1700000000123, "1700000000.123000000"},
		{"micro", 6, 0, 1700000000123456, "1700000000.123456000"},
		{"nano", 9, 0, 1700000000123456789, "1700000000.123456789"},
		{"pico", 12, 1700000000, 123456789123, "1700000000.123456789"},
		{"10^-19", 19, 1700000000, 1234567890123456789, "1700000000.123456789"},
		{"2^-1", 0x81, 0, 1700000000<<1 + 1, "1700000000.500000000"},
		{"2^-20", 0x94, 0, 1700000000<<20 + 1<<19 + 1, "1700000000.500000953"},
		{"2^-32", 0xa0, 0, 1700000000<<32 + 1<<31 + 1<<30, "1700000000.750000000"},
		{"2^-63", 0xbf, 1700000000, 1 << 62, "1700000000.500000000"},
		{"offset back", 6, -3600, 1700000000000001, "1699996400.000001000"},
	} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			w := ng{AppendByteOrder: order}
			w.section()
			w.iface(f.link, 0, c.resolution, c.offset)
			w.packet(ngEnhancedPacket, c.ticks, &f)
			ds, _ := mustRead(t, w.b)
			if got := fmt.Sprintf("%d.%09d", ds[0].Time.Unix(), ds[0].Time.Nanosecond()); got != c.want {
				t.Errorf("%s, %v: %s, want %s", c.name, order, got, c.want)
			}
		}
	}
	// Times that are none.
	for _, c := range []struct {
		resolution int
		offset     int64
		ticks      uint64
	}{{0, 0, 1 << 63}, {6, -1 << 62, 1}, {9, 1 << 62, 1}, {0, 0, maxSeconds}} {
		w := ng{AppendByteOrder: binary.LittleEndian}
		w.section()
		w.iface(f.link, 0, 9, 0)
		w.iface(f.link, 0, c.resolution, c.offset)
		w.packet(ngEnhancedPacket, uint64(at.UnixNano()), &f)
		strange := f
		strange.iface = 1
		w.packet(ngEnhancedPacket, c.ticks, &strange)
		if ds, _ := mustRead(t, w.b); !ds[1].Time.Equal(at) {
			t.Errorf("%+v is taken for %v", c, ds[1].Time)
		}
	}
	for _, resolution := range []int{20, 0x7f, 0xc0, 0xff} {
		w := ng{AppendByteOrder: binary.LittleEndian}
		w.section()
		w.iface(f.link, 0, resolution, 0)
		if _, _, err := readAll(t, w.b); err == nil || !strings.HasPrefix(err.Error(), "at offset 28: time resolution") {
			t.Errorf("resolution %#x: %v", resolution, err)
		}
	}
}

func TestInterfaces(t *testing.T) {
	payload := ip4(protoUDP, 0, 0, false, udpOf([]byte("payload")))
	ether := frame{iface: 0, data: ethernet(etypeIPv4, payload)}
	raw := frame{iface: 1, data: payload}
	strange := frame{iface: 2, data: payload}
	cut := frame{iface: 0, data: ether.data, snap: 14 + 20 + 8 + 3}
	w := ng{AppendByteOrder: binary.BigEndian}
	w.section()
	w.iface(linkEthernet, 0, 9, 0)
	w.iface(linkRaw, 0, 3, 0)
	w.block(5, make([]byte, 12)) // interface statistics, skipped
	w.iface(105, 0, 9, 0)
	w.packet(ngEnhancedPacket, uint64(at.UnixNano()), &ether)
	w.packet(ngObsoletePacket, uint64(at.UnixMilli()), &raw)
	w.packet(ngEnhancedPacket, uint64(at.UnixNano()), &strange)
	w.block(0x80000001, []byte("something of a vendor"))
	w.simple(&ether)
	w.packet(ngEnhancedPacket, uint64(at.UnixNano()), &cut)
	ds, stats := mustRead(t, w.b)
	if want := (Stats{Packets: 5, Whole: 4, UnknownLink: 1}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
	for i, want := range []struct {
		time      time.Time
		payload   string
		truncated bool
	}{
		{at, "payload", false},
		{at.Truncate(time.Millisecond), "payload", false},
		{at, "payload", false}, // the time of the packet before
		{at, "pay", true},
	} {
		if d := ds[i]; !d.Time.Equal(want.time) || string(d.Payload) != want.payload || d.Truncated != want.truncated {
			t.Errorf("datagram %d is %+v, want %+v", i, d, want)
		}
	}
}

func TestLinks(t *testing.T) {
	v4 := ip4(protoUDP, 0, 0, false, udpOf([]byte("payload")))
	v6 := ip6(protoUDP, udpOf([]byte("payload")))
	family := func(order binary.AppendByteOrder, n uint32, b []byte) []byte {
		return append(order.AppendUint32(nil, n), b...)
	}
	options := slices.Concat([]byte{0x46, 0, 0, 39}, v4[4:20], []byte{1, 1, 1, 1}, v4[20:])
	tso4, tso6 := slices.Clone(v4), slices.Clone(v6)
	binary.BigEndian.PutUint16(tso4[2:], 0)
	binary.BigEndian.PutUint16(tso6[4:], 0)
	extensions := slices.Concat(
		[]byte{60, 0, 0, 0, 0, 0, 0, 0},                         // hop-by-hop
		[]byte{51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, // destination options
		[]byte{43, 4, 0, 0, 0, 0, 0, 0}, make([]byte, 16),       // authentication: length in words
		[]byte{44, 2, 0, 0, 0, 0, 0, 0}, make([]byte, 16), // routing
		ip6Fragment(protoUDP, 1, 0, false, udpOf([]byte("payload"))), // the only fragment
	)
	for _, c := range []struct {
		name string
		link uint16
		data []byte
		v6   bool
	}{
		{"ethernet v4", linkEthernet, ethernet(etypeIPv4, v4), false},
		{"ethernet v6", linkEthernet, ethernet(etypeIPv6, v6), true},
		{"ethernet padded", linkEthernet, append(ethernet(etypeIPv4, v4), make([]byte, 30)...), false},
		{"vlan", linkEthernet, ethernet(etypeIPv4, v4, 0x8100), false},
		{"vlans", linkEthernet, ethernet(etypeIPv6, v6, 0x88a8, 0x8100, 0x9100), true},
		{"raw 101 v4", linkRaw, v4, false},
		{"raw 101 v6", linkRaw, v6, true},
		{"raw 12", linkRawBSD, v4, false},
		{"raw 14", linkRawOBSD, v6, true},
		{"raw 228", linkIPv4, v4, false},
		{"raw 229", linkIPv6, v6, true},
		{"sll", linkLinuxSLL, sll(etypeIPv4, v4), false},
		{"sll v6", linkLinuxSLL, sll(etypeIPv6, v6), true},
		{"sll2", linkLinuxSLL2, sll2(etypeIPv4, v4), false},
		{"sll2 v6", linkLinuxSLL2, sll2(etypeIPv6, v6), true},
		{"null little", linkNull, family(binary.LittleEndian, 2, v4), false},
		{"null big", linkNull, family(binary.BigEndian, 2, v4), false},
		{"null FreeBSD v6", linkNull, family(binary.LittleEndian, 28, v6), true},
		{"null macOS v6", linkNull, family(binary.LittleEndian, 30, v6), true},
		{"null OpenBSD v6", linkNull, family(binary.BigEndian, 24, v6), true},
		{"ppp", linkPPP, append([]byte{0x00, 0x21}, v4...), false},
		{"ppp in HDLC-like framing", linkPPPSerial, append([]byte{0xff, 0x03, 0x00, 0x57}, v6...), true},
		{"mpls", linkMPLS, append(packettest.Label(24021, true), v4...), false},
		{"sll with a tag", linkLinuxSLL, sll(0x8100, append([]byte{0, 7, 0x08, 0x00}, v4...)), false},
		{"loop", linkLoop, family(binary.BigEndian, 2, v4), false},
		{"IPv4 options", linkRaw, options, false},
		{"IPv4 without length", linkRaw, tso4, false},
		{"IPv6 without length", linkRaw, tso6, true},
		{"IPv6 extensions", linkRaw, ip6(0, extensions), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds, _ := mustRead(t, pcapFile(binary.LittleEndian, true, frame{time: at, link: c.link, data: c.data}))
			src, dst := src4, dst4
			if c.v6 {
				src, dst = src6, dst6
			}
			compare(t, ds, []Datagram{{
				Time: at, Src: netip.AddrPortFrom(src, 40000), Dst: netip.AddrPortFrom(dst, 2055), Payload: []byte("payload"),
			}})
		})
	}
}

// TestPacketLinks reads datagrams behind the link layers that packets are sampled
// with, by the one table of packettest.
func TestPacketLinks(t *testing.T) {
	v4 := ip4(protoUDP, 0, 0, false, udpOf([]byte("payload")))
	v6 := ip6(protoUDP, udpOf([]byte("payload")))
	for _, link := range packettest.Links() {
		f4, f6 := link.Frame(etypeIPv4, v4), link.Frame(etypeIPv6, v6)
		ds, _ := mustRead(t, pcapFile(binary.LittleEndian, true, frame{time: at, data: f4, link: linkEthernet}, frame{time: at, data: append(f6, 0, 0, 0, 0)}))
		t.Log(link.Name)
		compare(t, ds, []Datagram{
			{Time: at, Src: netip.AddrPortFrom(src4, 40000), Dst: netip.AddrPortFrom(dst4, 2055), Payload: []byte("payload")},
			{Time: at, Src: netip.AddrPortFrom(src6, 40000), Dst: netip.AddrPortFrom(dst6, 2055), Payload: []byte("payload")},
		})
	}
}

// TestSkipped has packets that are no UDP datagram, or a broken one.
func TestSkipped(t *testing.T) {
	v4 := func(change func([]byte)) []byte {
		b := ip4(protoUDP, 0, 0, false, udpOf([]byte("payload")))
		change(b)
		return b
	}
	for _, c := range []struct {
		name string
		link uint16
		data []byte
		want Stats
	}{
		{"tcp", linkRaw, ip4(6, 0, 0, false, make([]byte, 20)), Stats{NotUDP: 1}},
		{"tcp fragment", linkRaw, ip4(6, 1, 0, true, make([]byte, 24)), Stats{NotUDP: 1}},
		{"icmp6", linkRaw, ip6(58, make([]byte, 8)), Stats{NotUDP: 1}},
		{"tcp6 fragment", linkRaw, ip6(44, ip6Fragment(6, 1, 0, true, make([]byte, 24))), Stats{NotUDP: 1}},
		{"arp", linkEthernet, ethernet(0x0806, make([]byte, 28)), Stats{NotUDP: 1}},
		{"appletalk on loopback", linkNull, []byte{16, 0, 0, 0, 1}, Stats{NotUDP: 1}},
		{"empty", linkRaw, nil, Stats{Malformed: 1}},
		{"empty frame", linkEthernet, nil, Stats{Malformed: 1}},
		{"half a tag", linkEthernet, ethernet(0x8100, []byte{0}), Stats{Malformed: 1}},
		{"half a label stack", linkEthernet, ethernet(0x8847, packettest.Label(24021, false)), Stats{Malformed: 1}},
		{"half a PPPoE header", linkEthernet, ethernet(0x8864, []byte{0x11, 0, 0, 7}), Stats{Malformed: 1}},
		{"in a tunnel", linkRaw, ip4(4, 0, 0, false, v4(func([]byte) {})), Stats{NotUDP: 1}},
		{"in a tunnel v6", linkRaw, ip6(41, ip6(protoUDP, udpOf([]byte("payload")))), Stats{NotUDP: 1}},
		{"empty on loopback", linkLoop, []byte{0, 0}, Stats{Malformed: 1}},
		{"short sll2", linkLinuxSLL2, make([]byte, 19), Stats{Malformed: 1}},
		{"version 5", linkRaw, v4(func(b []byte) { b[0] = 0x55 }), Stats{Malformed: 1}},
		{"header too short", linkRaw, v4(func(b []byte) { b[0] = 0x44 }), Stats{Malformed: 1}},
		{"header too long", linkRaw, v4(func(b []byte) { b[0] = 0x4f }), Stats{Malformed: 1}},
		{"length below header", linkRaw, v4(func(b []byte) { b[3] = 19 }), Stats{Malformed: 1}},
		{"length beyond packet", linkRaw, v4(func(b []byte) { b[3]++ }), Stats{Malformed: 1}},
		{"UDP length beyond packet", linkRaw, v4(func(b []byte) { b[25]++ }), Stats{Malformed: 1}},
		{"UDP length too short", linkRaw, v4(func(b []byte) { b[25] = 7 }), Stats{Malformed: 1}},
		{"no UDP length", linkRaw, v4(func(b []byte) { b[25] = 0 }), Stats{Malformed: 1}},
		{"half a UDP header", linkRaw, ip4(protoUDP, 0, 0, false, make([]byte, 7)), Stats{Malformed: 1}},
		{"short IPv6", linkRaw, ip6(protoUDP, nil)[:39], Stats{Malformed: 1}},
		{"IPv6 length beyond packet", linkRaw, ip6(protoUDP, udpOf(nil))[:47], Stats{Malformed: 1}},
		{"extension beyond packet", linkRaw, ip6(60, []byte{17, 1, 0, 0, 0, 0, 0, 0}), Stats{Malformed: 1}},
		{"half an extension", linkRaw, ip6(60, []byte{17, 0, 0}), Stats{Malformed: 1}},
		{"half a fragment header", linkRaw, ip6(44, []byte{17, 0, 0}), Stats{Malformed: 1}},
		{"empty fragment", linkRaw, ip4(protoUDP, 1, 8, true, nil), Stats{Malformed: 1}},
		{"fragment not of eights", linkRaw, ip4(protoUDP, 1, 0, true, make([]byte, 9)), Stats{Malformed: 1}},
		{"fragment too far", linkRaw, ip4(protoUDP, 1, 65528, false, make([]byte, 8)), Stats{Malformed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A good packet beside it must come out.
			good := frame{time: at, link: c.link, data: map[uint16][]byte{
				linkRaw:       v4(func([]byte) {}),
				linkEthernet:  ethernet(etypeIPv4, v4(func([]byte) {})),
				linkLinuxSLL2: sll2(etypeIPv4, v4(func([]byte) {})),
				linkNull:      append([]byte{0, 0, 0, 2}, v4(func([]byte) {})...),
				linkLoop:      append([]byte{0, 0, 0, 2}, v4(func([]byte) {})...),
			}[c.link]}
			_, stats := mustRead(t, pcapFile(binary.LittleEndian, false, frame{time: at, link: c.link, data: c.data}, good))
			c.want.Packets += 2
			c.want.Whole++
			if stats != c.want {
				t.Errorf("stats %+v, want %+v", stats, c.want)
			}
		})
	}
}

// TestSnapLength cuts a packet at every byte.
func TestSnapLength(t *testing.T) {
	for _, c := range []struct {
		name    string
		data    []byte
		headers int
	}{
		{"v4", ethernet(etypeIPv4, ip4(protoUDP, 0, 0, false, udpOf([]byte("payload")))), 14 + 20 + 8},
		{"v6", ethernet(etypeIPv6, ip6(protoUDP, udpOf([]byte("payload")))), 14 + 40 + 8},
		{"padded", append(ethernet(etypeIPv4, ip4(protoUDP, 0, 0, false, udpOf([]byte("payload")))), 0, 0, 0, 0), 14 + 20 + 8},
	} {
		for snap := 1; snap < len(c.data); snap++ {
			f := frame{time: at, link: linkEthernet, data: c.data, snap: snap}
			for _, capture := range [][]byte{pcapFile(binary.BigEndian, true, f), ngFile(binary.LittleEndian, f)} {
				ds, stats := mustRead(t, capture)
				switch {
				case snap < c.headers:
					if stats.Malformed != 1 {
						t.Errorf("%s cut to %d: %+v", c.name, snap, stats)
					}
				default:
					want := "payload"[:min(7, snap-c.headers)]
					if string(ds[0].Payload) != want || ds[0].Truncated != (len(want) < 7) {
						t.Errorf("%s cut to %d: %q, truncated %v", c.name, snap, ds[0].Payload, ds[0].Truncated)
					}
				}
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	original := captures(t)["ovs-netflow5"]
	fs := frames(t, original)
	want, _ := mustRead(t, original)
	for name, capture := range map[string][]byte{
		"pcap": original, "pcapng little": ngFile(binary.LittleEndian, fs...), "pcapng big": ngFile(binary.BigEndian, fs...),
	} {
		// starts are the offsets at which packets or blocks begin.
		var starts []int
		if name == "pcap" {
			for at := 24; at < len(capture); at += 16 + int(binary.LittleEndian.Uint32(capture[at+8:])) {
				starts = append(starts, at)
			}
		} else {
			order := binary.ByteOrder(binary.LittleEndian)
			if strings.HasSuffix(name, "big") {
				order = binary.BigEndian
			}
			for at := 0; at < len(capture); at += int(order.Uint32(capture[at+4:])) {
				starts = append(starts, at)
			}
		}
		headers := len(starts) - len(fs)
		for cut := range len(capture) {
			ds, _, err := readAll(t, capture[:cut])
			i, boundary := slices.BinarySearch(starts, cut)
			if boundary && cut > 0 {
				if err != nil {
					t.Fatalf("%s cut at %d, where a packet ends: %v", name, cut, err)
				}
			} else {
				start := 0
				if i > 0 {
					start = starts[i-1]
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != fmt.Sprintf("at offset %d: unexpected EOF", start) {
					t.Fatalf("%s cut at %d: %v, want offset %d", name, cut, err, start)
				}
				i--
			}
			n := max(0, i-headers)
			// The packet may be there although the end of its block is not.
			if len(ds) != n && (len(ds) != n+1 || name == "pcap") {
				t.Fatalf("%s cut at %d: %d datagrams, want %d", name, cut, len(ds), n)
			}
			for i := range ds {
				if !same(&ds[i], &want[i]) {
					t.Fatalf("%s cut at %d: datagram %d differs", name, cut, i)
				}
			}
		}
	}
}

func TestErrors(t *testing.T) {
	good := ngFile(binary.LittleEndian, frame{time: at, link: linkRaw, data: ip4(protoUDP, 0, 0, false, udpOf([]byte("x")))})
	damage := func(b []byte, change func(b []byte)) []byte {
		b = slices.Clone(b)
		change(b)
		return b
	}
	put := binary.LittleEndian.PutUint32
	packet := 28 + int(binary.LittleEndian.Uint32(good[28+4:])) // its block
	pcap := pcapFile(binary.LittleEndian, false, frame{time: at, link: linkRaw, data: ip4(protoUDP, 0, 0, false, udpOf([]byte("x")))})
	zipped := gzipped(t, pcap)
	for _, c := range []struct {
		name    string
		capture []byte
		want    string
		count   int
	}{
		{"empty", nil, "at offset 0: unexpected EOF", 0},
		{"text", []byte("hello, world"), "at offset 0: neither pcap nor pcapng: it begins with 68656c6c", 0},
		{"pcap version", damage(pcap, func(b []byte) { b[4] = 3 }), "at offset 0: pcap version 3.4 is not supported", 0},
		{"pcap huge packet", damage(pcap, func(b []byte) { put(b[24+8:], 0xffffffff) }), "at offset 24: a packet of 4294967295 bytes is longer than any", 0},
		{"link type", damage(pcap, func(b []byte) { b[20] = 105 }), "link type 105 is not supported", 0},
		{"no byte order", damage(good, func(b []byte) { b[8] = 0 }), "at offset 0: no byte order is written as 003c2b1a", 0},
		{"pcapng version", damage(good, func(b []byte) { b[12] = 2 }), "at offset 0: pcapng version 2.0 is not supported", 0},
		{"block length 8", damage(good, func(b []byte) { put(b[packet+4:], 8) }), fmt.Sprintf("at offset %d: a block's length cannot be 8", packet), 0},
		{"block length odd", damage(good, func(b []byte) { put(b[packet+4:], 65) }), fmt.Sprintf("at offset %d: a block's length cannot be 65", packet), 0},
		{"block length huge", damage(good, func(b []byte) { put(b[packet+4:], 0xfffffffc) }), fmt.Sprintf("at offset %d: unexpected EOF", packet), 1},
		{"block short", damage(good, func(b []byte) { put(b[packet+4:], 28) }), fmt.Sprintf("at offset %d: a block of 28 bytes is too short for its type", packet), 0},
		{"lengths differ", damage(good, func(b []byte) { put(b[len(b)-4:], 60) }), fmt.Sprintf("at offset %d: a block's length is %d at its begin and 60 at its end", packet, len(good)-packet), 1},
		{"packet beyond block", damage(good, func(b []byte) { put(b[packet+20:], 1000) }), fmt.Sprintf("at offset %d: a packet of 1000 bytes in a block with room for %d", packet, len(good)-packet-32), 0},
		{"unknown interface", damage(good, func(b []byte) { put(b[packet+8:], 1) }), fmt.Sprintf("at offset %d: a packet of interface 1, of which there is no description", packet), 0},
		{"no interface", damage(good, func(b []byte) { put(b[28:], 99); put(b[packet:], ngSimplePacket) }), fmt.Sprintf("at offset %d: a packet before the description of its interface", packet), 0},
		{"gzip header", []byte("\x1f\x8bxxxxxxxxxxx"), "at offset 0: gzip: invalid header", 0},
		{"gzip cut", zipped[:len(zipped)-9], "of the uncompressed capture: unexpected EOF", 1},
		{"gzip checksum", damage(zipped, func(b []byte) { b[len(b)-6] ^= 1 }), fmt.Sprintf("at offset %d of the uncompressed capture: gzip: invalid checksum", len(pcap)), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds, _, err := readAll(t, c.capture)
			if err == nil || !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("error %q, want %q", err, c.want)
			}
			if len(ds) != c.count {
				t.Errorf("%d datagrams, want %d", len(ds), c.count)
			}
		})
	}
}

func FuzzCapture(f *testing.F) {
	for _, capture := range captures(f) {
		fs := frames(f, capture)
		fs = fs[:min(len(fs), 3)]
		f.Add(pcapFile(binary.LittleEndian, false, fs...))
		f.Add(ngFile(binary.BigEndian, fs...))
	}
	payload := bytes.Repeat([]byte("payload "), 5)
	f.Add(pcapFile(binary.BigEndian, true,
		frame{time: at, link: linkEthernet, data: ethernet(etypeIPv4, ip4(protoUDP, 1, 0, true, udpOf(payload)[:24]), 0x8100)},
		frame{time: at, link: linkEthernet, data: ethernet(etypeIPv4, ip4(protoUDP, 1, 24, false, udpOf(payload)[24:]))}))
	f.Add(ngFile(binary.LittleEndian,
		frame{time: at, link: linkRaw, data: ip6(44, ip6Fragment(protoUDP, 1, 24, false, udpOf(payload)[24:]))},
		frame{time: at, link: linkRaw, data: ip6(44, ip6Fragment(protoUDP, 1, 0, true, udpOf(payload)[:24]))}))
	f.Add(pcapFile(binary.LittleEndian, false, frame{time: at, link: linkLinuxSLL2, data: sll2(etypeIPv6, ip6(0, make([]byte, 24)))}))
	f.Add(gzipped(f, pcapFile(binary.LittleEndian, false, frame{time: at, link: linkNull, data: make([]byte, 30)})))
	f.Fuzz(func(t *testing.T, capture []byte) {
		if len(capture) > 1<<20 {
			t.Skip("a gzip bomb is only slow")
		}
		var handed uint64
		stats, err := read(t.Context(), bytes.NewReader(capture), at, func(d *Datagram) {
			handed++
			if !d.Src.IsValid() || !d.Dst.IsValid() || !time.Unix(0, d.Time.UnixNano()).Equal(d.Time) || len(d.Payload) > 65535 {
				t.Errorf("strange datagram %+v", d)
			}
		})
		if sum := stats.Whole + stats.Fragments + stats.NotUDP + stats.Malformed + stats.UnknownLink; sum != stats.Packets {
			t.Errorf("stats %+v do not add up", stats)
		}
		if stats.Datagrams() != handed {
			t.Errorf("%d datagrams counted, %d handed on", stats.Datagrams(), handed)
		}
		if err == nil && len(capture) == 0 {
			t.Error("nothing is no capture")
		}
	})
}
