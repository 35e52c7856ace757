package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// TestRead opens files.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	whole, cut := filepath.Join(dir, "whole.pcap.gz"), filepath.Join(dir, "cut.pcap")
	capture := captures(t)["ovs-netflow5"]
	if err := errors.Join(os.WriteFile(whole, gzipped(t, capture), 0o600), os.WriteFile(cut, capture[:2000], 0o600)); err != nil {
		t.Fatal(err)
	}
	stats, err := Read(t.Context(), whole, func(*Datagram) {})
	if want := (Stats{Packets: 5, Whole: 5}); err != nil || stats != want {
		t.Errorf("%+v, %v", stats, err)
	}
	stats, err = Read(t.Context(), cut, func(*Datagram) {})
	if want := (Stats{Packets: 3, Whole: 3}); stats != want || err == nil || err.Error() != "read capture "+cut+": at offset 1854: unexpected EOF" {
		t.Errorf("%+v, %v", stats, err)
	}
	none := filepath.Join(dir, "none.pcap")
	if _, err = Read(t.Context(), none, func(*Datagram) {}); !errors.Is(err, os.ErrNotExist) || strings.Count(err.Error(), none) != 1 {
		t.Error(err)
	}
	if _, err = Read(t.Context(), dir, func(*Datagram) {}); err == nil || strings.Count(err.Error(), dir) != 1 {
		t.Error(err)
	}
	// A simple packet block first of all has the file's time.
	w := ng{AppendByteOrder: binary.LittleEndian}
	w.section()
	w.iface(linkRaw, 0, -1, 0)
	w.simple(&frame{data: ip4(protoUDP, 0, 0, false, udpOf([]byte("x")))})
	timeless := filepath.Join(dir, "timeless.pcapng")
	if err := errors.Join(os.WriteFile(timeless, w.b, 0o600), os.Chtimes(timeless, at, at)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(t.Context(), timeless, func(d *Datagram) {
		if !d.Time.Equal(at) {
			t.Errorf("time %v, want %v", d.Time, at)
		}
	}); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	for name, capture := range map[string][]byte{
		"pcap": captures(t)["ovs-netflow5"], "pcapng": ngFile(binary.LittleEndian, frames(t, captures(t)["ovs-netflow5"])...),
	} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := read(ctx, bytes.NewReader(capture), at, func(*Datagram) {
			if n++; n == 2 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || n != 2 {
			t.Errorf("%s: %d datagrams, %v", name, n, err)
		}
	}
}

// TestLongestPacket has packets about as long as any capture may have, which are not
// for us, between two that are.
func TestLongestPacket(t *testing.T) {
	small := frame{time: at, link: linkRaw, data: ip4(protoUDP, 0, 0, false, udpOf([]byte("x")))}
	for _, n := range []int{65535, maxPacket - 17, maxPacket - 16, maxPacket - 15, maxPacket - 1, maxPacket} {
		big := frame{time: at, link: linkRaw, data: append(ip4(6, 0, 0, false, nil), make([]byte, n-20)...)}
		for name, capture := range map[string][]byte{
			"pcap": pcapFile(binary.LittleEndian, false, small, big, small), "pcapng": ngFile(binary.BigEndian, small, big, small),
		} {
			ds, stats, err := readAll(t, capture)
			if err != nil || len(ds) != 2 || stats.Packets != 3 {
				t.Errorf("%s, a packet of %d bytes: %d datagrams, %+v, %v", name, n, len(ds), stats, err)
			}
		}
	}
}

// TestCancelNamedPipe ends the reading of a named pipe that nobody writes to, or that a
// writer keeps open.
func TestCancelNamedPipe(t *testing.T) {
	for _, written := range []int{-1, 0, 4, 30, 1 << 20} {
		path := filepath.Join(t.TempDir(), "live.pcap")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		type result struct {
			stats Stats
			err   error
		}
		done := make(chan result)
		go func() {
			stats, err := Read(ctx, path, func(*Datagram) {})
			done <- result{stats, err}
		}()
		if written >= 0 {
			w, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			capture := captures(t)["ovs-netflow5"]
			if _, err := w.Write(capture[:min(written, len(capture))]); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if r := <-done; !errors.Is(r.err, context.Canceled) {
			t.Errorf("%d bytes written: %+v, %v", written, r.stats, r.err)
		}
	}
}

func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	fs := frames(t, captures(t)["ovs-ipfix-nolistener"])
	for name, file := range map[string]func(...frame) []byte{
		"pcap":   func(fs ...frame) []byte { return pcapFile(binary.LittleEndian, true, fs...) },
		"pcapng": func(fs ...frame) []byte { return ngFile(binary.LittleEndian, fs...) },
	} {
		count := func(capture []byte) float64 {
			return testing.AllocsPerRun(10, func() {
				if _, err := read(t.Context(), bytes.NewReader(capture), at, func(*Datagram) {}); err != nil {
					t.Fatal(err)
				}
			})
		}
		few, many := count(file(fs...)), count(file(slices.Repeat(fs, 10)...))
		if few != many {
			t.Errorf("%s: %v allocations for %d packets, %v for ten times as many", name, few, len(fs), many)
		}
	}
}

// FuzzCapture looks for panics, for counts that do not add up, and for packets
// that are handed on though they are beyond what may be read.
