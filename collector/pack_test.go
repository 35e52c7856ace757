package collector

import (
	"bytes"
	"testing"
)

// FuzzPack packs data sets and unpacks them again.
func FuzzPack(f *testing.F) {
	for _, b := range [][]byte{nil, {0}, {1}, {1, 0}, {1, 0, 0}, {0, 1, 0, 2, 0, 0, 3}, make([]byte, 100), bytes.Repeat([]byte{7}, 100), bytes.Repeat([]byte{0, 0, 1}, 40)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		packed := appendPacked([]byte("x"), b)[1:]
		if got := appendUnpacked([]byte("y"), string(packed))[1:]; !bytes.Equal(got, b) {
			t.Errorf("%x packed as %x is %x", b, packed, got)
		}
		if len(packed) > len(b)+len(b)/maxGroup+1 {
			t.Errorf("%d bytes take %d", len(b), len(packed))
		}
	})
}

// TestPackedRecords packs what Open vSwitch without a cache sends: it is less than half
// as long.
func TestPackedRecords(t *testing.T) {
	long, packed := 0, 0
	for _, g := range readCapture(t, "ovs-ipfix-nocache") {
		if id := g.payload[16:18]; id[0] > 0 { // a data set
			long += len(g.payload[20:])
			packed += len(appendPacked(nil, g.payload[20:]))
		}
	}
	if long == 0 || packed*2 > long {
		t.Errorf("%d bytes take %d", long, packed)
	}
}
