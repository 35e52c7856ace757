package collector

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// ReadCapture decodes the exporter datagrams in a packet capture, in order and with
// the capture's own times. Those are the UDP payloads to the ports of the listeners,
// and to any port if the payload is of one of the protocols. Records go to h, on
// this goroutine. If ReadCapture returns an error, h has had all records that could
// be read. It returns nil if ctx ends. What may have been of exporters, but could not be
// read, is counted and logged.
func (c *Collector) ReadCapture(ctx context.Context, path string, h flow.Handler) error {
	return c.replay(ctx, path, h, func(fn func(*capture.Datagram)) (capture.Stats, error) {
		return capture.Read(ctx, path, fn)
	})
}

// ReadCaptureFrom does the same with a capture that comes as a stream. name is for errors and
// the log.
func (c *Collector) ReadCaptureFrom(ctx context.Context, in io.Reader, name string, h flow.Handler) error {
	return c.replay(ctx, name, h, func(fn func(*capture.Datagram)) (capture.Stats, error) {
		return capture.ReadFrom(ctx, in, name, fn)
	})
}

// replay decodes what read hands on.
func (c *Collector) replay(ctx context.Context, path string, h flow.Handler, read func(func(*capture.Datagram)) (capture.Stats, error)) error {
	d := c.NewDecoder(h)
	ports := make(map[uint16]Protocols)
	for _, l := range c.cfg.Listeners {
		ports[l.Port] |= l.Protocols
	}
	var checked, last int64
	var shared sharing
	var full holdWarning
	var passedOver [numPassedOver]uint64
	exports := 0
	others := make(map[uint16]int) // datagrams that are no flow exports, by their port
	stats, err := read(func(g *capture.Datagram) {
		allowed, ok := ports[g.Dst.Port()]
		if !ok {
			if !wholeMessage(g.Payload) {
				if protocolOf(g.Payload) != protoUnknown {
					passedOver[notWhole]++
				}
				if _, known := others[g.Dst.Port()]; known || len(others) < maxOtherPorts {
					others[g.Dst.Port()]++
				}
				return
			}
			allowed = AnyFlow
		}
		now := g.Time.UnixNano()
		if now-checked >= int64(maintenanceInterval) {
			checked = now
			d.closeGaps(now, false)
			c.exporters.lendTemplates(now, false)
			d.decodeLent()
			c.exporters.expireHeld(now, c.own)
			shared.check(c.exporters, now, c.log)
			full.check(c, now)
		}
		last = now
		exports++
		d.cut = g.Truncated
		d.port = g.Dst.Port()
		d.Datagram(g.Src, allowed, g.Payload, now)
		d.cut = false
	})
	d.closeGaps(0, true)
	c.exporters.lendTemplates(last, true)
	d.decodeLent()
	c.exporters.expireHeld(0, c.own)
	shared.checked = 0
	shared.check(c.exporters, last, c.log)
	full.check(c, last)
	h.Idle()
	c.log.WithFields(logrus.Fields{"capture": path, "stats": fmt.Sprintf("%+v", stats)}).Debug("capture read")
	passedOver[badPacket], passedOver[unknownLink], passedOver[incomplete] = stats.Malformed, stats.UnknownLink, stats.Incomplete
	c.countPassedOver(path, &passedOver)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// Stopped, not failed. There is a cause if the output has ended: its reader has had all
		// that it wanted.
		if !errors.Is(context.Cause(ctx), ctx.Err()) {
			return nil
		}
		c.log.WithFields(logrus.Fields{"capture": path, "packets": stats.Packets, "until": time.Unix(0, last).UTC().Format(time.RFC3339)}).Warn("the capture was cut short")
		return nil
	}
	if err == nil && exports == 0 {
		c.log.WithFields(logrus.Fields{"capture": path, "packets": stats.Packets, "udp_ports": portList(others)}).Warn("no packet of the capture is a flow export")
	}
	return err
}

// maxOtherPorts is how many ports are remembered for the log.
const maxOtherPorts = 64

// portList returns the ports with the most datagrams, at most eight.
func portList(datagrams map[uint16]int) string {
	ports := slices.SortedFunc(maps.Keys(datagrams), func(a, b uint16) int {
		return cmp.Or(cmp.Compare(datagrams[b], datagrams[a]), cmp.Compare(a, b))
	})
	if len(ports) == 0 {
		return "none"
	}
	text := make([]string, 0, 8)
	for _, p := range ports[:min(len(ports), cap(text))] {
		text = append(text, strconv.Itoa(int(p)))
	}
	return strings.Join(text, ",")
}

// passedOver is the reason why something in a capture was passed over, a value of the
// label reason.
type passedOver uint8

const (
	notWhole    passedOver = iota // datagrams to other ports that begin like an export, but whose lengths do not fit
	badPacket                     // packets whose headers are cut or contradict themselves
	unknownLink                   // packets of links that are not known
	incomplete                    // datagrams of which fragments are missing
	numPassedOver
)

var passedOverNames = [numPassedOver]string{"not_whole", "malformed_packet", "unknown_link", "incomplete"}

// countPassedOver counts and logs what was passed over in a capture.
func (c *Collector) countPassedOver(path string, counts *[numPassedOver]uint64) {
	fields := logrus.Fields{"capture": path}
	for why, n := range counts {
		if n > 0 {
			c.passedOver[why].Add(n)
			fields[passedOverNames[why]] = n
		}
	}
	if len(fields) > 1 {
		c.log.WithFields(fields).Info("parts of the capture could not be read and were passed over")
	}
}

// wholeMessage reports whether a payload to a port without a listener is of one of
// the protocols: its version and its lengths must agree. Zeros may follow.
func wholeMessage(b []byte) bool {
	be := binary.BigEndian
	switch protocolOf(b) {
	case protoNetFlow1:
		return wholeRecords(b, netflow1HeaderLen, netflow1RecordLenOf)
	case protoNetFlow5:
		return wholeRecords(b, netflow5HeaderLen, func([]byte) int { return netflow5RecordLen })
	case protoNetFlow7:
		return wholeRecords(b, netflow5HeaderLen, func([]byte) int { return netflow7RecordLen })
	case protoNetFlow9:
		return len(b) > 20 && be.Uint16(b[2:]) > 0 && wholeSets(b[20:]) >= 0
	case protoIPFIX:
		if len(b) < 16 {
			return false
		}
		// The padding of sets may lie beyond the message's length.
		n, sets := int(be.Uint16(b[2:])), wholeSets(b[16:])
		return sets >= 0 && n <= len(b) && (len(b)-n <= max(sets, 1)*maxPadding || n >= 16 && allZero(b[n:]))
	case protoSFlow:
		return wholeSamples(b)
	}
	return false
}

// wholeRecords reports whether a datagram has exactly as many records as its header
// says.
func wholeRecords(b []byte, headerLen int, recordLen func([]byte) int) bool {
	if len(b) < headerLen {
		return false
	}
	count, length := int(binary.BigEndian.Uint16(b[2:])), recordLen(b)
	end := headerLen + count*length
	return count > 0 && length > 0 && len(b) >= end && allZero(b[end:])
}

// wholeSets counts the sets that bytes are made of, behind which there may be zeros. It
// returns -1 if one is not whole.
func wholeSets(b []byte) (sets int) {
	for ; len(b) >= 4; sets++ {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n == 0 && sets > 0 && allZero(b) {
			break
		}
		if n < 4 || n > len(b) {
			return -1
		}
		b = b[n:]
	}
	return sets
}

// wholeSamples reports whether an sFlow datagram has as many samples as its header says.
func wholeSamples(b []byte) bool {
	const fixed = 16 // the header behind the agent's address
	if len(b) < 8 {
		return false
	}
	begin := 8 + 4
	switch binary.BigEndian.Uint32(b[4:]) {
	case 1:
	case 2:
		begin = 8 + 16
	default:
		return false
	}
	if len(b) < begin+fixed {
		return false
	}
	count := binary.BigEndian.Uint32(b[begin+fixed-4:])
	b = b[begin+fixed:]
	for ; count > 0; count-- {
		if len(b) < 8 || uint64(binary.BigEndian.Uint32(b[4:])) > uint64(len(b)-8) {
			return false
		}
		b = b[8+binary.BigEndian.Uint32(b[4:]):]
	}
	return allZero(b)
}
