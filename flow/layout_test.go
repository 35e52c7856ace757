package flow

import (
	"testing"
	"unsafe"
)

// What most records show of an object is in the first two of its cache lines, and objects begin
// where a cache line does: the allocator aligns sizes that are powers of two.
func TestObjectLayout(t *testing.T) {
	var o Object
	if n := unsafe.Sizeof(o); n != 256 {
		t.Errorf("an object has %d bytes", n)
	}
	if n := unsafe.Offsetof(o.zoned); n != 128 {
		t.Errorf("what most records show has %d bytes", n)
	}
	if n := unsafe.Sizeof(Place{}); n > 64 {
		t.Errorf("a place has %d bytes", n)
	}
}
