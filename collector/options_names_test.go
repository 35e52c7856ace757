package collector

import (
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// nameFields are the fields that options data give a value to.
var nameFields = []flow.FieldID{
	flow.FieldInIfName, flow.FieldOutIfName, flow.FieldInIfDescription, flow.FieldOutIfDescription,
	flow.FieldIngressVrfName, flow.FieldEgressVrfName, flow.FieldApplicationName,
}

// namingDecoder returns a decoder that somebody asks for the given fields of.
func namingDecoder(tb testing.TB, handle func(*flow.Record), fields ...flow.FieldID) *Decoder {
	c, _ := newTestCollector(tb)
	c.cfg.Fields.Add(fields...)
	return c.NewDecoder(&sink{f: handle})
}

// TestOptionsNames names numbers of records by options data that came before. Each
// datagram comes from a source port of one address.
func TestOptionsNames(t *testing.T) {
	type sent struct {
		port     uint16
		datagram []byte
	}
	wait := func(d time.Duration) sent { return sent{0, be(uint64(d))} }
	nine := func(domain uint32, scope ie, fields []ie, records ...[]byte) []byte {
		return v9Message(0, domain, set(1, be(uint16(300), uint16(4), uint16(4*len(fields))), specs(scope), specs(fields...)), set(300, records...))
	}
	ten := func(domain uint32, scopes int, fields []ie, records ...[]byte) []byte {
		return ipfixMessage(0, domain, set(3, optionsRecord(300, scopes, fields...)), set(300, records...))
	}
	system := ie{1, 4, 0}
	flow9 := func(domain uint32, in, out uint16) []byte {
		return v9Message(0, domain, set(0, templateRecord(256, ie{8, 4, 0}, ie{10, 2, 0}, ie{14, 2, 0})), set(256, be("\x0a\x00\x00\x01", in, out)))
	}
	flow10 := func(domain uint32, in, out uint32) []byte {
		return ipfixMessage(0, domain, set(2, templateRecord(256, ie{8, 4, 0}, ie{10, 4, 0}, ie{14, 4, 0})), set(256, be("\x0a\x00\x00\x01", in, out)))
	}
	table := []ie{{10, 4, 0}, {82, 5, 0}, {83, 6, 0}}
	row := func(id uint32, name, description string) []byte {
		return append(be(id), []byte(fmt.Sprintf("%s%s", pad(name, 5), pad(description, 6)))...)
	}
	vrf := func(domain uint32, in, out uint32) []byte {
		return ipfixMessage(0, domain, set(2, templateRecord(256, ie{8, 4, 0}, ie{234, 4, 0}, ie{235, 4, 0})), set(256, be("\x0a\x00\x00\x01", in, out)))
	}
	app := func(id ...byte) []byte {
		return ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{95, uint16(len(id)), 0})), set(256, be("\x0a\x00\x00\x01", id)))
	}
	const src = "SrcAddr=10.0.0.1 "
	for _, tc := range []struct {
		name string
		sent []sent
		want string // of the last record
	}{
		{"v9, interface in a field", []sent{{1, nine(1, system, table, be(uint32(9), row(3, "eth3", "uplink")), be(uint32(9), row(4, "eth4", "")))}, {1, flow9(1, 3, 4)}},
			src + "InIf=3 OutIf=4 InIfDescription=uplink InIfName=eth3 OutIfName=eth4"},
		{"v9, scope interface", []sent{{1, nine(1, ie{2, 2, 0}, []ie{{82, 5, 0}}, be(uint16(3), pad("eth3", 5)))}, {1, flow9(1, 3, 4)}},
			src + "InIf=3 OutIf=4 InIfName=eth3"},
		{"v9, names before the index", []sent{{1, nine(1, system, []ie{{83, 6, 0}, {82, 5, 0}, {14, 1, 0}}, be(uint32(9), "uplink", pad("eth4", 5), uint8(4)))}, {1, flow9(1, 3, 4)}},
			src + "InIf=3 OutIf=4 OutIfDescription=uplink OutIfName=eth4"},
		{"v9, both indices", []sent{{1, nine(1, system, []ie{{10, 2, 0}, {82, 5, 0}, {14, 2, 0}}, be(uint32(9), uint16(3), pad("eth3", 5), uint16(3)))}, {1, flow9(1, 3, 3)}},
			src + "InIf=3 OutIf=3 InIfName=eth3 OutIfName=eth3"},
		{"v9, two interfaces in a record", []sent{{1, nine(1, system, []ie{{10, 2, 0}, {82, 5, 0}, {14, 2, 0}, {82, 5, 0}}, be(uint32(9), uint16(3), pad("eth3", 5), uint16(4), pad("eth4", 5)))}, {1, flow9(1, 3, 4)}},
			src + "InIf=3 OutIf=4 InIfName=eth3 OutIfName=eth4"},
		{"IPFIX, ingress as scope", []sent{{1, ten(1, 1, table, row(3, "eth3", "uplink"))}, {1, flow10(1, 3, 4)}},
			src + "InIf=3 OutIf=4 InIfDescription=uplink InIfName=eth3"},
		{"IPFIX, egress as scope, variable length", []sent{{1, ten(1, 1, []ie{{14, 2, 0}, {82, 0xffff, 0}}, be(uint16(4), uint8(4), "eth4"))}, {1, flow10(1, 3, 4)}},
			src + "InIf=3 OutIf=4 OutIfName=eth4"},
		{"index 0 names nothing", []sent{{1, ten(1, 1, table, row(0, "zero", "uplink"))}, {1, flow10(1, 0, 0)}}, strings.TrimSpace(src)},
		{"a name that changes", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {1, ten(1, 1, table, row(3, "wan", ""))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=wan"},
		{"the record's own name wins", []sent{{1, ten(1, 1, table, row(3, "eth3", "uplink"))},
			{1, ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{10, 4, 0}, ie{82, 4, 0})), set(256, be("\x0a\x00\x00\x01", uint32(3), "own\x00")))}},
			src + "InIf=3 InIfDescription=uplink InIfName=own"},

		{"another port of the address", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"another domain of the port", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {1, flow10(7, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"two exporters behind an address, first", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, table, row(3, "lan", ""))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"two exporters behind an address, second", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, table, row(3, "lan", ""))}, {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=lan"},
		{"two exporters behind an address, a third", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, table, row(3, "lan", ""))}, {3, flow10(1, 3, 0)}}, src + "InIf=3"},
		{"two exporters that agree", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, table, row(3, "eth3", ""))}, {1, ten(1, 1, table, row(3, "wan", ""))}, {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"two exporters that agree, a third", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, table, row(3, "eth3", ""))}, {3, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"two exporters of two domains, a third", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(2, 1, table, row(3, "lan", ""))}, {3, flow10(7, 3, 0)}}, src + "InIf=3"},
		{"another exporter behind the address has names of its own", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, table, row(5, "lan", ""))}, {2, flow10(1, 3, 5)}}, src + "InIf=3 OutIf=5 OutIfName=lan"},
		{"another port has names of another kind", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {2, ten(1, 1, []ie{{234, 4, 0}, {236, 4, 0}}, be(uint32(5), "red\x00"))}, {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"a name that ends", []sent{{1, ten(1, 1, table, row(3, "eth3", "uplink"))}, {1, ten(1, 1, table, row(3, "eth3", ""))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"names that end", []sent{{1, ten(1, 1, table, row(3, "eth3", "uplink"))}, {1, ten(1, 1, table, row(3, "", ""))}, {1, flow10(1, 3, 0)}}, src + "InIf=3"},
		{"names that end in another domain", []sent{{1, ten(1, 1, table, row(3, "eth3", "uplink"))}, {1, ten(2, 1, table, row(3, "", ""))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfDescription=uplink InIfName=eth3"},
		{"no names at another port", []sent{{1, ten(1, 1, table, row(3, "eth3", "uplink"))}, {2, ten(1, 1, table, row(3, "", ""))}, {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfDescription=uplink InIfName=eth3"},
		{"name and description apart", []sent{{1, ten(1, 1, table[:2], be(uint32(3), "eth3\x00"))}, {1, ten(1, 1, []ie{{10, 4, 0}, {83, 6, 0}}, be(uint32(3), "uplink"))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfDescription=uplink InIfName=eth3"},
		{"another port announced it 30 minutes ago", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, wait(30 * time.Minute), {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"another port announced it longer ago", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, wait(31 * time.Minute), {2, flow10(1, 3, 0)}}, src + "InIf=3"},
		{"another port announced it again", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, wait(25 * time.Minute), {1, ten(1, 1, table, row(3, "eth3", ""))}, wait(25 * time.Minute), {2, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"the other one that differs has been silent for long", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, wait(31 * time.Minute), {2, ten(1, 1, table, row(3, "lan", ""))}, {3, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=lan"},
		{"the port itself announced it long ago", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, wait(50 * time.Hour), {2, ten(1, 1, table, row(3, "lan", ""))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"options data about another domain", []sent{{1, ten(9, 2, append([]ie{{149, 4, 0}}, table...), be(uint32(1), row(3, "eth3", "")), be(uint32(2), row(3, "lan", "")))}, {1, flow10(1, 3, 0)}}, src + "InIf=3 InIfName=eth3"},
		{"two domains", []sent{{1, ten(1, 1, table, row(3, "eth3", ""))}, {1, ten(2, 1, table, row(3, "lan", ""))}, {1, flow10(2, 3, 0)}}, src + "InIf=3 InIfName=lan"},

		{"VRFs", []sent{{1, ten(1, 1, []ie{{234, 4, 0}, {236, 4, 0}}, be(uint32(5), "red\x00"), be(uint32(6), "blue"))}, {1, vrf(1, 5, 6)}}, src + "EgressVrfName=blue IngressVrfName=red"},
		{"a VRF's name that ends", []sent{{1, ten(1, 1, []ie{{234, 4, 0}, {236, 4, 0}}, be(uint32(5), "red\x00"), be(uint32(6), "blue"), be(uint32(5), make([]byte, 4)))}, {1, vrf(1, 5, 6)}}, src + "EgressVrfName=blue"},
		{"an application's name that ends", []sent{{1, ten(1, 1, []ie{{95, 4, 0}, {96, 4, 0}, {94, 3, 0}}, be(uint32(13<<24|431), "http", "Web"), be(uint32(13<<24|431), make([]byte, 7)))}, {1, app(13, 0, 1, 175)}}, src + "ApplicationId=13:431"},
		{"VRFs by the egress id", []sent{{1, nine(1, system, []ie{{236, 4, 0}, {235, 2, 0}}, be(uint32(1), "red\x00", uint16(5)))}, {1, vrf(1, 5, 6)}}, src + "IngressVrfName=red"},
		{"VRF 0", []sent{{1, ten(1, 1, []ie{{234, 4, 0}, {236, 4, 0}}, be(uint32(0), "main"))}, {1, vrf(1, 0, 6)}}, src + "IngressVrfName=main"},
		{"VRF 0 that was not sent", []sent{{1, ten(1, 1, []ie{{234, 4, 0}, {236, 4, 0}}, be(uint32(0), "main"))}, {1, flow10(1, 0, 0)}}, strings.TrimSpace(src)},

		{"application", []sent{{1, ten(1, 1, []ie{{95, 4, 0}, {96, 4, 0}, {94, 4, 0}}, be(uint32(13<<24|431), "http", "Web\x00"))}, {1, app(13, 0, 1, 175)}}, src + "ApplicationId=13:431 ApplicationName=http"},
		{"application's description", []sent{{1, ten(1, 1, []ie{{95, 4, 0}, {94, 4, 0}}, be(uint32(13<<24|431), "Web\x00"))}, {1, app(13, 0, 1, 175)}}, src + "ApplicationId=13:431 ApplicationName=Web"},
		{"application of another length", []sent{{1, nine(1, system, []ie{{94, 4, 0}, {96, 4, 0}, {95, 4, 0}}, be(uint32(9), "Web\x00", "http", uint32(3<<24|443)))}, {1, app(3, 1, 187)}}, src + "ApplicationId=3:443 ApplicationName=http"},
		{"application of another engine", []sent{{1, ten(1, 1, []ie{{95, 4, 0}, {96, 4, 0}}, be(uint32(13<<24|431), "http"))}, {1, app(3, 1, 175)}}, src + "ApplicationId=3:431"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			d := namingDecoder(t, func(r *flow.Record) { got = showSetFields(r) }, nameFields...)
			silent := namingDecoder(t, func(*flow.Record) {})
			now := testTime
			for _, s := range tc.sent {
				if s.port == 0 {
					now += int64(binary.BigEndian.Uint64(s.datagram))
					continue
				}
				source := netip.AddrPortFrom(testSource.Addr(), s.port)
				d.Datagram(source, AnyFlow, s.datagram, now)
				silent.Datagram(source, AnyFlow, s.datagram, now)
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if n := silent.peer.exporter.names.bytes(); n != 0 {
				t.Errorf("%d bytes of names that nobody asks for", n)
			}
			checkAccounts(t, d.exporters)
		})
	}
}

func specs(fields ...ie) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, fieldSpec(f)...)
	}
	return b
}

func pad(s string, n int) string { return s + strings.Repeat("\x00", n-len(s)) }

// TestOptionsNamesOfCaptures holds what is learned of real options data to tshark's
// reading: a record of the same exporter that has the number gets the name.
func TestOptionsNamesOfCaptures(t *testing.T) {
	for _, name := range []string{
		"telegraf__netflow_v9_options", "telegraf__ipfix_options",
		"logstash__Netflow-9-Cisco-ASR-9000-series-options-template-256", "logstash__Netflow-9-Cisco-NBAR-options-template-260",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "captures-public", name)
			got := ""
			d := namingDecoder(t, func(r *flow.Record) {
				got = fmt.Sprintf("%s|%s|%s", r.Extra.InIfName, r.Extra.InIfDescription, r.Extra.ApplicationName)
			}, nameFields...)
			var source netip.AddrPort
			for _, g := range readCapture(t, file) {
				source = g.source
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
			}
			rows := optionRows(t, file+".truth.csv")
			for _, row := range rows {
				number := func(name string) uint32 {
					n, _ := strconv.ParseUint(row[name], 10, 32)
					return uint32(n)
				}
				application := []byte{byte(number("appl_id.classification_engine_id"))}
				selector, err := hex.DecodeString(strings.ReplaceAll(row["appl_id.selector_id"], ":", ""))
				if err != nil {
					t.Fatal(err)
				}
				application = append(application, selector...)
				d.Datagram(source, AnyFlow, ipfixMessage(0, number("domain"),
					set(2, templateRecord(999, ie{8, 4, 0}, ie{10, 4, 0}, ie{95, uint16(len(application)), 0})),
					set(999, be("\x0a\x00\x00\x01", number("in_if"), application))), testTime)
				if want := fmt.Sprintf("%s|%s|%s", row["if_name"], row["if_descr"], row["appl_name"]); got != want {
					t.Errorf("%v: got %s, want %s", row, got, want)
				}
			}
			if len(rows) < 8 {
				t.Errorf("%d rows", len(rows))
			}
		})
	}
}

// optionRows returns the options data of a truth table, by column and by what the last
// column has.
func optionRows(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(captures, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	kind := slices.Index(table[0], "kind")
	var rows []map[string]string
	for _, line := range table[1:] {
		if line[kind] != "options" {
			continue
		}
		row := make(map[string]string)
		for i, column := range table[0] {
			row[column] = line[i]
		}
		for part := range strings.SplitSeq(row["extra"], "|") {
			k, v, _ := strings.Cut(part, "=")
			row[k] = v
		}
		rows = append(rows, row)
	}
	return rows
}

// TestNamesAllocations gates records that are named.
func TestNamesAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	records := 0
	d := namingDecoder(t, func(r *flow.Record) { records += len(r.Extra.InIfName) }, nameFields...)
	d.elements = newUserElements([]flow.ExtraElement{{Element: flow.Element{ID: 1000}, Name: "One"}})
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{10, 4, 0}, ie{82, 4, 0})), set(300, be(uint32(3), "eth3"))), testTime)
	template := templateRecord(256, ie{8, 4, 0}, ie{10, 4, 0}, ie{14, 4, 0}, ie{95, 4, 0}, ie{1000, 4, 0})
	record := be("\x0a\x00\x00\x01", uint32(3), uint32(4), uint32(1), uint32(5))
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, template), set(256, record)), testTime)
	data := ipfixMessage(0, 1, set(256, slices.Repeat(record, 10)))
	if got := testing.AllocsPerRun(100, func() { d.Datagram(testSource, AnyFlow, data, testTime) }); got > 0 || records < 1000 {
		t.Errorf("%v allocations, %d bytes of names", got, records)
	}
}

// TestNamesOfManyPorts has more ports than are remembered for a name. What the first one
// announced no longer is, so nobody knows whether all agree.
func TestNamesOfManyPorts(t *testing.T) {
	e := newExporters(0, new(workerMetrics)).get(testSource.Addr(), 1)
	k := nameKey{nameOfInterface, 3}
	tell := func(port uint16, name string, at uint32) {
		e.learnName(announcedName{nameKey: k, nameSource: nameSource{1, port, at}, name: []byte(name)})
	}
	tell(1, "eth3", 1000)
	for port := range uint16(maxNamers) {
		tell(2+port, "lan", 1000)
	}
	for _, tc := range []struct {
		of   nameSource
		want string
	}{
		{nameSource{1, 2, 1000}, "lan"},
		{nameSource{1, 1, 1000}, ""},
		{nameSource{1, 999, 1000}, ""},
		{nameSource{1, 999, 1000 + announcedFor + 1}, ""},
	} {
		got := ""
		if n, _ := e.names.find(k, tc.of); n != nil {
			got = string(n.name)
		}
		if got != tc.want {
			t.Errorf("%v: %q, want %q", tc.of, got, tc.want)
		}
	}
}

// TestOptionsTableBounds fills the names of an exporter beyond its budget.
func TestOptionsTableBounds(t *testing.T) {
	for name, entry := range map[string]func(i int) announcedName{
		"many keys": func(i int) announcedName {
			return announcedName{nameKey: nameKey{nameOfInterface, uint64(i)}, nameSource: nameSource{1, 1, 1}, name: []byte("name")}
		},
		"many sources": func(i int) announcedName {
			return announcedName{nameKey: nameKey{nameOfVRF, 1}, nameSource: nameSource{uint32(i), 1, 1}, name: fmt.Append(nil, i)}
		},
		"long names": func(i int) announcedName {
			return announcedName{nameKey: nameKey{nameOfVRF, uint64(i) << 40}, nameSource: nameSource{1, 1, 1}, name: make([]byte, maxNameLen), description: make([]byte, maxNameLen)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := newExporters(0, new(workerMetrics))
			table.exporterBudget = 1 << 20
			e := table.get(testSource.Addr(), 1)
			grown := heapGrowth(func() {
				for i := range 20_000 {
					e.learnName(entry(i))
				}
			})
			bytes := e.names.bytes()
			if bytes > table.exporterBudget/8 || e.names.n < 1 {
				t.Errorf("%d bytes, %d entries", bytes, e.names.n)
			}
			if !race.Enabled && grown > bytes*11/10+4096 {
				t.Errorf("%d bytes on the heap, %d counted", grown, bytes)
			}
			last := entry(20_000 - 1)
			if n, _ := e.names.find(last.nameKey, last.nameSource); n == nil && name == "many sources" {
				t.Error("the last one is not there")
			}
			longest := 0
			for i := range *e.names.buckets.Load() {
				length := 0
				for n := (*e.names.buckets.Load())[i].Load(); n != nil; n = n.next.Load() {
					length++
				}
				longest = max(longest, length)
			}
			if longest > 2*maxNamers {
				t.Errorf("a bucket of %d entries", longest)
			}
			checkAccounts(t, table)
			table.mu.Lock()
			table.evict(nil)
			table.mu.Unlock()
			if n := table.bytes.Load(); n != 0 {
				t.Errorf("%d bytes of no exporter", n)
			}
		})
	}
}
