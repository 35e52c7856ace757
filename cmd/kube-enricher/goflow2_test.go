package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// goflow2Tool builds a command of goflow2 v2.2.6 in the module test/goflow2,
// with the versions of its own go.mod, and returns its path. Where the modules
// cannot be had the test is skipped.
func goflow2Tool(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a run without -short: it builds goflow2")
	}
	dir, err := filepath.Abs("../../bin/goflow2")
	if err != nil {
		t.Fatal(err)
	}
	pkg := "github.com/netsampler/goflow2/v2/cmd/" + name
	for _, args := range [][]string{{"list", "-deps", pkg}, {"build", "-o", dir + "/", pkg}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = "../../test/goflow2"
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			if args[0] == "list" {
				needs.OK(t, "modules to build goflow2 from", fmt.Errorf("%w: %s", err, out))
			}
			t.Fatalf("%v: %s", err, out)
		}
	}
	return filepath.Join(dir, name)
}

// tail reads the lines that a program appends to a file.
type tail struct {
	name  string
	file  *os.File // opened once it is there
	part  []byte   // of the line that is not whole
	lines [][]byte
}

func (f *tail) read(t *testing.T) {
	t.Helper()
	var err error
	if f.file == nil {
		if f.file, err = os.Open(f.name); os.IsNotExist(err) {
			f.file = nil
			return
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.file.Close() })
	}
	b, err := io.ReadAll(f.file)
	if err != nil {
		t.Fatal(err)
	}
	f.part = append(f.part, b...)
	for {
		line, rest, whole := bytes.Cut(f.part, []byte("\n"))
		if !whole {
			f.part = bytes.Clone(f.part)
			return
		}
		f.lines, f.part = append(f.lines, line), rest
	}
}

// await waits until f holds.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in a minute", what)
		}
	}
}

// discard forgets the lines up to the one with a text, once it is there.
func (f *tail) discard(t *testing.T, text string) {
	t.Helper()
	await(t, text+" in "+f.name, func() bool {
		f.read(t)
		i := slices.IndexFunc(f.lines, func(l []byte) bool { return bytes.Contains(l, []byte(text)) })
		f.lines = f.lines[i+1:]
		return i >= 0
	})
}

// TestGoflow2Program sends every capture's datagrams to the real goflow2 and to
// our program, and compares what they print, line by line. goflow2's library,
// which the other tests compare with, must print the same, too.
func TestGoflow2Program(t *testing.T) {
	tool := goflow2Tool(t, "goflow2")
	dir := t.TempDir()
	theirAddr, ourAddr := freeAddr(t), freeAddr(t)
	theirs, ours := &tail{name: filepath.Join(dir, "theirs")}, &tail{name: filepath.Join(dir, "ours")}
	them := exec.CommandContext(t.Context(), tool, "-listen", "flow://"+theirAddr+"?count=1&workers=1", "-addr", freeAddr(t), "-transport.file", theirs.name)
	if err := them.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = them.Process.Kill()
		_ = them.Wait()
	}()
	startProgram(t, "-listen", "flow://"+ourAddr+"?count=1", "-addr", "", "-kube.off", "-schema", "v2", "-templates.hold", "0s", "-transport.file", ours.name)

	// Each exporter of each capture gets an address of its own, by which both
	// programs tell its templates.
	sources := make(map[string]*net.UDPConn)
	exporter := func(file string, src netip.AddrPort) *net.UDPConn {
		key := file + " " + src.String()
		if sources[key] == nil {
			n := len(sources) + 2
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, byte(n>>8), byte(n))})
			if err != nil {
				t.Skipf("needs addresses of 127/8 to send from: %v", err)
			}
			t.Cleanup(func() { c.Close() })
			sources[key] = c
		}
		return sources[key]
	}
	their, our := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(theirAddr)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(ourAddr))
	send := func(c *net.UDPConn, b []byte, to *net.UDPAddr) {
		if _, err := c.WriteToUDP(b, to); err != nil {
			t.Error(err)
		}
	}
	// Until they listen, datagrams are lost: what is told by its sequence number
	// is repeated, then comes a last one.
	probe := exporter("probe", netip.AddrPort{})
	v5 := func(sequence uint32) []byte {
		return be(uint16(5), uint16(1), make([]byte, 12), sequence, make([]byte, 4+48))
	}
	for _, p := range []struct {
		tail *tail
		to   *net.UDPAddr
	}{{theirs, their}, {ours, our}} {
		await(t, "a first record in "+p.tail.name, func() bool {
			send(probe, v5(0), p.to)
			p.tail.read(t)
			return len(p.tail.lines) > 0
		})
		send(probe, v5(12345), p.to)
		p.tail.discard(t, `"sequence_num":12345,`)
	}

	library := newGoflow2(t)
	var want [][]byte
	sent, compared := 0, 0
	arrived := func() {
		t.Helper()
		for _, f := range []*tail{theirs, ours} {
			await(t, f.name, func() bool { f.read(t); return len(f.lines) >= len(want) })
		}
	}
	for _, file := range captures(t) {
		_, err := capture.Read(t.Context(), file, func(g *capture.Datagram) {
			c := exporter(file, g.Src)
			send(c, g.Payload, their)
			send(c, g.Payload, our)
			src := c.LocalAddr().(*net.UDPAddr).AddrPort()
			ls, err := library.decode(netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), g.Payload, time.Now())
			if err == nil {
				want = append(want, ls...)
			}
			if sent++; sent%50 == 0 {
				arrived()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		arrived()
		if len(theirs.lines) != len(want) || len(ours.lines) != len(want) {
			t.Fatalf("%s: %d and %d records, want %d", file, len(theirs.lines), len(ours.lines), len(want))
		}
		for ; compared < len(want); compared++ {
			received := func(m map[string]any) map[string]any {
				if m["type"] == "SFLOW_5" && m["time_flow_start_ns"] == m["time_received_ns"] && m["time_flow_end_ns"] == m["time_received_ns"] {
					m["time_flow_start_ns"], m["time_flow_end_ns"] = "", ""
				}
				m["time_received_ns"] = ""
				return m
			}
			lib, them, us := received(object(t, want[compared])), received(object(t, theirs.lines[compared])), received(object(t, ours.lines[compared]))
			if d := differ(lib, them); len(d) > 0 {
				t.Fatalf("%s: goflow2's library and program differ in %v: %s", file, d, theirs.lines[compared])
			}
			for _, name := range differ(us, them) {
				if ok := closedList[name]; ok == nil || !ok(us, them) {
					t.Fatalf("%s: %s is %v, goflow2 has %v in %s", file, name, us[name], them[name], theirs.lines[compared])
				}
			}
		}
	}
	t.Logf("%d records compared", compared)
}

// TestGoflow2Enricher pipes our protobuf of every capture through goflow2's own enricher, which
// reads it into its message and writes it again: nothing may be lost.
func TestGoflow2Enricher(t *testing.T) {
	tool := goflow2Tool(t, "enricher")
	out := outputOf(t, append([]string{"-kube.snapshot", demoSnapshot, "-format", "bin", "-fields", "all", "-cluster", "c"}, captures(t)...)...)
	cmd := exec.CommandContext(t.Context(), tool, "-format", "bin", "-transport.file.sep", "")
	cmd.Stdin = strings.NewReader(out)
	back, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want, got := messages(t, out), messages(t, string(back))
	if len(want) < 8000 || !slices.EqualFunc(got, want, func(a, b *flowpb.EnrichedFlow) bool { return proto.Equal(a, b) }) {
		t.Errorf("%d of %d records come back, or not all of them whole", len(got), len(want))
	}
	// The enricher's JSON has the fields of its own message alone.
	cmd = exec.CommandContext(t.Context(), tool, "-format", "json")
	cmd.Stdin = strings.NewReader(out)
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := records(t, string(b))
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for i, r := range lines {
		if number(r, "bytes") != want[i].Bytes || number(r, "src_port") != uint64(want[i].SrcPort) ||
			number(r, "packets") != want[i].Packets {
			t.Fatalf("record %d is %v, want %v", i, r, want[i])
		}
	}
}
