//go:build outputs

package outputs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// perDatagram is how many records a datagram of NetFlow v5 has room for.
const perDatagram = 30

// packetsOf and bytesOf are what record number i has: packets that no other record
// has, so that each can be told from the others.
func packetsOf(i int) uint64 { return uint64(i) + 1 }
func bytesOf(i int) uint64   { return 64 + uint64(i)*2654435761%100_003 }

// datagram returns a datagram of NetFlow v5 with the records from number first on.
func datagram(first int, at time.Time) []byte {
	d := binary.BigEndian.AppendUint16(nil, 5)
	d = binary.BigEndian.AppendUint16(d, perDatagram)
	d = binary.BigEndian.AppendUint32(d, 1_000_000) // uptime in ms
	d = binary.BigEndian.AppendUint32(d, uint32(at.Unix()))
	d = binary.BigEndian.AppendUint32(d, uint32(at.Nanosecond()))
	d = binary.BigEndian.AppendUint32(d, uint32(first))
	d = append(d, 0, 0, 0, 0)
	for i := first; i < first+perDatagram; i++ {
		var r [48]byte
		binary.BigEndian.PutUint32(r[0:], 10<<24|uint32(i))
		binary.BigEndian.PutUint32(r[4:], 192<<24|168<<16|uint32(i%65_536))
		binary.BigEndian.PutUint32(r[16:], uint32(packetsOf(i)))
		binary.BigEndian.PutUint32(r[20:], uint32(bytesOf(i)))
		binary.BigEndian.PutUint32(r[24:], 990_000)
		binary.BigEndian.PutUint32(r[28:], 999_000)
		binary.BigEndian.PutUint16(r[32:], uint16(i))
		binary.BigEndian.PutUint16(r[34:], 443)
		r[38] = 6
		d = append(d, r[:]...)
	}
	return d
}

// writeCapture writes a capture of datagrams with the records up to number records,
// and returns its path.
func writeCapture(t *testing.T, records int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flows.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	const rawIP = 101
	header := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	header = append(header, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	header = binary.LittleEndian.AppendUint32(header, 65_535)
	_, _ = w.Write(binary.LittleEndian.AppendUint32(header, rawIP))
	now := time.Now()
	for first := 0; first < records; first += perDatagram {
		data := datagram(first, now)
		size := 28 + len(data)
		p := binary.LittleEndian.AppendUint32(nil, uint32(now.Unix()))
		p = binary.LittleEndian.AppendUint32(p, uint32(now.Nanosecond()/1000))
		p = binary.LittleEndian.AppendUint32(p, uint32(size))
		p = binary.LittleEndian.AppendUint32(p, uint32(size))
		p = append(p, 0x45, 0)
		p = binary.BigEndian.AppendUint16(p, uint16(size))
		p = append(p, 0, 0, 0, 0, 64, 17, 0, 0, 10, 255, 0, 1, 10, 255, 0, 2)
		p = binary.BigEndian.AppendUint16(p, 40_000)
		p = binary.BigEndian.AppendUint16(p, 2055)
		p = binary.BigEndian.AppendUint16(p, uint16(size-20))
		p = append(p, 0, 0)
		_, _ = w.Write(append(p, data...))
		now = now.Add(10 * time.Microsecond)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return path
}

// tally counts records by their number.
type tally struct {
	seen           []uint8 // by number
	records, twice int
	bytes, packets uint64
	wrong          string // of the first record that was never sent
}

func newTally(records int) *tally { return &tally{seen: make([]uint8, records)} }

func (c *tally) add(packets, bytes uint64) {
	c.records++
	c.packets += packets
	c.bytes += bytes
	i := int(packets) - 1
	if i < 0 || i >= len(c.seen) || bytesOf(i) != bytes {
		if c.wrong == "" {
			c.wrong = fmt.Sprintf("a record has %d packets and %d bytes", packets, bytes)
		}
		return
	}
	if c.seen[i] > 0 {
		c.twice++
	}
	c.seen[i] = 1
}

// distinct returns how many numbers there are.
func (c *tally) distinct() (n int) {
	for _, s := range c.seen {
		n += int(s)
	}
	return n
}

// lastMissing returns the last number that is not there, -1 if all are.
func (c *tally) lastMissing() int {
	last := len(c.seen) - 1
	for last >= 0 && c.seen[last] > 0 {
		last--
	}
	return last
}

// whole fails the test unless each record is there once.
func (c *tally) whole(t *testing.T) {
	t.Helper()
	var bytes, packets uint64
	for i := range c.seen {
		bytes, packets = bytes+bytesOf(i), packets+packetsOf(i)
	}
	if c.records != len(c.seen) || c.twice > 0 || c.wrong != "" || c.bytes != bytes || c.packets != packets {
		t.Errorf("%d records, %d of them twice, %d bytes, %d packets; want %d, 0, %d, %d; %s", c.records, c.twice, c.bytes, c.packets, len(c.seen), bytes, packets, c.wrong)
	}
	t.Logf("%d records, %d bytes, %d packets", c.records, c.bytes, c.packets)
}
