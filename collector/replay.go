package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// ReadCapture decodes the exporter datagrams in a packet capture, in order and with
// the capture's own times. Those are the UDP payloads to the ports of the listeners,
// and to any port if the payload is of one of the protocols. Records go to h, on
// this goroutine. If ReadCapture returns an error, h has had all records that could
// be read. It returns nil if ctx ends.
func (c *Collector) ReadCapture(ctx context.Context, path string, h flow.Handler) error {
	d := c.NewDecoder(h)
	ports := make(map[uint16]Protocols)
	for _, l := range c.cfg.Listeners {
		ports[l.Port] |= l.Protocols
	}
	var checked, last int64
	var shared sharing
	var full holdWarning
	stats, err := capture.Read(ctx, path, func(g *capture.Datagram) {
		allowed, ok := ports[g.Dst.Port()]
		if !ok {
			if !wholeMessage(g.Payload) {
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
		d.Datagram(g.Src, allowed, g.Payload, now)
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
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // stopped, not failed
	}
	return err
}

// wholeMessage reports whether a payload to a port without a listener is of one of
// the protocols: its version and its lengths must agree.
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
		return len(b) > 20 && be.Uint16(b[2:]) > 0 && wholeSets(b[20:])
	case protoIPFIX:
		// A set's padding may lie beyond the message's length.
		return len(b) >= 16 && int(be.Uint16(b[2:])) <= len(b) && len(b)-int(be.Uint16(b[2:])) < 8 && wholeSets(b[16:])
	case protoSFlow:
		return len(b) >= 28 && (be.Uint32(b[4:]) == 1 || be.Uint32(b[4:]) == 2) && len(b)%4 == 0
	}
	return false
}

// wholeRecords reports whether a datagram has exactly as many records as its header
// says.
func wholeRecords(b []byte, headerLen int, recordLen func([]byte) int) bool {
	if len(b) < headerLen {
		return false
	}
	count := int(binary.BigEndian.Uint16(b[2:]))
	return count > 0 && len(b) == headerLen+count*recordLen(b)
}

func wholeSets(b []byte) bool {
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}
