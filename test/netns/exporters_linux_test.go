package netns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// agent is an exporter of Debian's that watches the loopback interface of a
// namespace and exports to the collector at once.
type agent struct {
	name string // of the program
	args func(dir string, rate int) []string
	end  syscall.Signal // makes it export the rest and end
}

func softflowd(version string) agent {
	return agent{"softflowd", func(dir string, rate int) []string {
		return []string{
			"-d", "-i", "lo", "-n", "10.9.0.1:2055", "-v", version, "-s", fmt.Sprint(rate), "-c", "none", "-p", filepath.Join(dir, "pid"),
			"-t", "udp=1s", "-t", "maxlife=1s", "-t", "expint=1s", "udp and dst port 9999",
		}
	}, syscall.SIGINT}
}

func pmacctd(version string) agent {
	return agent{"pmacctd", func(dir string, rate int) []string {
		file := filepath.Join(dir, "pmacctd.conf")
		_ = os.WriteFile(file, fmt.Appendf(nil, `daemonize: false
pcap_interface: lo
pcap_filter: udp and dst port 9999
plugins: nfprobe
aggregate: src_host, dst_host, src_port, dst_port, proto
nfprobe_receiver: 10.9.0.1:2055
nfprobe_version: %s
nfprobe_timeouts: udp=1:maxlife=1:expint=1
sampling_rate: %d
`, version, rate), 0o600)
		return []string{"-f", file}
	}, syscall.SIGINT}
}

// fprobe sends NetFlow v1, v5 or v7, and knows no sampling.
func fprobe(version string) agent {
	return agent{"fprobe", func(dir string, _ int) []string {
		return []string{
			"-l2", "-i", "lo", "-p", "-n", version, "-s", "1", "-g", "1", "-d", "1", "-e", "1",
			"-f", "udp and dst port 9999", "-x", "7:8", "10.9.0.1:2055",
		}
	}, syscall.SIGTERM}
}

// runAgent starts an exporter in a namespace. stop lets it export the rest.
func (l *lab) runAgent(ns string, a agent, rate int) (stop func()) {
	l.t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("ip", slices.Concat([]string{"netns", "exec", l.prefix + ns, a.name}, a.args(l.t.TempDir(), rate))...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() {
		_ = cmd.Process.Signal(a.end)
		done := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer done.Stop()
		if err := cmd.Wait(); err != nil {
			l.t.Logf("%s: %v: %s", a.name, err, log.String())
		}
	}
}

// talker returns what sends packets from a port to another of the same namespace,
// where nobody reads them.
func (l *lab) talker(ns string, port int) (talk func(packets int)) {
	l.t.Helper()
	var sink *net.UDPConn
	err := l.in(ns, func() (err error) {
		sink, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9999})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { sink.Close() })
	c := l.dial(ns, port, "127.0.0.1:9999")
	return func(packets int) {
		for range packets {
			send(l.t, c, make([]byte, 100))
		}
	}
}

// TestTwoExportersBehindOneAddress has real exporters behind one address, with
// different sampling rates, that were started at different times: the rates and
// times of their records are their own.
func TestTwoExportersBehindOneAddress(t *testing.T) {
	for _, tc := range []struct {
		name     string
		one, two agent
	}{
		{"softflowd IPFIX", softflowd("10"), softflowd("10")},
		{"softflowd v9", softflowd("9"), softflowd("9")},
		{"softflowd and pmacctd v9", softflowd("9"), pmacctd("9")},
		{"softflowd and pmacctd IPFIX", softflowd("10"), pmacctd("10")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			needs.Program(t, tc.one.name)
			needs.Program(t, tc.two.name)
			l := newLab(t)
			l.behindOneAddress()
			p := l.start("collector")
			const rateOne, rateTwo = 10, 4
			stopOne := l.runAgent("one", tc.one, rateOne)
			time.Sleep(4 * time.Second) // their boot times differ by so much
			stopTwo := l.runAgent("two", tc.two, rateTwo)
			time.Sleep(time.Second)
			one, two := l.talker("one", 11111), l.talker("two", 22222)
			// v9 has the export time in whole seconds, and v1 writes them: two are lost.
			began := time.Now().Add(-2*time.Second - 300*time.Millisecond)
			for range 20 { // exporters look for expired flows when packets come
				one(100)
				two(100)
				time.Sleep(200 * time.Millisecond)
			}
			ended := time.Now()
			stopOne()
			stopTwo()
			var wrong []string
			seen := make(map[float64]int)
			for _, r := range p.stop(p.settled()) {
				port := r["SrcPort"].(float64)
				seen[port]++
				want := map[float64]float64{11111: rateOne, 22222: rateTwo}[port]
				start := time.Unix(int64(r["TimeFlowStart"].(float64)), 0)
				if r["SamplingRate"] != want || start.Before(began.Add(-time.Second-time.Second/2)) || start.After(ended.Add(time.Second)) {
					wrong = append(wrong, fmt.Sprintf("port %v: rate %v, start %v; want %v, %v to %v", port, r["SamplingRate"], start, want, began, ended))
				}
			}
			if len(seen) != 2 || seen[11111] == 0 || seen[22222] == 0 {
				wrong = append(wrong, fmt.Sprintf("records by source port: %v", seen))
			}
			if len(wrong) > 0 {
				t.Errorf("%q", wrong)
			}
		})
	}
}

// TestFixedVersions has real exporters send the versions of NetFlow whose records have one
// fixed format: records are of the packets that were sent, with their size and time.
// Exporters keep to themselves what has not expired.
func TestFixedVersions(t *testing.T) {
	for _, tc := range []struct {
		exporter agent
		version  string
	}{
		{softflowd("1"), "NETFLOW_V1"},
		{softflowd("5"), "NETFLOW_V5"},
		{fprobe("1"), "NETFLOW_V1"},
		{fprobe("5"), "NETFLOW_V5"},
		{fprobe("7"), "NETFLOW_V7"},
	} {
		t.Run(tc.exporter.name+" "+tc.version, func(t *testing.T) {
			needs.Program(t, tc.exporter.name)
			l := newLab(t)
			l.add("collector", "one")
			l.join("collector", "one", 1500, []string{"10.9.0.1/24"}, []string{"10.9.0.2/24"})
			p := l.start("collector")
			stop := l.runAgent("one", tc.exporter, 1)
			time.Sleep(time.Second) // until it captures
			talk := l.talker("one", 11111)
			began := time.Now().Add(-2*time.Second - 300*time.Millisecond) // v1 writes whole seconds
			const rounds, packets = 20, 50
			for range rounds {
				talk(packets)
				time.Sleep(200 * time.Millisecond)
			}
			ended := time.Now()
			stop()
			var sum, octets float64
			for _, r := range p.stop(p.settled()) {
				start := time.Unix(int64(r["TimeFlowStart"].(float64)), 0)
				if r["Type"] != tc.version || r["SrcPort"] != 11111.0 || r["DstPort"] != 9999.0 || r["SrcAddr"] != "127.0.0.1" || r["Proto"] != 17.0 ||
					start.Before(began.Add(-time.Second)) || start.After(ended.Add(time.Second)) {
					t.Errorf("%v, from %v to %v", r, began, ended)
				}
				if tc.exporter.name == "fprobe" && (r["InIf"] != 7.0 || r["OutIf"] != 8.0) {
					t.Errorf("interfaces of %v", r)
				}
				sum += r["Packets"].(float64)
				octets += r["Bytes"].(float64)
			}
			if sum == 0 || sum > rounds*packets || octets != sum*(20+8+100) {
				t.Errorf("%v packets of %v bytes, want up to %d of 128 each", sum, octets, rounds*packets)
			}
		})
	}
}

// settled waits until no more records come, and returns how many there were.
func (p *program) settled() int {
	last, since := -1, time.Now()
	p.eventually("no more records", func() bool {
		if n := p.metric("records_received_total", ""); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
	return last
}

// TestTwoAgentsBehindOneAddress has sFlow agents, as hsflowd, behind one address:
// each sample has the rate of its own agent.
func TestTwoAgentsBehindOneAddress(t *testing.T) {
	l := newLab(t)
	l.behindOneAddress()
	p := l.start("collector")
	word := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	const n = 20
	rates := map[string]uint32{"one": 1000, "two": 50}
	for ns, rate := range rates {
		c := l.dial(ns, 0, "10.9.0.1:2055")
		for i := range uint32(n) {
			d := bytes.ReplaceAll(sflow(i+1), word(400), word(rate))
			d = bytes.ReplaceAll(d, word(0x0a000009), word(0x0a000000|rate)) // the agent's address
			send(t, c, d)
		}
	}
	seen := make(map[string]int)
	for _, r := range p.stop(2 * n) {
		seen[fmt.Sprint(r["SamplerAddress"], " ", r["SamplingRate"])]++
	}
	if seen["10.0.3.232 1000"] != n || seen["10.0.0.50 50"] != n {
		t.Errorf("samples by agent and rate: %v", seen)
	}
}
