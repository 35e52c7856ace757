package hugepages

import (
	"context"
	"slices"
	"testing"
)

func TestHeapMappings(t *testing.T) {
	const anonymous = `00400000-00c00000 r-xp 00000000 fe:00 1234 /bin/kube-enricher
00c00000-00c80000 rw-p 00800000 fe:00 1234 /bin/kube-enricher
c000000000-c006400000 rw-p 00000000 00:00 0
c006400000-c008000000 ---p 00000000 00:00 0
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
`
	const named = anonymous + "3a0000000000-3a0000400000 rw-p 00000000 00:00 0 [anon: Go: heap]\n"
	for _, tc := range []struct {
		maps   string
		object uintptr
		want   []mapping
	}{
		{anonymous, 0xc000123400, []mapping{{0xc000000000, 0xc006400000}}},
		{anonymous, 0xd000123400, nil},
		{named, 0xc000123400, []mapping{{0x3a0000000000, 0x3a0000400000}}},
		{"nonsense\n", 0xc000123400, nil},
	} {
		if got := heapMappings([]byte(tc.maps), tc.object); !slices.Equal(got, tc.want) {
			t.Errorf("%#x: %#x, want %#x", tc.object, got, tc.want)
		}
	}
}

// TestCollapse moves the heap into huge pages under what lies there.
func TestCollapse(t *testing.T) {
	heap := make([][]byte, 64)
	for i := range heap {
		heap[i] = make([]byte, 256<<10)
		for j := range heap[i] {
			heap[i][j] = byte(i + j)
		}
	}
	done := make(map[uintptr]bool)
	moved, err := collapse(done)
	if err != nil {
		t.Skip("needs MADV_COLLAPSE: ", err)
	}
	if len(done) == 0 || moved > int64(len(done))*hugePage {
		t.Errorf("a heap of 16 MiB has %d huge pages, %d bytes were moved", len(done), moved)
	}
	for i, b := range heap {
		for j := range b {
			if b[j] != byte(i+j) {
				t.Fatalf("byte %d of %d is %d", j, i, b[j])
			}
		}
	}
}

// TestUse checks that the first pass, and no other one, is reported.
func TestUse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := 0
	Use(ctx, func(moved int64, err error) {
		calls++
		if err != nil && moved != 0 {
			t.Errorf("%d bytes were moved, and %v", moved, err)
		}
	})
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}
