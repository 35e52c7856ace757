package capture

import (
	"context"
	"encoding/binary"
	"time"
)

// The magic numbers of pcap files (draft-ietf-opsawg-pcap), of times in
// microseconds and in nanoseconds.
const (
	pcapMicro = 0xa1b2c3d4
	pcapNano  = 0xa1b23c4d
)

// readPcap hands the packets of a pcap file to p.
func readPcap(ctx context.Context, in *input, order binary.ByteOrder, p *parser) error {
	const fileHeader, packetHeader = 24, 16
	header, err := in.peek(fileHeader)
	if err != nil {
		return err
	}
	unit := uint32(1000)
	if order.Uint32(header) == pcapNano {
		unit = 1
	}
	if major, minor := order.Uint16(header[4:]), order.Uint16(header[6:]); major != 2 {
		return in.errorf("pcap version %d.%d is not supported", major, minor)
	}
	// The upper half of the word has flags and the length of the frame check
	// sequence, which is after the IP packet and is ignored.
	link := uint16(order.Uint32(header[20:]))
	if err := in.skip(fileHeader); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !in.begin() {
			return nil
		}
		header, err := in.peek(packetHeader)
		if err != nil {
			return err
		}
		t := time.Unix(int64(order.Uint32(header)), int64(order.Uint32(header[4:]))*int64(unit))
		captured, length := order.Uint32(header[8:]), order.Uint32(header[12:])
		if captured > maxPacket {
			return in.errorf("a packet of %d bytes is longer than any", captured)
		}
		record, err := in.peek(packetHeader + int(captured))
		if err != nil {
			return err
		}
		p.packet(t, link, record[packetHeader:], captured < length)
		if err := in.skip(int64(len(record))); err != nil {
			return err
		}
	}
}
