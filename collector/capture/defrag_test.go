package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// split cuts b into fragments of size bytes, a multiple of 8.
func split(b []byte, size int, packet func(offset int, more bool, data []byte) []byte) [][]byte {
	var packets [][]byte
	for offset := 0; offset < len(b); offset += size {
		end := min(offset+size, len(b))
		packets = append(packets, packet(offset, end < len(b), b[offset:end]))
	}
	return packets
}

func split4(id uint16, b []byte, size int) [][]byte {
	return split(b, size, func(offset int, more bool, data []byte) []byte {
		return ip4(protoUDP, id, offset, more, data)
	})
}

func split6(id uint32, proto byte, b []byte, size int) [][]byte {
	return split(b, size, func(offset int, more bool, data []byte) []byte {
		return ip6(44, ip6Fragment(proto, id, offset, more, data))
	})
}

// step is how far apart the packets of rawFile are.
const step = 100 * time.Millisecond

// rawFile is a capture of raw IP packets.
func rawFile(packets ...[]byte) []byte {
	var fs []frame
	for i, p := range packets {
		fs = append(fs, frame{time: at.Add(time.Duration(i) * step), link: linkRaw, data: p})
	}
	return pcapFile(binary.LittleEndian, true, fs...)
}

func TestFragments(t *testing.T) {
	payload := make([]byte, 1403)
	for i := range payload {
		payload[i] = byte(i)
	}
	options := slices.Concat([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, udpOf(payload))
	swap := func(p [][]byte) [][]byte { slices.Reverse(p); return p }
	for _, c := range []struct {
		name    string
		packets [][]byte
		v6      bool
		at      int // which packet completes it
	}{
		{"v4", split4(7, udpOf(payload), 512), false, 2},
		{"v4 tiny", split4(7, udpOf(payload), 8), false, 176},
		{"v4 reversed", swap(split4(7, udpOf(payload), 512)), false, 2},
		{"v4 twice", slices.Concat(split4(7, udpOf(payload), 512)[:2], split4(7, udpOf(payload), 512)), false, 4},
		{"v6", split6(1<<30, protoUDP, udpOf(payload), 512), true, 2},
		{"v6 reversed", swap(split6(1<<30, protoUDP, udpOf(payload), 1024)), true, 1},
		{"v6 with options", split6(9, 60, options, 512), true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds, stats := mustRead(t, rawFile(c.packets...))
			if stats.Reassembled != 1 || stats.Fragments != uint64(len(c.packets)) {
				t.Errorf("stats %+v of %d packets", stats, len(c.packets))
			}
			src, dst := src4, dst4
			if c.v6 {
				src, dst = src6, dst6
			}
			compare(t, ds, []Datagram{{
				Time: at.Add(time.Duration(c.at) * step), Payload: payload,
				Src: netip.AddrPortFrom(src, 40000), Dst: netip.AddrPortFrom(dst, 2055),
			}})
		})
	}
}

// TestFragmentsInterleaved shuffles the fragments of many datagrams.
func TestFragmentsInterleaved(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var packets [][]byte
	want := make(map[string]int)
	for id := range 200 {
		payload := bytes.Repeat([]byte{byte(id)}, 1+random.IntN(4000))
		payload = binary.BigEndian.AppendUint16(payload, uint16(id))
		want[string(payload)]++
		size := 8 * (1 + random.IntN(100))
		if id%2 == 0 {
			packets = append(packets, split4(uint16(id), udpOf(payload), size)...)
		} else {
			packets = append(packets, split6(uint32(id), protoUDP, udpOf(payload), size)...)
		}
	}
	random.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	var fs []frame
	for _, p := range packets {
		fs = append(fs, frame{time: at, link: linkRaw, data: p})
	}
	ds, _ := mustRead(t, pcapFile(binary.LittleEndian, true, fs...))
	if len(ds) != 200 {
		t.Errorf("%d datagrams, want 200", len(ds))
	}
	for _, d := range ds {
		if want[string(d.Payload)]--; want[string(d.Payload)] < 0 {
			t.Errorf("an unknown datagram of %d bytes", len(d.Payload))
		}
	}
}

func TestFragmentsDropped(t *testing.T) {
	payload := make([]byte, 80)
	whole := split4(7, udpOf(payload), 32) // 32, 32, 24
	later := func(p []byte, by time.Duration) frame { return frame{time: at.Add(by), link: linkRaw, data: p} }
	for _, c := range []struct {
		name   string
		frames []frame
		want   Stats
	}{
		{"one missing", []frame{later(whole[0], 0), later(whole[2], 0)}, Stats{Incomplete: 1, Fragments: 2}},
		{"in time", []frame{later(whole[0], 0), later(whole[1], fragmentTimeout), later(whole[2], fragmentTimeout)}, Stats{Fragments: 3, Reassembled: 1}},
		{"too late", []frame{later(whole[0], 0), later(whole[1], 0), later(whole[2], fragmentTimeout+1)}, Stats{Incomplete: 2, Fragments: 3}},
		{"clock set back", []frame{later(whole[0], 0), later(whole[1], -time.Hour), later(whole[2], -time.Hour)}, Stats{Incomplete: 2, Fragments: 3}},
		{"overlap before", []frame{later(whole[0], 0), later(ip4(protoUDP, 7, 24, true, payload[:32]), 0), later(whole[1], 0), later(whole[2], 0)}, Stats{Incomplete: 2, Fragments: 3, Malformed: 1}},
		{"overlap behind", []frame{later(whole[1], 0), later(ip4(protoUDP, 7, 8, true, payload[:32]), 0), later(whole[0], 0), later(whole[2], 0)}, Stats{Incomplete: 2, Fragments: 3, Malformed: 1}},
		{"two ends", []frame{later(whole[2], 0), later(ip4(protoUDP, 7, 96, false, payload[:8]), 0), later(whole[0], 0), later(whole[1], 0)}, Stats{Incomplete: 2, Fragments: 3, Malformed: 1}},
		{"beyond the end", []frame{later(whole[2], 0), later(ip4(protoUDP, 7, 96, true, payload[:8]), 0)}, Stats{Incomplete: 1, Fragments: 1, Malformed: 1}},
		{"end before others", []frame{later(whole[1], 0), later(ip4(protoUDP, 7, 8, false, payload[:8]), 0)}, Stats{Incomplete: 1, Fragments: 1, Malformed: 1}},
		{"another id", []frame{later(whole[0], 0), later(whole[1], 0), later(split4(8, udpOf(payload), 32)[2], 0)}, Stats{Incomplete: 2, Fragments: 3}},
		{"cut by the snap length", []frame{later(whole[0], 0), later(whole[1], 0), {time: at, link: linkRaw, data: whole[2], snap: 30}}, Stats{Incomplete: 1, Fragments: 2, Malformed: 1}},
		{"reassembled to a fragment", []frame{
			later(ip6(44, ip6Fragment(60, 1, 0, true, []byte{44, 0, 0, 0, 0, 0, 0, 0})), 0),
			later(ip6(44, ip6Fragment(60, 1, 8, false, ip6Fragment(protoUDP, 2, 0, true, payload))), 0),
		}, Stats{Fragments: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, stats := mustRead(t, pcapFile(binary.LittleEndian, true, c.frames...))
			c.want.Packets = uint64(len(c.frames))
			if stats != c.want {
				t.Errorf("stats %+v, want %+v", stats, c.want)
			}
		})
	}
}

// TestFragmentsBounded floods with fragments whose datagrams never end.
func TestFragmentsBounded(t *testing.T) {
	for _, size := range []int{8, 1400} {
		p := parser{fn: func(*Datagram) { t.Error("a datagram of nothing but beginnings") }}
		b := ip4(protoUDP, 0, 0, true, make([]byte, size))
		for i := range 100_000 {
			binary.BigEndian.PutUint16(b[4:], uint16(i))
			binary.BigEndian.PutUint16(b[12:], uint16(i>>16))
			p.packet(at, linkRaw, b, false)
		}
		sum := 0
		for _, d := range p.frags.partial {
			sum += d.cost()
		}
		if n := p.frags.order.Len(); p.frags.bytes > maxFragmentBytes || p.frags.bytes != sum || n != len(p.frags.partial) || n < 1000 {
			t.Errorf("of %d bytes each: %d datagrams wait (%d in the map), %d bytes, sum %d", size, n, len(p.frags.partial), p.frags.bytes, sum)
		}
		// The newest are kept.
		done := 0
		p.fn = func(*Datagram) { done++ }
		last := udpOf(make([]byte, size))
		first := ip4(protoUDP, 9, 0, true, last[:size])
		p.packet(at, linkRaw, first, false)
		p.packet(at, linkRaw, ip4(protoUDP, 9, size, false, last[size:]), false)
		if done != 1 {
			t.Error("a datagram whose fragments came together was not put together")
		}
	}
}

func BenchmarkRead(b *testing.B) {
	capture := captures(b)["ovs-ipfix-nolistener"]
	capture = append(slices.Clone(capture[:24]), slices.Repeat(capture[24:], 100)...)
	b.SetBytes(int64(len(capture)))
	b.ReportAllocs()
	var packets uint64
	for b.Loop() {
		stats, err := read(b.Context(), bytes.NewReader(capture), at, func(*Datagram) {})
		if err != nil {
			b.Fatal(err)
		}
		packets += stats.Packets
	}
	b.ReportMetric(float64(packets)/b.Elapsed().Seconds(), "packets/s")
}
