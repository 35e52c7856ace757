package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/packet"
)

const (
	etypeIPv4 = packet.EtherIPv4
	etypeIPv6 = packet.EtherIPv6
	protoUDP  = packet.ProtoUDP
)

// frame is one captured packet, for building captures.
type frame struct {
	time  time.Time
	link  uint16
	data  []byte
	iface int // in pcapng
	snap  int // cut to this, if > 0
}

func (f *frame) captured() []byte {
	if f.snap > 0 && f.snap < len(f.data) {
		return f.data[:f.snap]
	}
	return f.data
}

// pcapFile writes a pcap file.
func pcapFile(order binary.AppendByteOrder, nano bool, frames ...frame) []byte {
	magic, unit := uint32(pcapMicro), 1000
	if nano {
		magic, unit = pcapNano, 1
	}
	link := uint16(linkEthernet)
	if len(frames) > 0 {
		link = frames[0].link
	}
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(b, 262144)
	b = order.AppendUint32(b, uint32(link))
	for _, f := range frames {
		b = order.AppendUint32(b, uint32(f.time.Unix()))
		b = order.AppendUint32(b, uint32(f.time.Nanosecond()/unit))
		b = order.AppendUint32(b, uint32(len(f.captured())))
		b = order.AppendUint32(b, uint32(len(f.data)))
		b = append(b, f.captured()...)
	}
	return b
}

// ng writes pcapng files.
type ng struct {
	binary.AppendByteOrder
	b []byte
}

func (w *ng) block(kind uint32, body []byte) {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	w.b = w.AppendUint32(w.b, kind)
	w.b = w.AppendUint32(w.b, uint32(len(body)+12))
	w.b = append(w.b, body...)
	w.b = w.AppendUint32(w.b, uint32(len(body)+12))
}

func (w *ng) section() {
	body := w.AppendUint32(nil, ngByteOrder)
	body = w.AppendUint16(body, 1)
	body = w.AppendUint16(body, 0)
	body = w.AppendUint64(body, math.MaxUint64)
	w.block(ngSectionHeader, body)
}

func (w *ng) option(b []byte, code uint16, value []byte) []byte {
	b = w.AppendUint16(b, code)
	b = w.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// iface describes an interface; a resolution below 0 is left out.
func (w *ng) iface(link uint16, snapLen uint32, resolution int, offset int64) {
	body := w.AppendUint16(nil, link)
	body = w.AppendUint16(body, 0)
	body = w.AppendUint32(body, snapLen)
	body = w.option(body, 2, []byte("eth0"))
	if resolution >= 0 {
		body = w.option(body, ngOptionTsresol, []byte{byte(resolution)})
	}
	if offset != 0 {
		body = w.option(body, ngOptionTsoffset, w.AppendUint64(nil, uint64(offset)))
	}
	w.block(ngInterfaceDescription, w.option(body, ngOptionEnd, nil))
}

func (w *ng) packet(kind uint32, ticks uint64, f *frame) {
	var body []byte
	if kind == ngObsoletePacket {
		body = w.AppendUint16(nil, uint16(f.iface))
		body = w.AppendUint16(body, 7) // drops
	} else {
		body = w.AppendUint32(nil, uint32(f.iface))
	}
	body = w.AppendUint32(body, uint32(ticks>>32))
	body = w.AppendUint32(body, uint32(ticks))
	body = w.AppendUint32(body, uint32(len(f.captured())))
	body = w.AppendUint32(body, uint32(len(f.data)))
	body = append(body, f.captured()...)
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	w.block(kind, w.option(body, 1, []byte("a comment")))
}

func (w *ng) simple(f *frame) {
	w.block(ngSimplePacket, append(w.AppendUint32(nil, uint32(len(f.data))), f.captured()...))
}

// ngFile writes a pcapng file of one interface whose times are nanoseconds.
func ngFile(order binary.AppendByteOrder, frames ...frame) []byte {
	w := ng{AppendByteOrder: order}
	w.section()
	w.iface(frames[0].link, 0, 9, 0)
	for i := range frames {
		w.packet(ngEnhancedPacket, uint64(frames[i].time.UnixNano()), &frames[i])
	}
	return w.b
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Packets, from the inside out.

func udpOf(payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 40000)
	b = binary.BigEndian.AppendUint16(b, 2055)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)+8))
	return append(append(b, 0, 0), payload...)
}

var (
	src4, dst4 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	src6, dst6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

// ip4 is an IPv4 packet, of a fragment if more or offset say so.
func ip4(proto byte, id uint16, offset int, more bool, data []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(data)))
	b = binary.BigEndian.AppendUint16(b, id)
	flags := uint16(offset / 8)
	if more {
		flags |= 0x2000
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 64, proto, 0, 0)
	return slices.Concat(b, src4.AsSlice(), dst4.AsSlice(), data)
}

func ip6(proto byte, data []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(data)))
	b = append(b, proto, 64)
	return slices.Concat(b, src6.AsSlice(), dst6.AsSlice(), data)
}

// ip6Fragment is an IPv6 fragment header and what follows it.
func ip6Fragment(proto byte, id uint32, offset int, more bool, data []byte) []byte {
	flags := uint16(offset)
	if more {
		flags |= 1
	}
	b := binary.BigEndian.AppendUint16([]byte{proto, 0}, flags)
	return append(binary.BigEndian.AppendUint32(b, id), data...)
}

func ethernet(etype uint16, data []byte, tags ...uint16) []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	for _, tag := range tags {
		b = append(binary.BigEndian.AppendUint16(b, tag), 0, 7)
	}
	return append(binary.BigEndian.AppendUint16(b, etype), data...)
}

func sll(etype uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 14), etype), data...)
}

func sll2(etype uint16, data []byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, etype)
	return append(b, data...)
}
