package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// TestRaces has the program, built with the race detector, do all at once for as long as
// the variable RACES says: flows, hostile ones among them, from many sources; SIGHUP with
// rotated files; requests for every page, and clients that hang. Then it is stopped under
// load. The detector must find nothing, and each record must be accounted for.
func TestRaces(t *testing.T) {
	duration, err := time.ParseDuration(os.Getenv("RACES"))
	if err != nil {
		t.Skip("needs RACES, a duration such as 30s: make races")
	}
	if !race.Enabled {
		t.Fatal("the program is built without the race detector; run: make races")
	}
	dir := t.TempDir()
	out, snapshot := filepath.Join(dir, "out.json"), filepath.Join(dir, "snapshot.yaml")
	objects, err := os.ReadFile(demoSnapshot)
	if err == nil {
		err = os.WriteFile(snapshot, objects, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	flows, addr, debug := freeAddr(t), freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+flows+"?count=2", "-addr", addr, "-debug.addr", debug, "-kube.snapshot", snapshot,
		"-fields", "all", "-transport.file", out, "-templates.file", filepath.Join(dir, "templates"), "-templates.hold", "2s")
	p.patient = true
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })

	stop := make(chan struct{})
	var load, others sync.WaitGroup
	repeat := func(wg *sync.WaitGroup, every time.Duration, f func(i int)) {
		wg.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
					f(i)
				}
			}
		})
	}
	for worker := range 2 {
		send := racesSender(t, flows, uint64(worker))
		repeat(&load, 5*time.Millisecond, func(int) { send() })
	}
	pages := []string{addr + "/livez", addr + "/readyz", addr + "/metrics", addr + "/metrics", debug + "/templates", debug + "/exporters", debug + "/explain?addr=10.244.0.5",
		debug + "/explain?addr=10.96.0.1&time=2023-11-14T22:13:20Z", debug + "/debug/pprof/", debug + "/debug/pprof/heap", debug + "/debug/pprof/goroutine?debug=2", debug + "/debug/pprof/profile?seconds=1"}
	answers := make([]int, len(pages)) // of each page
	for i, page := range pages {
		repeat(&others, 50*time.Millisecond, func(int) {
			if r, err := http.Get("http://" + page); err == nil {
				_, err = io.Copy(io.Discard, r.Body)
				r.Body.Close()
				if err == nil && r.StatusCode == http.StatusOK {
					answers[i]++
				}
			}
		})
	}
	repeat(&others, 100*time.Millisecond, func(i int) { // clients that hang
		if c, err := net.Dial("tcp", []string{addr, debug}[i%2]); err == nil {
			_, _ = io.WriteString(c, []string{"GET /met", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /templates HTTP/1.1\r\nHost: x\r\n\r\n"}[i%3])
			time.AfterFunc(time.Second, func() { _ = c.Close() })
		}
	})
	rotated := 0
	repeat(&others, 200*time.Millisecond, func(i int) {
		if i%2 == 0 && os.Rename(out, fmt.Sprint(out, ".", rotated)) == nil {
			rotated++
		}
		_ = p.cmd.Process.Signal(syscall.SIGHUP) // fails once the program has ended
	})
	select {
	case <-time.After(duration):
	case <-p.done:
		t.Error("the program has ended")
	}
	p.signal(syscall.SIGTERM) // under load
	code := p.wait()
	close(stop)
	load.Wait()
	others.Wait()

	log := p.stderr()
	if i := strings.Index(log, "WARNING: DATA RACE"); i >= 0 {
		t.Fatal(log[i:min(len(log), i+8000)])
	}
	if code != exitDone {
		t.Errorf("exit code %d: %s", code, log[max(0, len(log)-4000):])
	}
	for i, n := range answers {
		if n == 0 {
			t.Errorf("%s was never answered", pages[i])
		}
	}
	checkRacesLedger(t, log, dir, rotated)
}

// checkRacesLedger compares the last line of the log with the files of the output.
func checkRacesLedger(t *testing.T, log, dir string, rotated int) {
	t.Helper()
	last := log[max(0, strings.LastIndex(log, "msg=done")):]
	last, _, _ = strings.Cut(last, "\n")
	value := func(name string) int {
		if m := regexp.MustCompile(` ` + name + `=(\d+)`).FindStringSubmatch(last); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Error(err)
			}
			return n
		}
		return 0
	}
	lines := 0
	files, err := filepath.Glob(filepath.Join(dir, "out.json*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(b, []byte("\n"))
		if len(b) > 0 && b[len(b)-1] != '\n' {
			t.Errorf("%s ends within a line", file)
		}
	}
	received, written, dropped := value("received"), value("written"), value("dropped")
	t.Logf("%d files, %d lines: %s", len(files), lines, last)
	if received == 0 || received != written+dropped || value("held") != 0 || lines != written || value("datagrams_dropped_panic") != 0 || rotated == 0 {
		t.Errorf("%d lines in %d files (%d rotated): %s", lines, len(files), rotated, last)
	}
}

// racesSender returns a function that sends some datagrams of all kinds: of captures as
// they are, changed ones, and the corpus of hostile ones, from many sources.
func racesSender(t *testing.T, flows string, seed uint64) func() {
	t.Helper()
	s := newSoak(t, flows, 20_000)
	rnd := rand.New(rand.NewPCG(seed, 3))
	var hostile [][]byte
	files, err := filepath.Glob(filepath.Join(hostileDir, "*.hex"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		datagrams, _ := readHex(t, file)
		hostile = append(hostile, datagrams...)
	}
	to, err := net.ResolveUDPAddr("udp", flows)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		// Errors are of a program that has stopped.
		for range 5 {
			st := s.streams[rnd.IntN(len(s.streams))]
			_, _ = st.conn.Write(st.datagrams[st.next])
			st.next = (st.next + 1) % len(st.datagrams)
		}
		_, _ = s.junk[rnd.IntN(len(s.junk))].Write(s.pool[rnd.IntN(len(s.pool))])
		source := &net.UDPAddr{IP: net.ParseIP(loopback(30, rnd.IntN(300)))}
		if c, err := net.DialUDP("udp", source, to); err == nil {
			for range 5 {
				_, _ = c.Write(hostile[rnd.IntN(len(hostile))])
			}
			_ = c.Close()
		}
	}
}
