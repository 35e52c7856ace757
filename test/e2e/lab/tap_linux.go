package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conversation is one direction of a conversation. Ports are 0 for what has none.
type Conversation struct {
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
}

// Count is what crossed an interface.
type Count struct {
	Packets int
	Bytes   int // of IP, headers included
	Frames  int // bytes of Ethernet, headers included, checksum not
}

// Add adds up.
func (c *Count) Add(o Count) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
	c.Frames += o.Frames
}

// Tap counts the packets that an interface receives, or those that it sends.
type Tap struct {
	lab     *Lab
	ns, dev string
	counter string           // the interface's own, of the same packets
	mac     net.HardwareAddr // of the sender, nil for any
	file    *os.File
	fd      int
	base    int

	mu     sync.Mutex
	total  int // packets of any kind
	counts map[Conversation]Count
	err    error
}

// Tap begins to count the packets that an interface receives, until the test
// ends.
func (l *Lab) Tap(ns, dev string) *Tap {
	l.t.Helper()
	return l.tap(&Tap{ns: ns, dev: dev, counter: "rx_packets"})
}

// TapSent begins to count the packets that an interface sends from its own MAC
// address. That is what a host sends by an internal port of a switch, which has no
// other end to listen at.
func (l *Lab) TapSent(ns, dev string) *Tap {
	l.t.Helper()
	p := &Tap{ns: ns, dev: dev, counter: "tx_packets"}
	err := l.In(ns, func() error {
		device, err := net.InterfaceByName(dev)
		if err == nil {
			p.mac = device.HardwareAddr
		}
		return err
	})
	if err != nil {
		l.t.Fatalf("tap of %s in %s: %v", dev, ns, err)
	}
	return l.tap(p)
}

func (l *Lab) tap(p *Tap) *Tap {
	l.t.Helper()
	p.lab, p.counts = l, map[Conversation]Count{}
	ns, dev := p.ns, p.dev
	err := l.In(ns, func() error {
		device, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		// No protocol: nothing arrives before it is bound.
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		p.file = os.NewFile(uintptr(p.fd), "packet socket")
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return fmt.Errorf("SO_RCVBUFFORCE: %w", err)
		}
		if p.mac == nil {
			if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
				return fmt.Errorf("PACKET_IGNORE_OUTGOING: %w", err)
			}
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index})
	})
	if err != nil {
		l.t.Fatalf("tap of %s in %s: %v", dev, ns, err)
	}
	p.base = p.counted()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.read()
	}()
	l.t.Cleanup(func() {
		_ = p.file.Close()
		<-done
	})
	return p
}

// counted is the interface's own counter.
func (p *Tap) counted() int {
	return p.lab.number(p.ns, "/sys/class/net/"+p.dev+"/statistics/"+p.counter)
}

func (p *Tap) read() {
	frame := make([]byte, 1<<16)
	for {
		n, err := p.file.Read(frame)
		if errors.Is(err, unix.ENETDOWN) {
			continue // returned once; packets come again when the interface is up
		}
		if err == nil && p.mac != nil && (n < 12 || !bytes.Equal(frame[6:12], p.mac)) {
			continue // it was received
		}
		p.mu.Lock()
		if err != nil {
			p.err = err
			p.mu.Unlock()
			return
		}
		p.total++
		if c, length, ok := parse(frame[:n]); ok {
			sum := p.counts[c]
			sum.Add(Count{Packets: 1, Bytes: length, Frames: n})
			p.counts[c] = sum
		}
		p.mu.Unlock()
	}
}

// Counts returns the counts so far. complete reports whether they have every packet
// that the interface itself counted.
func (p *Tap) Counts() (counts map[Conversation]Count, complete bool) {
	p.lab.t.Helper()
	counted := p.counted() - p.base
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts), counted == p.total && p.err == nil
}

// parse returns whose packet is in a frame, and the length of the packet.
func parse(frame []byte) (c Conversation, length int, ok bool) {
	const ethernet, ipv4, ipv6 = 14, 20, 40
	be := binary.BigEndian
	if len(frame) < ethernet+ipv4 {
		return c, 0, false
	}
	packet := frame[ethernet:]
	var payload []byte
	fragment := false // but the first one
	switch etype := be.Uint16(frame[12:]); {
	case etype == unix.ETH_P_IP:
		c.Proto, length = packet[9], int(be.Uint16(packet[2:]))
		c.Src, c.Dst = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		payload = packet[min(len(packet), int(packet[0]&15)*4):]
		fragment = be.Uint16(packet[6:])&0x1fff != 0
	case etype == unix.ETH_P_IPV6 && len(packet) >= ipv6:
		c.Proto, length = packet[6], ipv6+int(be.Uint16(packet[4:]))
		c.Src, c.Dst = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		payload = packet[ipv6:]
		for (c.Proto == unix.IPPROTO_HOPOPTS || c.Proto == unix.IPPROTO_DSTOPTS) && len(payload) >= 8 {
			c.Proto, payload = payload[0], payload[min(len(payload), 8+int(payload[1])*8):]
		}
	default:
		return c, 0, false
	}
	if (c.Proto == unix.IPPROTO_TCP || c.Proto == unix.IPPROTO_UDP) && len(payload) >= 4 && !fragment {
		c.SrcPort, c.DstPort = be.Uint16(payload), be.Uint16(payload[2:])
	}
	return c, length, true
}
