// Package exporter sends flows as network devices do: IPFIX in the shape of
// Open vSwitch's, NetFlow v9 and v5, sFlow.
package exporter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Flow is what the exporter sends of one flow. Its start and end are the time when it
// is sent.
type Flow struct {
	Src, Dst         netip.Addr // an IPv4-mapped address is exported as IPv6
	SrcPort, DstPort uint16
	Proto            uint8
	Direction        uint8 // IE 61: 0 into the device, 1 out of it; IPFIX and NetFlow v9
	Bytes, Packets   uint64
}

// Exporter sends datagrams from one socket, as one device. Each method sends
// all the flows that it is given in a single datagram.
type Exporter struct {
	conn      net.Conn
	flows     uint32 // sent, of IPFIX and NetFlow v5: their sequence numbers count flows
	datagrams uint32 // sent, of the others
}

// Dial makes an exporter for the collector at addr.
func Dial(addr string) (*Exporter, error) { return DialFrom(netip.Addr{}, addr) }

// DialFrom makes an exporter whose address is from, one of this machine.
func DialFrom(from netip.Addr, addr string) (*Exporter, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.Dial("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("exporter: %w", err)
	}
	return &Exporter{conn: conn}, nil
}

// Close closes the exporter's socket.
func (e *Exporter) Close() error { return e.conn.Close() }

func (e *Exporter) send(datagram []byte, flows int) error {
	if _, err := e.conn.Write(datagram); err != nil {
		return fmt.Errorf("exporter: %w", err)
	}
	e.flows += uint32(flows)
	e.datagrams++
	return nil
}

// be appends numbers in network byte order.
var be = binary.BigEndian

// field is a field of a template and what it holds of a flow.
type field struct {
	id, size uint16
	value    func(*Flow) []byte // nil: zeros
}

func number(size int, value uint64) []byte { return be.AppendUint64(nil, value)[8-size:] }

func constant(value ...byte) func(*Flow) []byte { return func(*Flow) []byte { return value } }

func as16(addr netip.Addr) []byte { b := addr.As16(); return b[:] }

var (
	// Ethernet, ports and counters, with the same numbers in IPFIX and NetFlow v9.
	common = []field{
		{61, 1, func(f *Flow) []byte { return []byte{f.Direction} }},
		{56, 6, constant(0x0a, 0x58, 0x0a, 0xf4, 0, 5)},
		{80, 6, constant(0x0a, 0x58, 0x0a, 0xf4, 0, 1)},
		{10, 4, constant(0, 0, 0, 12)},
		{4, 1, func(f *Flow) []byte { return []byte{f.Proto} }},
		{7, 2, func(f *Flow) []byte { return number(2, uint64(f.SrcPort)) }},
		{11, 2, func(f *Flow) []byte { return number(2, uint64(f.DstPort)) }},
		{2, 8, func(f *Flow) []byte { return number(8, f.Packets) }},
		{1, 8, func(f *Flow) []byte { return number(8, f.Bytes) }},
	}
	ipv4 = []field{
		{60, 1, constant(4)},
		{8, 4, func(f *Flow) []byte { return f.Src.AsSlice() }},
		{12, 4, func(f *Flow) []byte { return f.Dst.AsSlice() }},
	}
	ipv6 = []field{
		{60, 1, constant(6)},
		{27, 16, func(f *Flow) []byte { return as16(f.Src) }},
		{28, 16, func(f *Flow) []byte { return as16(f.Dst) }},
	}

	// Open vSwitch sends microseconds before the export time.
	ipfixTimes = []field{{158, 4, nil}, {159, 4, nil}, {136, 1, constant(1)}}
	// Milliseconds of uptime; the header's uptime is zero as well.
	v9Times = []field{{22, 4, nil}, {21, 4, nil}}
)

const (
	templateIPv4 = 256 + iota
	templateIPv6
)

func isIPv4(f *Flow) bool { return f.Src.Is4() && f.Dst.Is4() }

// appendTemplate appends a set with one template.
func appendTemplate(b []byte, set, id uint16, fields []field) []byte {
	b = be.AppendUint16(b, set)
	b = be.AppendUint16(b, uint16(8+4*len(fields)))
	b = be.AppendUint16(b, id)
	b = be.AppendUint16(b, uint16(len(fields)))
	for _, f := range fields {
		b = be.AppendUint16(b, f.id)
		b = be.AppendUint16(b, f.size)
	}
	return b
}

// appendData appends a set with one record, padded to four bytes.
func appendData(b []byte, id uint16, fields []field, f *Flow) []byte {
	start := len(b)
	b = be.AppendUint16(b, id)
	b = be.AppendUint16(b, 0)
	for _, field := range fields {
		if field.value == nil {
			b = append(b, make([]byte, field.size)...)
		} else {
			b = append(b, field.value(f)...)
		}
	}
	for (len(b)-start)%4 != 0 {
		b = append(b, 0)
	}
	be.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// appendSets appends both templates and a data set for each flow; it returns
// how many records that makes, templates included.
func appendSets(b []byte, templateSet uint16, times []field, flows []Flow) ([]byte, int) {
	v4 := join(common, ipv4, times)
	v6 := join(common, ipv6, times)
	b = appendTemplate(b, templateSet, templateIPv4, v4)
	b = appendTemplate(b, templateSet, templateIPv6, v6)
	for i := range flows {
		if f := &flows[i]; isIPv4(f) {
			b = appendData(b, templateIPv4, v4, f)
		} else {
			b = appendData(b, templateIPv6, v6, f)
		}
	}
	return b, len(flows) + 2
}

func join(parts ...[]field) []field {
	var all []field
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// exportTime is the present, rounded up to a second as Open vSwitch does it.
func exportTime() uint32 { return uint32(time.Now().Add(time.Second - time.Nanosecond).Unix()) }

// IPFIX sends flows with the information elements of an Open vSwitch bridge,
// the templates in front of them.
func (e *Exporter) IPFIX(flows ...Flow) error {
	b := make([]byte, 16)
	be.PutUint16(b, 10)
	be.PutUint32(b[4:], exportTime())
	be.PutUint32(b[8:], e.flows)
	b, _ = appendSets(b, 2, ipfixTimes, flows)
	be.PutUint16(b[2:], uint16(len(b)))
	return e.send(b, len(flows))
}

// NetFlow9 sends flows as NetFlow v9, the templates in front of them.
func (e *Exporter) NetFlow9(flows ...Flow) error {
	b := make([]byte, 20)
	be.PutUint16(b, 9)
	be.PutUint32(b[8:], exportTime())
	be.PutUint32(b[12:], e.datagrams)
	b, count := appendSets(b, 0, v9Times, flows)
	be.PutUint16(b[2:], uint16(count))
	return e.send(b, 0)
}

var errIPv4Only = errors.New("exporter: NetFlow v5 is for IPv4 only")

// NetFlow5 sends at most 30 IPv4 flows as NetFlow v5.
func (e *Exporter) NetFlow5(flows ...Flow) error {
	b := make([]byte, 24)
	be.PutUint16(b, 5)
	be.PutUint16(b[2:], uint16(len(flows)))
	be.PutUint32(b[8:], exportTime())
	be.PutUint32(b[16:], e.flows)
	for i := range flows {
		f := &flows[i]
		if !isIPv4(f) {
			return errIPv4Only
		}
		record := make([]byte, 48)
		copy(record, f.Src.AsSlice())
		copy(record[4:], f.Dst.AsSlice())
		be.PutUint16(record[12:], 12) // input interface
		be.PutUint32(record[16:], uint32(f.Packets))
		be.PutUint32(record[20:], uint32(f.Bytes))
		be.PutUint16(record[32:], f.SrcPort)
		be.PutUint16(record[34:], f.DstPort)
		record[38] = f.Proto
		b = append(b, record...)
	}
	return e.send(b, len(flows))
}
