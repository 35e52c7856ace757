// Command gen sends flow exports at a paced rate and says exactly how many
// records it sent. Load is for loopback and test networks only.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

func main() {
	var (
		to       = flag.String("to", "127.0.0.1:2055", "where to send to")
		protocol = flag.String("protocol", "ipfix", "ipfix (as Open vSwitch sends it), v9, v5 or sflow")
		records  = flag.Int("records", 25, "records a datagram")
		rate     = flag.Float64("rate", 10_000, "records a second; 0 is as fast as it goes")
		count    = flag.Int("count", 100_000, "records in all")
		pods     = flag.Int("pods", 50_000, "addresses, from 10.128.0.0 on, that flows are between")
		outside  = flag.Int("outside", 0, "addresses that flows go to instead of pods, one in each /24 from 1.0.0.0 on; 0 is none")
		every    = flag.Int("outside-every", 1, "one flow in so many goes there")
		sources  = flag.Int("sources", 1, "exporters: source addresses, from 127.1.0.1 on if there are several")
		burst    = flag.Duration("burst", 0, "send for this long at the rate, then pause; 0 is without pauses")
		pause    = flag.Duration("pause", 450*time.Millisecond, "pause between two bursts")
	)
	flag.Parse()
	g := generator{
		protocol: *protocol, records: *records, count: *count, pods: *pods, outside: *outside, every: max(*every, 1), sources: *sources, rate: *rate,
		burst: *burst, pause: *pause,
	}
	if err := g.run(*to); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generator says what is sent.
type generator struct {
	protocol       string
	records, count int // a datagram, in all
	pods, outside  int
	every          int // one flow in so many goes outside
	sources        int
	rate           float64 // records a second
	burst, pause   time.Duration
}

// numDatagrams is how many datagrams are made beforehand. They are sent in turn,
// with other addresses each time: the generator should not be what is measured,
// nor fill the caches that it shares with what is.
const numDatagrams = 128

func (g *generator) run(to string) error {
	protocol, records, count, pods, sources := g.protocol, g.records, g.count, g.pods, g.sources
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err
	}
	if !addr.IP.IsLoopback() && !addr.IP.IsPrivate() {
		return fmt.Errorf("%s is neither loopback nor private: load is for test networks only", to)
	}
	if records < 1 || count < records || pods < 1 || sources < 1 {
		return fmt.Errorf("-records, -count, -pods and -sources must be 1 or more, -count at least -records")
	}
	var template []byte
	datagrams := make([][]byte, numDatagrams)
	for i := range datagrams {
		template, datagrams[i], err = message(protocol, i*records, records, pods)
		if err != nil {
			return err
		}
	}
	conns := make([]*ipv4.PacketConn, sources)
	for i := range conns {
		var from *net.UDPAddr
		if sources > 1 && addr.IP.IsLoopback() {
			from = &net.UDPAddr{IP: net.IPv4(127, 1+byte((i+1)>>16), byte((i+1)>>8), byte(i+1))}
		}
		c, err := net.DialUDP("udp4", from, addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetWriteBuffer(4 << 20)
		if template != nil {
			if _, err := c.Write(template); err != nil {
				return err
			}
		}
		conns[i] = ipv4.NewPacketConn(c)
	}
	inRow := 64
	if sources > 1 {
		inRow = 4
	}
	batch := make([]ipv4.Message, inRow)
	for i := range batch {
		batch[i].Buffers = make([][]byte, 1)
	}
	total := count / records
	if template != nil {
		// Programs with several workers must not come upon data first.
		time.Sleep(100 * time.Millisecond)
	}
	begin := time.Now()
	paused, err := g.send(total, func(first, n int) (int, error) {
		// Each source sends some in a row, and numbers its own.
		n = min(n, inRow-first%inRow)
		number := first/(inRow*sources)*inRow + first%inRow
		for i := range n {
			d := datagrams[(first+i)%len(datagrams)]
			renumber(protocol, d, number+i, records)
			readdress(protocol, d, (first+i)*records, records, pods, g.outside, g.every)
			batch[i].Buffers[0] = d
		}
		return conns[first/inRow%sources].WriteBatch(batch[:n], 0)
	})
	if err != nil {
		return err
	}
	took := time.Since(begin)
	fmt.Printf("{\"datagrams\":%d,\"records\":%d,\"seconds\":%.4f,\"active\":%.4f}\n", total, total*records, took.Seconds(), (took - paused).Seconds())
	return nil
}

// send sends datagrams when they are due, each by itself if the rate lets it, as
// they come from many exporters: a sleep between them would make them come in
// heaps. It returns how long it paused.
func (g *generator) send(total int, batch func(first, n int) (int, error)) (paused time.Duration, err error) {
	perSecond := g.rate / float64(g.records)
	start, first := time.Now(), 0 // of the burst
	for sent := 0; sent < total; {
		due := total
		if g.rate > 0 {
			elapsed := time.Since(start)
			if g.burst > 0 && elapsed > g.burst {
				if due = min(total, first+int(g.burst.Seconds()*perSecond)); sent >= due {
					idle := time.Now()
					time.Sleep(g.pause)
					start, first = time.Now(), sent
					paused += start.Sub(idle)
					continue
				}
			} else {
				due = min(total, first+int(elapsed.Seconds()*perSecond)+1)
			}
		}
		if due <= sent {
			if gap := time.Duration(float64(sent-first)/perSecond*1e9) - time.Since(start); gap > 2*time.Millisecond {
				time.Sleep(gap - time.Millisecond)
			}
			continue // not much longer: a sleep takes too long
		}
		n, err := batch(sent, due-sent)
		if err != nil {
			return paused, err
		}
		sent += n
	}
	return paused, nil
}

var be = binary.BigEndian

// renumber sets the sequence number of the n-th datagram.
func renumber(protocol string, d []byte, n, records int) {
	switch protocol {
	case "ipfix":
		be.PutUint32(d[8:], uint32(n*records))
	case "v9":
		be.PutUint32(d[12:], uint32(n+1))
	case "v5":
		be.PutUint32(d[16:], uint32(n*records))
	case "sflow":
		be.PutUint32(d[16:], uint32(n))
	}
}

// readdress sets the addresses of the records in a datagram to those that the
// records from first on have.
func readdress(protocol string, d []byte, first, records, pods, outside, every int) {
	at, size, src, dst := 0, 0, 0, 0
	switch protocol {
	case "ipfix", "v9":
		at = 20
		if protocol == "v9" {
			at = 24
		}
		for _, f := range ovsTemplate {
			switch f[0] {
			case 8:
				src = size
			case 12:
				dst = size
			}
			size += int(f[1])
		}
	case "v5":
		at, size, src, dst = 24, 48, 0, 4
	case "sflow":
		size = (len(d) - 28) / records
		at, src, dst = 28, size-128+26, size-128+30
	}
	for i := first; i < first+records; i++ {
		putPod(d[at+src:], i%pods)
		putPod(d[at+dst:], (i*7+1)%pods)
		if outside > 0 && i%every == 0 {
			be.PutUint32(d[at+dst:], 1<<24+uint32(i/every*7%outside)<<8+1)
		}
		at += size
	}
}

func putPod(b []byte, i int) { be.PutUint32(b, 10<<24|128<<16+uint32(i)) }

func podAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)})
}

// ovsTemplate is the template of Open vSwitch for TCP over IPv4, as element and
// length: 23 fields.
var ovsTemplate = [][2]uint16{
	{138, 4}, {61, 1}, {56, 6}, {80, 6}, {256, 2}, {240, 1}, {10, 4}, {60, 1}, {192, 1}, {4, 1}, {195, 1}, {8, 4}, {12, 4},
	{7, 2}, {11, 2}, {158, 4}, {159, 4}, {1, 8}, {2, 8}, {136, 1}, {352, 8}, {85, 8}, {86, 8},
}

// message returns a datagram of records between pods, and the one with their
// template, if the protocol has any.
func message(protocol string, first, records, pods int) (template, data []byte, err error) {
	ends := func(i int) (src, dst [4]byte, port uint16) {
		return podAddr(i % pods).As4(), podAddr((i*7 + 1) % pods).As4(), uint16(32768 + i%28000)
	}
	now := uint32(time.Now().Unix())
	switch protocol {
	case "ipfix", "v9":
		set := func(id uint16, content []byte) []byte {
			var b []byte
			if protocol == "ipfix" {
				b = be.AppendUint16(be.AppendUint16(b, 10), uint16(20+len(content)))
				b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, now), 0), 0)
			} else {
				b = be.AppendUint16(be.AppendUint16(b, 9), 1)
				b = be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint32(b, 1_000_000), now), 0), 0)
				if id == 2 {
					id = 0
				}
			}
			b = be.AppendUint16(be.AppendUint16(b, id), uint16(4+len(content)))
			return append(b, content...)
		}
		t := be.AppendUint16(be.AppendUint16(nil, 256), uint16(len(ovsTemplate)))
		for _, f := range ovsTemplate {
			t = be.AppendUint16(be.AppendUint16(t, f[0]), f[1])
		}
		var d []byte
		for i := first; i < first+records; i++ {
			src, dst, port := ends(i)
			value := map[uint16]uint64{
				56: 0x0a580a800005, 80: 0x0a580a800001, 256: 0x800, 240: 14, 10: 6, 60: 4, 192: 64, 4: 6,
				8: uint64(be.Uint32(src[:])), 12: uint64(be.Uint32(dst[:])), 7: uint64(port), 11: 443, 158: 2_000_000, 159: 1_000,
				1: 104844, 2: 93, 136: 2, 352: 106146, 85: 255892, 86: 305,
			}
			for _, f := range ovsTemplate {
				d = append(d, be.AppendUint64(nil, value[f[0]])[8-f[1]:]...)
			}
		}
		return set(2, t), set(256, d), nil
	case "v5":
		if records > 30 {
			return nil, nil, fmt.Errorf("v5 has at most 30 records a datagram")
		}
		d := be.AppendUint16(be.AppendUint16(nil, 5), uint16(records))
		d = be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint32(d, 1_000_000), now), 0), 0)
		d = append(d, 0, 0, 0, 0)
		for i := first; i < first+records; i++ {
			src, dst, port := ends(i)
			d = append(append(append(d, src[:]...), dst[:]...), 0, 0, 0, 0)
			d = be.AppendUint16(be.AppendUint16(d, 6), 7)
			d = be.AppendUint32(be.AppendUint32(d, 93), 104844)
			d = be.AppendUint32(be.AppendUint32(d, 998_000), 999_000)
			d = be.AppendUint16(be.AppendUint16(d, port), 443)
			d = append(d, 0, 0x1b, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0)
		}
		return nil, d, nil
	case "sflow":
		d := be.AppendUint32(be.AppendUint32(nil, 5), 1)
		d = append(d, 127, 0, 0, 1)
		d = be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint32(d, 0), 0), 1_000_000), uint32(records))
		for i := first; i < first+records; i++ {
			src, dst, port := ends(i)
			frame := []byte{0x0a, 0x58, 0x0a, 0x80, 0, 1, 0x0a, 0x58, 0x0a, 0x80, 0, 5, 8, 0}
			frame = append(frame, 0x45, 0, 0x05, 0x14, 0, 1, 0x40, 0, 64, 6, 0, 0)
			frame = append(append(frame, src[:]...), dst[:]...)
			frame = be.AppendUint16(be.AppendUint16(frame, port), 443)
			frame = append(frame, make([]byte, 8)...)
			frame = append(frame, 0x50, 0x10, 0, 0, 0, 0, 0, 0)
			frame = append(frame, make([]byte, 128-len(frame))...)
			sample := be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint32(nil, uint32(i)), 3), 400), uint32(i*400))
			sample = be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint32(sample, 0), 6), 7), 1)
			sample = be.AppendUint32(be.AppendUint32(sample, 1), uint32(16+len(frame)))
			sample = be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint32(sample, 1), 1318), 4), uint32(len(frame)))
			sample = append(sample, frame...)
			d = append(be.AppendUint32(be.AppendUint32(d, 1), uint32(len(sample))), sample...)
		}
		return nil, d, nil
	}
	return nil, nil, fmt.Errorf("unknown protocol %q", protocol)
}
