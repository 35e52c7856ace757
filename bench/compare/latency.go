//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// latency measures how long it takes from sending a lone datagram until its
// record comes out of a pipe.
func latency(ctx context.Context, b *bench) (result, error) {
	fifo := filepath.Join(b.dir, "latency")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return result{}, err
	}
	defer os.Remove(fifo)
	pipe, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		return result{}, err
	}
	defer pipe.Close()
	run, err := b.start(ctx, enricher("json", b.pods), fifo)
	if err != nil {
		return result{}, err
	}
	defer run.stop()
	c, err := net.Dial("udp4", run.udp)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	v5 := binary.BigEndian.AppendUint32(nil, 5<<16|1)
	v5 = append(v5, make([]byte, 20+48)...)
	lines := bufio.NewReader(pipe)
	var took []float64
	for i := range 40 {
		if err := sleep(ctx, time.Duration(100+7*i)*time.Millisecond); err != nil {
			return result{}, err
		}
		binary.BigEndian.PutUint32(v5[16:], uint32(i))
		begin := time.Now()
		if _, err := c.Write(v5); err != nil {
			return result{}, err
		}
		_ = pipe.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := lines.ReadSlice('\n'); err != nil {
			return result{}, fmt.Errorf("the record did not come: %w", err)
		}
		took = append(took, float64(time.Since(begin))/float64(time.Millisecond))
	}
	return result{
		measured: fmt.Sprintf("%.2f ms at most", slices.Max(took)), met: met(slices.Max(took) <= 20),
		runs: fmt.Sprintf("%s ms, %d datagrams", spread(took), len(took)),
	}, nil
}
