// Package hugepages puts the heap of the program into huge pages.
//
// A look-up among many pods goes to memory that has not been used for long. What
// that costs is mostly finding the page: with pages of 4 KiB a record among
// 50,000 pods takes some 1.5 times as long as with huge ones of 2 MiB. Go leaves
// huge pages to the kernel, which by default gives them only to those who ask.
package hugepages

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	hugePage = 2 << 20
	page     = 4 << 10
	// denseEnough is how much of a huge page must be in memory already, so that
	// the program grows by little.
	denseEnough = hugePage / page * 3 / 4
	// hugeSoon and hugeLater are how often the heap is looked at, at first and
	// later on. hugeFirst is how many times it is done soon.
	hugeSoon, hugeLater = 5 * time.Second, time.Minute
	hugeFirst           = 6
	// hugeForget is after how many times it is no longer taken for granted that
	// what was in huge pages still is.
	hugeForget = 10
)

// Use puts the heap into huge pages as it grows, until ctx ends. Where the kernel
// cannot do that (before Linux 6.1, or another one) nothing happens.
func Use(ctx context.Context) {
	var done map[uintptr]bool
	for i := 0; ; i++ {
		if i%hugeForget == 0 {
			done = make(map[uintptr]bool)
		}
		if !collapse(done) {
			return
		}
		wait := hugeLater
		if i < hugeFirst {
			wait = hugeSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Once puts the heap into huge pages as it is, and tells whether the kernel can
// do that. It is for benchmarks.
func Once() bool { return collapse(make(map[uintptr]bool)) }

// collapse asks for huge pages where most of one is in memory already. Where the
// runtime has given more back to the kernel, that stays given back. Addresses in
// done have been dealt with; to ask again is dear. It returns false if the kernel
// cannot do it.
func collapse(done map[uintptr]bool) bool {
	if os.Getpagesize() != page {
		return false
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return false
	}
	var resident [hugePage / page]byte
	for _, m := range heapMappings(maps, uintptr(unsafe.Pointer(unsafe.SliceData(maps)))) {
		for at := (m.from + hugePage - 1) &^ (hugePage - 1); at+hugePage <= m.to; at += hugePage {
			if done[at] {
				continue
			}
			_, _, errno := unix.RawSyscall(unix.SYS_MINCORE, at, hugePage, uintptr(unsafe.Pointer(&resident)))
			if errno != 0 || bytes.Count(resident[:], []byte{1}) < denseEnough {
				continue
			}
			// A system call that takes its time: it copies the pages.
			_, _, errno = unix.Syscall(unix.SYS_MADVISE, at, hugePage, unix.MADV_COLLAPSE)
			if errno == unix.EINVAL || errno == unix.ENOSYS {
				return false
			}
			done[at] = true // also if it failed: that takes as long
		}
	}
	return true
}

type mapping struct{ from, to uintptr }

// heapMappings returns the parts of the address space that hold Go's heap, given
// /proc/self/maps: those that the runtime has named so, else, on kernels that
// know no names, anonymous ones in the 4 GiB that hold a given object of the heap.
func heapMappings(maps []byte, object uintptr) []mapping {
	var named, likely []mapping
	for sc := bufio.NewScanner(bytes.NewReader(maps)); sc.Scan(); {
		var m mapping
		var perms, device string
		var offset, inode uint64
		if n, _ := fmt.Sscanf(sc.Text(), "%x-%x %s %x %s %d", &m.from, &m.to, &perms, &offset, &device, &inode); n != 6 || perms != "rw-p" || inode != 0 {
			continue
		}
		switch {
		case bytes.HasSuffix(sc.Bytes(), []byte("[anon: Go: heap]")):
			named = append(named, m)
		case m.from>>32 == object>>32:
			likely = append(likely, m)
		}
	}
	if named != nil {
		return named
	}
	return likely
}
