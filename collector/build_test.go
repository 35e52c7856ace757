package collector

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// The builders below make datagrams for what no capture has: faults, and shapes
// of exporters that cannot be run in a lab.

var testSource = netip.MustParseAddrPort("192.0.2.1:4739")

const (
	testTime   = int64(1_700_000_000_500_000_000) // Unix nanoseconds
	testExport = uint32(1_700_000_000)
)

// be appends values in network byte order; strings and slices are copied.
func be(values ...any) []byte {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case uint8:
			b = append(b, v)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		case string:
			b = append(b, v...)
		case []byte:
			b = append(b, v...)
		case netip.Addr:
			b = append(b, v.AsSlice()...)
		default:
			panic("be: unknown type")
		}
	}
	return b
}

func set(id uint16, content ...[]byte) []byte {
	b := be(id, uint16(0))
	for _, c := range content {
		b = append(b, c...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func ipfixMessage(sequence, domain uint32, sets ...[]byte) []byte {
	b := be(uint16(10), uint16(0), testExport, sequence, domain)
	for _, s := range sets {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func v9Message(sequence, domain uint32, sets ...[]byte) []byte {
	b := be(uint16(9), uint16(len(sets)), uint32(60_000), testExport, sequence, domain)
	for _, s := range sets {
		b = append(b, s...)
	}
	return b
}

// ie is an element of a template; pen 0 is IANA's.
type ie struct {
	typ, length uint16
	pen         uint32
}

func templateRecord(id uint16, fields ...ie) []byte {
	b := be(id, uint16(len(fields)))
	for _, f := range fields {
		b = append(b, fieldSpec(f)...)
	}
	return b
}

func optionsRecord(id uint16, scopes int, fields ...ie) []byte {
	b := be(id, uint16(len(fields)), uint16(scopes))
	for _, f := range fields {
		b = append(b, fieldSpec(f)...)
	}
	return b
}

// v9OptionsRecord is an options template of NetFlow v9, which counts bytes.
func v9OptionsRecord(id uint16, scopes int, fields ...ie) []byte {
	scopes = min(scopes, len(fields))
	b := be(id, uint16(4*scopes), uint16(4*(len(fields)-scopes)))
	for _, f := range fields {
		b = append(b, be(f.typ, f.length)...)
	}
	return b
}

func fieldSpec(f ie) []byte {
	if f.pen != 0 {
		return be(f.typ|0x8000, f.length, f.pen)
	}
	return be(f.typ, f.length)
}

// basicTemplate is a template of a 5-tuple with counters.
func basicTemplate(id uint16) []byte {
	return templateRecord(id, ie{8, 4, 0}, ie{12, 4, 0}, ie{7, 2, 0}, ie{11, 2, 0}, ie{4, 1, 0}, ie{1, 4, 0}, ie{2, 4, 0})
}

// basicRecord is a record of basicTemplate.
func basicRecord(port uint16) []byte {
	return be(netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("10.96.0.1"), port, uint16(443), uint8(6), uint32(1000), uint32(10))
}

const basicTuple = "10.244.0.5 10.96.0.1 40000 443 6 1000 10"

func v5Message(count int, records ...[]byte) []byte {
	b := be(uint16(5), uint16(count), uint32(60_000), testExport, uint32(0), uint32(7), uint8(0), uint8(0), uint16(1<<14|100))
	for _, r := range records {
		b = append(b, r...)
	}
	return b
}

func v5Record(port uint16) []byte {
	return be(netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("0.0.0.0"),
		uint16(1), uint16(2), uint32(10), uint32(1000), uint32(50_000), uint32(59_000), port, uint16(443),
		uint8(0), uint8(0x1b), uint8(6), uint8(0), uint16(0), uint16(0), uint8(24), uint8(16), uint16(0))
}

// v1Message is a datagram of NetFlow v1.
func v1Message(count int, records ...[]byte) []byte {
	return be(uint16(1), uint16(count), uint32(60_000), testExport, uint32(0), bytes.Join(records, nil))
}

func v1Record(port uint16) []byte {
	return be(netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("10.244.0.1"),
		uint16(1), uint16(2), uint32(10), uint32(1000), uint32(50_000), uint32(59_000), port, uint16(443),
		uint16(0), uint8(6), uint8(0x10), uint8(0x1b), make([]byte, 7))
}

// v7Message is a datagram of NetFlow v7.
func v7Message(count int, records ...[]byte) []byte {
	return be(uint16(7), uint16(count), uint32(60_000), testExport, uint32(0), uint32(7), uint32(0), bytes.Join(records, nil))
}

func v7Record(port uint16) []byte {
	return be(v5Record(port)[:46], uint16(0), netip.MustParseAddr("192.0.2.77"))
}

func sflowMessage(samples ...[]byte) []byte {
	b := be(uint32(5), uint32(1), netip.MustParseAddr("192.0.2.9"), uint32(0), uint32(77), uint32(1000), uint32(len(samples)))
	for _, s := range samples {
		b = append(b, s...)
	}
	return b
}

func sflowSample(format uint32, content []byte) []byte {
	return be(format, uint32(len(content)), content)
}

// flowSample is a compact flow sample, rate 100, of the given flow records.
func flowSample(in, out uint32, records ...[]byte) []byte {
	b := be(uint32(1), uint32(3), uint32(100), uint32(1000), uint32(0), in, out, uint32(len(records)))
	for _, r := range records {
		b = append(b, r...)
	}
	return sflowSample(1, b)
}

// rawHeader is a raw packet header record: protocol 1 Ethernet, 11 IPv4, 12 IPv6.
func rawHeader(protocol uint32, frameLen int, header []byte) []byte {
	padded := append([]byte(nil), header...)
	for len(padded)%4 != 0 {
		padded = append(padded, 0)
	}
	return be(uint32(1), uint32(16+len(padded)), protocol, uint32(frameLen), uint32(0), uint32(len(header)), padded)
}

func ethernet(etype uint16, payload []byte) []byte {
	return be("\x02\x00\x00\x00\x00\x02", "\x02\x00\x00\x00\x00\x01", etype, payload)
}

func ipv4Packet(proto uint8, fragment uint16, payload []byte) []byte {
	return be(uint8(0x45), uint8(0), uint16(20+len(payload)), uint16(1), fragment, uint8(64), proto, uint16(0),
		netip.MustParseAddr("10.244.0.5"), netip.MustParseAddr("10.96.0.1"), payload)
}

func ipv6Packet(next uint8, payload []byte) []byte {
	return be(uint32(6<<28), uint16(len(payload)), next, uint8(64),
		netip.MustParseAddr("fd00:10:244::5"), netip.MustParseAddr("fd00:10:96::1"), payload)
}

func udpHeader(payload int) []byte {
	return append(be(uint16(40000), uint16(443), uint16(8+payload), uint16(0)), make([]byte, payload)...)
}
