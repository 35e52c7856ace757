// Package hugepages puts the heap of the program into huge pages.
//
// A look-up among many pods reads memory that was not used for long. Most of its time
// is spent on finding the page: among 50,000 pods a record takes some 1.5 times as
// long with pages of 4 KiB as with huge ones of 2 MiB. Go leaves huge pages to the
// kernel, which by default gives them only to programs that ask for them.
package hugepages

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	hugePage = 2 << 20 // bytes
	page     = 4 << 10 // bytes
	// residentPages is how many pages of a huge page must be in memory already, so
	// that the program grows by little.
	residentPages = hugePage / page * 3 / 4
	// firstInterval and interval are the times between two passes over the heap: the
	// first firstPasses ones, and all later ones.
	firstInterval = 5 * time.Second
	interval      = time.Minute
	firstPasses   = 6
	// repeatPasses is the number of passes after which all parts of the heap are asked
	// for again, since the kernel may have split their huge pages.
	repeatPasses = 10
)

// Use puts the heap into huge pages as it grows, until ctx ends. After the first pass
// it calls report once, with the number of bytes that are in huge pages since. With
// an error, nothing was moved and Use returns at once: the kernel is older than Linux
// 6.1, has other page sizes, or gives no huge pages.
func Use(ctx context.Context, report func(moved int64, err error)) {
	var done map[uintptr]bool
	for pass := 0; ; pass++ {
		if pass%repeatPasses == 0 {
			done = make(map[uintptr]bool)
		}
		moved, err := collapse(done)
		if pass == 0 {
			report(moved, err)
		}
		if err != nil {
			return
		}
		wait := interval
		if pass < firstPasses {
			wait = firstInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Once puts the heap into huge pages as it is, and reports whether the kernel can do
// that. It is for benchmarks.
func Once() bool {
	_, err := collapse(make(map[uintptr]bool))
	return err == nil
}

// collapse asks for huge pages where most of one is in memory already, and returns
// how many bytes are in huge pages since. Memory that the runtime has given back to
// the kernel stays there. Addresses in done are left out, and those that were asked
// for are added: asking again is expensive. It returns an error if the kernel cannot
// do it.
func collapse(done map[uintptr]bool) (moved int64, err error) {
	if size := os.Getpagesize(); size != page {
		return 0, fmt.Errorf("pages have %d bytes; only %d are supported", size, page)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, fmt.Errorf("find the heap: %w", err)
	}
	var resident [hugePage / page]byte
	for _, m := range heapMappings(maps, uintptr(unsafe.Pointer(unsafe.SliceData(maps)))) {
		for at := (m.from + hugePage - 1) &^ (hugePage - 1); at+hugePage <= m.to; at += hugePage {
			if done[at] {
				continue
			}
			_, _, errno := unix.RawSyscall(unix.SYS_MINCORE, at, hugePage, uintptr(unsafe.Pointer(&resident)))
			if errno != 0 || bytes.Count(resident[:], []byte{1}) < residentPages {
				continue
			}
			// This system call is slow, since it copies the pages.
			_, _, errno = unix.Syscall(unix.SYS_MADVISE, at, hugePage, unix.MADV_COLLAPSE)
			switch errno {
			case 0:
				moved += hugePage
			case unix.EINVAL, unix.ENOSYS:
				return moved, errUnsupported
			}
			done[at] = true // also if it failed, which takes as long
		}
	}
	return moved, nil
}

// errUnsupported is returned by collapse if the kernel does not know the call.
var errUnsupported = errors.New("the kernel cannot collapse pages; Linux can from 6.1 on, if it has transparent huge pages")

// mapping is a part of the address space, from the address from up to before to.
type mapping struct{ from, to uintptr }

// heapMappings returns the parts of the address space that hold Go's heap, from the
// text of /proc/self/maps. The runtime has given them a name. On kernels without such
// names, it returns the anonymous parts in the same 4 GiB as an object of the heap.
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
