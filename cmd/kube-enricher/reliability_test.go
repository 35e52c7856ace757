package main

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// TestRestart stops the program in the middle of a stream whose templates are
// sent once, by SIGTERM and by SIGKILL: nothing is undecodable afterwards.
func TestRestart(t *testing.T) {
	for _, stop := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(stop.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "templates")
			template, data := benchMessages("ipfix", 0, 10, 100)
			var from net.Dialer
			if stop == syscall.SIGTERM {
				// The exporter keeps its port. Otherwise it has another one each time, and
				// its data waits before it is decoded with the templates of the last one.
				from.LocalAddr = freeUDPAddr(t)
			}
			send := func(to string, n int, messages ...[]byte) {
				c, err := from.DialContext(t.Context(), "udp", to)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				for range n {
					for _, m := range messages {
						if _, err := c.Write(m); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			written := func(base string, n float64) func() bool {
				return func() bool {
					text, _ := get(t, base+"/metrics")
					return metric(text, "kube_enricher_records_written_total", "") == n
				}
			}
			p, flows, base := collect(t, "-templates.file", file)
			send(flows, 1, template, data, data)
			p.eventually("first records", written(base, 20))
			if stop == syscall.SIGKILL {
				p.eventually("templates kept", func() bool { _, err := os.Stat(file); return err == nil })
			}
			p.signal(stop)
			p.wait()

			p, flows, base = collect(t, "-templates.file", file)
			started := time.Now()
			send(flows, 100, data)
			p.eventually("records after the restart", written(base, 1000))
			if waited := time.Since(started); stop == syscall.SIGTERM && waited > 8*time.Second {
				t.Errorf("the records came after %v", waited)
			}
			text, _ := get(t, base+"/metrics")
			if n := metric(text, "kube_enricher_sets_dropped_total", "") + metric(text, "kube_enricher_sets_held", ""); n != 0 {
				t.Errorf("%v sets were not decoded", n)
			}
			checkLedger(t, text, 1000)
			p.signal(syscall.SIGTERM)
			if code := p.wait(); code != exitDone {
				t.Errorf("exit code %d: %s", code, p.stderr())
			}
			if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 1 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}

// freeUDPAddr returns an address of the loopback with a port that is free.
func freeUDPAddr(t *testing.T) net.Addr {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr()
}

// TestDamagedTemplates starts all the same.
func TestDamagedTemplates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates")
	if err := os.WriteFile(file, []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _, _ := collect(t, "-templates.file", file)
	p.eventually("warning", func() bool { return strings.Contains(p.stderr(), "set aside") })
	if b, err := os.ReadFile(file + ".bad"); err != nil || string(b) != "not ours" {
		t.Errorf("%q, %v", b, err)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestStalledOutput goes on receiving while nobody reads the output, drops and
// counts what finds no room, says so at /readyz, and recovers by itself.
func TestStalledOutput(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "flows")
	needs.OK(t, "a named pipe", syscall.Mkfifo(fifo, 0o600))
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0) // does not wait for the writer
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	p, flows, base := collect(t, "-transport.file", fifo)
	sent := 0.0
	count := func(name, labels string) float64 {
		text, _ := get(t, base+"/metrics")
		return metric(text, "kube_enricher_"+name, labels)
	}
	send := func() {
		sendCapture(t, flows, "softflowd-v5")
		sent += 744
		p.eventually("received", func() bool { return count("records_received_total", "") == sent })
	}
	for count("records_dropped_total", `reason="output_full"`) == 0 {
		send()
		if sent > 500_000 {
			t.Fatal("nothing was dropped")
		}
	}
	p.balances(base, sent)
	p.eventually("not ready", func() bool {
		s, body := state(t, base)
		return s == "not ready" && strings.Contains(body, `"output":"the buffer is full`)
	})

	lines := make(chan int)
	go func() {
		n := 0
		for s := bufio.NewScanner(reader); s.Scan(); n++ {
			if len(s.Bytes()) == 0 {
				break
			}
		}
		lines <- n
	}()
	p.eventually("written", func() bool { return count("records_held", "") == 0 })
	p.eventually("ready", func() bool { s, _ := state(t, base); return s == "ready" })
	send()
	p.eventually("written", func() bool { return count("records_held", "") == 0 })
	text := p.balances(base, sent)
	written := metric(text, "kube_enricher_records_written_total", "")
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	if _, err := reader.WriteString("\n"); err != nil { // ends the reading
		t.Fatal(err)
	}
	if n := <-lines; float64(n) != written {
		t.Errorf("%d lines read, %v counted as written", n, written)
	}
}

// TestFullDisk counts each record that cannot be written, with one log line in
// ten seconds.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); errors.Is(err, fs.ErrNotExist) {
		needs.OK(t, "/dev/full", err)
	}
	p, flows, base := collect(t, "-transport.file", "/dev/full")
	const n = 10
	for range n {
		sendCapture(t, flows, "fprobe-v5")
	}
	var text string
	p.eventually("dropped", func() bool {
		text, _ = get(t, base+"/metrics")
		// The two are not read at the same moment.
		return metric(text, "kube_enricher_records_dropped_total", `reason="output_error"`) == n*225 &&
			metric(text, "kube_enricher_records_received_total", "") == n*225
	})
	checkLedger(t, text, n*225)
	if s, body := state(t, base); s != "degraded" || !strings.Contains(body, "no space") {
		t.Errorf("/readyz: %s", body)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	if n := strings.Count(p.stderr(), "no space"); n < 1 || n > 3 {
		t.Errorf("%d log lines: %s", n, p.stderr())
	}
}

// TestStopUnderLoad ends within the drain's time, with the ledger in one line.
// What the file was too slow for before, on a busy machine, is in it; nothing is
// lost to the stop.
func TestStopUnderLoad(t *testing.T) {
	p, flows, base := collect(t, "-transport.file", filepath.Join(t.TempDir(), "flows.json"), "-drain-timeout", "10s")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		c, err := net.Dial("udp", flows)
		if err != nil {
			return
		}
		defer c.Close()
		template, data := benchMessages("ipfix", 0, 25, 100)
		_, _ = c.Write(template)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = c.Write(data)
			}
		}
	}()
	p.eventually("load", func() bool {
		text, _ := get(t, base+"/metrics")
		return metric(text, "kube_enricher_records_received_total", "") > 10_000
	})
	p.signal(syscall.SIGTERM)
	code := p.wait()
	close(stop)
	<-stopped
	last := lastLine(p.stderr())
	if code != exitDone || !strings.Contains(last, "msg=done") {
		t.Fatalf("exit code %d: %s", code, p.stderr())
	}
	value := func(key string) (n int) {
		for f := range strings.FieldsSeq(last) {
			if v, ok := strings.CutPrefix(f, key+"="); ok {
				n, _ = strconv.Atoi(v)
			}
		}
		return n
	}
	if value("received") == 0 || value("received") != value("written")+value("dropped") || value("dropped") != value("dropped_output_full") {
		t.Errorf("ledger %s", last)
	}
}
