package places

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// database makes a file of the given type.
func makeDatabase(tb testing.TB, typ string, records map[string]mmdbtype.Map) []byte {
	tb.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: typ, IncludeReservedNetworks: true, RecordSize: 24})
	noError(tb, err)
	for cidr, r := range records {
		_, n, err := net.ParseCIDR(cidr)
		noError(tb, err)
		noError(tb, tree.Insert(n, r))
	}
	var b bytes.Buffer
	_, err = tree.WriteTo(&b)
	noError(tb, err)
	return b.Bytes()
}

func country(code string) mmdbtype.Map {
	return mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}
}

func asn(number uint32, name string) mmdbtype.Map {
	return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(number), "autonomous_system_organization": mmdbtype.String(name)}
}

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// put writes a file as those do who replace it: by a new one.
func put(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	noError(tb, os.WriteFile(name+".new", data, 0o600))
	noError(tb, os.Rename(name+".new", name))
	return name
}

func mapping(tb testing.TB) []flow.MapEntry {
	m, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	noError(tb, err)
	return m
}

// sink keeps what the last stage gets.
type sink struct{ last *flow.Record }

func (s *sink) HandleFlow(r *flow.Record) { s.last = r }
func (s *sink) Idle() bool                { return false }

func newLookup(tb testing.TB, cfg Config) (*Lookup, *logtest.Hook) {
	tb.Helper()
	log, hook := logtest.NewNullLogger()
	cfg.Mapping = mapping(tb)
	l, err := New(cfg, log, prometheus.NewPedanticRegistry())
	noError(tb, err)
	return l, hook
}

// describe returns what a stage says of an address as the source.
func describe(s *Stage, addr string) string {
	r := new(flow.Record)
	a := netip.MustParseAddr(addr)
	r.Msg.SrcAddr = a.AsSlice()
	s.HandleFlow(r)
	e := &r.Ends[0]
	return fmt.Sprintf("%s|%s|%s|%d|%s", e.Attr(flow.AttrSubnetLabel), e.Attr(flow.AttrCountry), e.Attr(flow.AttrASName), r.Msg.SrcAs, e.Attr(flow.AttrStatus))
}

// TestLookup finds labels by longest match, countries and autonomous systems.
func TestLookup(t *testing.T) {
	dir := t.TempDir()
	list := "# comment\n10.0.0.0/8: office\n10.1.0.0/16: \"lab, east\"\n10.1.2.3: printer\nfd00::/8: tunnel\n0.0.0.0/0: internet\n"
	for name, text := range map[string]string{
		"networks.yaml": list,
		"networks.conf": list,
		"marked.yaml":   "\uFEFF" + list,
		"marked.csv":    "\uFEFFcidr,label\r\n10.0.0.0/8,office\r\n10.1.0.0/16,\"lab, east\"\r\n10.1.2.3,printer\r\n0.0.0.0/0,internet\r\nfd00::/8,tunnel\r\n",
		"networks.csv":  "cidr,label\n# comment\n10.0.0.0/8,office\n10.1.0.0/16,\"lab, east\"\n10.1.2.3, printer\n::ffff:0.0.0.0/96,internet\nfd00::/8,tunnel\n",
	} {
		l, _ := newLookup(t, Config{
			Networks: put(t, filepath.Join(dir, name), []byte(text)),
			GeoIP: []string{
				put(t, filepath.Join(dir, "country"), makeDatabase(t, "Test-Country", map[string]mmdbtype.Map{"198.51.100.0/24": country("DE"), "2001:db8::/32": country("FR"), "10.1.0.0/16": {"registered_country": mmdbtype.Map{"iso_code": mmdbtype.String("CH")}}})),
				put(t, filepath.Join(dir, "asn"), makeDatabase(t, "GeoLite2-ASN", map[string]mmdbtype.Map{"198.51.100.0/25": asn(64500, "Example \xff Org"), "fd00::/16": {"asn": mmdbtype.String("AS64501"), "as_name": mmdbtype.String("Tunnels")}})),
			},
		})
		s := l.NewStage(new(sink))
		for range 2 { // the second time from the cache
			for addr, want := range map[string]string{
				"10.2.0.1": "office|||0|none", "10.1.9.9": "lab, east|CH||0|none", "10.1.2.3": "printer|CH||0|none", "::ffff:10.1.2.3": "printer|CH||0|none",
				"198.51.100.1": "internet|DE|Example \ufffd Org|64500|none", "198.51.100.200": "internet|DE||0|none",
				"fd00::1": "tunnel||Tunnels|64501|none", "fd01::1": "tunnel|||0|none", "2001:db8::5": "|FR||0|none", "2001:db9::5": "|||0|none",
			} {
				if got := describe(s, addr); got != want {
					t.Errorf("%s: %s is %q, want %q", name, addr, got, want)
				}
			}
		}
	}
}

// TestStage leaves alone what the cluster knows and what the exporter sends.
func TestStage(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{
		Networks: put(t, filepath.Join(dir, "n"), []byte("10.0.0.0/8: office\n")),
		GeoIP:    []string{put(t, filepath.Join(dir, "a"), makeDatabase(t, "X-ISP", map[string]mmdbtype.Map{"10.0.0.0/8": asn(64500, "Org")}))},
	}
	l, _ := newLookup(t, cfg)
	next := new(sink)
	s := l.NewStage(next)
	pod := flow.NewObject(flow.Object{Kind: "Pod", Name: "p", Workload: "w", WorkloadKind: "Deployment"})
	r := new(flow.Record)
	r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.DstAs = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, 7
	r.Ends[0] = flow.End{Object: pod, Status: flow.StatusLive}
	s.HandleFlow(r)
	if next.last != r || r.Ends[0].Object != pod || r.Msg.SrcAs != 0 {
		t.Errorf("the pod's end is %+v, its AS %d", r.Ends[0], r.Msg.SrcAs)
	}
	o := r.Ends[1].Object
	if o == nil || o.Attr(flow.AttrSubnetLabel) != "office" || o.Attr(flow.AttrWorkload) != "" || o.Attr(flow.AttrKind) != "" || r.Msg.DstAs != 7 || !o.Plain() {
		t.Errorf("the other end is %+v, its AS %d", o, r.Msg.DstAs)
	}
	if w := o.WorkloadID().Value(); w != (flow.Workload{Name: "office", Kind: "none"}) {
		t.Errorf("workload %+v", w)
	}
	r.Ends, r.Msg.DstAs = [flow.MaxEnds]flow.End{}, 0
	s.HandleFlow(r)
	if r.Msg.SrcAs != 64500 || r.Msg.DstAs != 64500 {
		t.Errorf("AS %d and %d of ends that nobody has", r.Msg.SrcAs, r.Msg.DstAs)
	}
	// Without names, ends of the record before mean nothing.
	cfg.Alone = true
	l, _ = newLookup(t, cfg)
	r.Ends[0], r.Msg.SrcAddr = flow.End{Object: pod, Status: flow.StatusLive}, []byte{192, 0, 2, 1}
	l.NewStage(next).HandleFlow(r)
	if r.Ends[0] != (flow.End{}) {
		t.Errorf("an end of before: %+v", r.Ends[0])
	}
}

// TestNewErrors has files that are wrong.
func TestNewErrors(t *testing.T) {
	dir := t.TempDir()
	good := makeDatabase(t, "Country", map[string]mmdbtype.Map{"10.0.0.0/8": country("DE")})
	for want, cfg := range map[string]Config{
		"no such file":                                              {Networks: filepath.Join(dir, "none")},
		"is no regular file":                                        {Networks: dir},
		"empty:1: there is no network":                              {Networks: put(t, filepath.Join(dir, "empty"), nil)},
		"empty.csv:1: there is no network":                          {Networks: put(t, filepath.Join(dir, "empty.csv"), []byte("cidr,label\n"))},
		"3: no YAML: mapping values":                                {Networks: put(t, filepath.Join(dir, "nested"), []byte("\n10.0.0.0/8: a\n  b: c\n"))},
		"1: this is no mapping of CIDR: LABEL":                      {Networks: put(t, filepath.Join(dir, "list"), []byte("- 10.0.0.0/8\n"))},
		`2: "10.0.0.0/33" is no network`:                            {Networks: put(t, filepath.Join(dir, "bits"), []byte("10.0.0.0/8: a\n10.0.0.0/33: b\n"))},
		`2: 10.0.0.1/8 has bits beyond its length; give 10.0.0.0/8`: {Networks: put(t, filepath.Join(dir, "host"), []byte("\n10.0.0.1/8: a\n"))},
		"3: 10.0.0.0/8 is in line 1, too":                           {Networks: put(t, filepath.Join(dir, "twice"), []byte("10.0.0.0/8: a\n10.0.0.0/16: b\n10.0.0.0/8: c\n"))},
		"2: ::/0 is in line 1, too":                                 {Networks: put(t, filepath.Join(dir, "twice6"), []byte("::/0: a\n0::/0: b\n"))},
		"2: 10.0.0.0/8 is in line 1, too":                           {Networks: put(t, filepath.Join(dir, "twice4"), []byte("10.0.0.0/8: a\n::ffff:10.0.0.0/104: b\n"))},
		"1: the label is empty":                                     {Networks: put(t, filepath.Join(dir, "label"), []byte("10.0.0.0/8: ''\n"))},
		"1: this is not CIDR: LABEL":                                {Networks: put(t, filepath.Join(dir, "null"), []byte("10.0.0.0/8:\n"))},
		`1: the label "a\nb" is not allowed`:                        {Networks: put(t, filepath.Join(dir, "control"), []byte("10.0.0.0/8: \"a\\nb\"\n"))},
		"1: the label has more than 128 characters":                 {Networks: put(t, filepath.Join(dir, "long"), []byte("10.0.0.0/8: "+strings.Repeat("x", 129)))},
		"2: 3 values; give CIDR,LABEL":                              {Networks: put(t, filepath.Join(dir, "three.csv"), []byte("10.0.0.0/8,a\n10.0.0.0/9,b,c\n"))},
		`2: extraneous or missing " in quoted-field`:                {Networks: put(t, filepath.Join(dir, "quote.csv"), []byte("10.0.0.0/8,a\n10.0.0.0/9,\"b\n"))},
		"2: a second document begins here; put all into one":        {Networks: put(t, filepath.Join(dir, "two"), []byte("10.0.0.0/8: a\n---\n10.1.0.0/16: b\n"))},
		"no YAML":                        {Networks: put(t, filepath.Join(dir, "yaml"), []byte("{"))},
		"no database in the format mmdb": {GeoIP: []string{put(t, filepath.Join(dir, "text"), []byte("10.0.0.0/8: a\n"))}},
		`a database of the type "GeoIP2-Anonymous-IP" is not known`: {GeoIP: []string{put(t, filepath.Join(dir, "unknown"), makeDatabase(t, "GeoIP2-Anonymous-IP", nil))}},
		"no database in the format mmdb: error opening database":    {GeoIP: []string{put(t, filepath.Join(dir, "cut"), good[:len(good)/2])}},
		"5 files; at most 4 are possible":                           {GeoIP: []string{"a", "b", "c", "d", "e"}},
	} {
		cfg.Mapping = mapping(t)
		_, err := New(cfg, logrus.New(), prometheus.NewRegistry())
		file := (*FileError)(nil)
		if !errors.As(err, &file) || !strings.Contains(err.Error(), want) || file.Networks != (cfg.Networks != "") {
			t.Errorf("%v, want %q", err, want)
		}
		if cfg.Networks != "" && !strings.Contains(err.Error(), cfg.Networks) {
			t.Errorf("%v does not name the file", err)
		}
	}
}

// TestReload replaces files: by good ones, by broken ones, and slowly.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	networks := func(label string) []byte {
		return fmt.Appendf(nil, "10.0.0.0/8: %s\nfd00::/8: %s of IPv6\n", label, label)
	}
	database := func(code string) []byte {
		return makeDatabase(t, "Country", map[string]mmdbtype.Map{"10.0.0.0/8": country(code), "fd00::/8": country(code)})
	}
	name, db := put(t, filepath.Join(dir, "networks"), networks("old")), put(t, filepath.Join(dir, "db"), database("DE"))
	synctest.Test(t, func(t *testing.T) {
		l, hook := newLookup(t, Config{Networks: name, GeoIP: []string{db}})
		s := l.NewStage(new(sink))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = l.Run(ctx) }()
		expect := func(after time.Duration, label, code string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			four, six := label+"|"+code+"||0|none", label+" of IPv6|"+code+"||0|none"
			if got := describe(s, "10.0.0.1"); got != four {
				t.Errorf("%q, want %q", got, four)
			}
			if got := describe(s, "fd00::1"); got != six {
				t.Errorf("%q, want %q", got, six)
			}
		}
		expect(0, "old", "DE")
		put(t, name, networks("new"))
		expect(3*watchEvery, "new", "DE")
		put(t, db, database("FR"))
		expect(3*watchEvery, "new", "FR")
		put(t, db, []byte("broken"))
		put(t, name, networks("newer"))
		expect(3*watchEvery, "newer", "FR")
		if !slices.ContainsFunc(hook.AllEntries(), func(e *logrus.Entry) bool { return strings.Contains(e.Message, "stays in use") }) {
			t.Error("nobody says that the file is broken")
		}
		n := len(hook.AllEntries())
		expect(10*watchEvery, "newer", "FR")
		if len(hook.AllEntries()) != n {
			t.Error("a broken file is read again and again")
		}
		noError(t, os.Remove(name))
		l.Reload()
		expect(0, "newer", "FR")
		put(t, name, networks("newest"))
		l.Reload()
		expect(0, "newest", "FR")
		// Somebody writes a file in place, piece by piece.
		for i := range 5 {
			noError(t, os.WriteFile(name, networks("piece"+strings.Repeat("x", i)), 0o600))
			expect(watchEvery, "newest", "FR")
		}
		expect(2*watchEvery, "piecexxxx", "FR")
		cancel()
		synctest.Wait()
	})
}

// TestDamagedRecords has databases whose records have other types than they should.
func TestDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	l, hook := newLookup(t, Config{GeoIP: []string{
		put(t, filepath.Join(dir, "c"), makeDatabase(t, "City", map[string]mmdbtype.Map{"10.0.0.0/8": {"country": mmdbtype.Uint32(5)}, "11.0.0.0/8": {"country": mmdbtype.String("Germany"), "country_code": mmdbtype.String("DE")}})),
		put(t, filepath.Join(dir, "a"), makeDatabase(t, "ASN", map[string]mmdbtype.Map{"10.0.0.0/8": {"autonomous_system_number": mmdbtype.String("x")}})),
	}})
	s := l.NewStage(new(sink))
	if got := describe(s, "10.0.0.1"); got != "|||0|none" {
		t.Error(got)
	}
	if len(hook.AllEntries()) == 0 {
		t.Error("nobody says that a record cannot be read")
	}
	if got := describe(s, "11.0.0.1"); got != "|DE||0|none" {
		t.Error(got)
	}
}

// manyNetworks has 10,000 prefixes.
func manyNetworks() []byte {
	var b bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintf(&b, "%d.%d.%d.0/24: label%d\n", 1+i%200, i/256%256, i%256, i%500)
	}
	return b.Bytes()
}

// TestStageAllocs looks up more addresses than the cache has room for.
func TestStageAllocs(t *testing.T) {
	dir := t.TempDir()
	l, _ := newLookup(t, Config{
		Networks: put(t, filepath.Join(dir, "n"), manyNetworks()),
		GeoIP:    []string{put(t, filepath.Join(dir, "c"), makeDatabase(t, "Country", map[string]mmdbtype.Map{"0.0.0.0/1": country("DE"), "128.0.0.0/1": country("FR")}))},
	})
	s := l.NewStage(new(sink))
	r := new(flow.Record)
	r.Msg.SrcAddr, r.Msg.DstAddr = make([]byte, 4), make([]byte, 16)
	i := 0
	step := func() {
		for range 50_000 {
			i++
			r.Ends = [flow.MaxEnds]flow.End{}
			r.Msg.SrcAddr[0], r.Msg.SrcAddr[1], r.Msg.SrcAddr[2] = byte(i), byte(i>>8), byte(i>>16)
			r.Msg.DstAddr[15], r.Msg.DstAddr[5] = byte(i), byte(i>>8)
			s.HandleFlow(r)
		}
	}
	step()
	step()
	if n := testing.AllocsPerRun(3, step); n > 2000 && !race.Enabled {
		t.Errorf("%v allocations for 50,000 records", n)
	}
	if len(s.v4.sets) != cacheSets || len(s.v6.sets) != cacheSets || len(s.places) > maxPlaces {
		t.Errorf("%d slots, %d places", len(s.v4.sets)+len(s.v6.sets), len(s.places))
	}
	if n := testing.AllocsPerRun(100, func() { r.Ends = [flow.MaxEnds]flow.End{}; s.HandleFlow(r) }); n != 0 && !race.Enabled {
		t.Errorf("%v allocations for an address that is known", n)
	}
}

func BenchmarkStage(b *testing.B) {
	dir := b.TempDir()
	l, _ := newLookup(b, Config{
		Networks: put(b, filepath.Join(dir, "n"), manyNetworks()),
		GeoIP:    []string{put(b, filepath.Join(dir, "c"), makeDatabase(b, "Country", map[string]mmdbtype.Map{"0.0.0.0/1": country("DE")}))},
	})
	for _, addresses := range []int{1000, 10_000, 1 << 20} {
		b.Run(fmt.Sprint(addresses), func(b *testing.B) {
			s := l.NewStage(new(sink))
			r := new(flow.Record)
			r.Msg.SrcAddr = make([]byte, 4)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 7919) % addresses
				r.Ends[0] = flow.End{}
				r.Msg.SrcAddr[0], r.Msg.SrcAddr[1], r.Msg.SrcAddr[2] = byte(1+i%200), byte(i>>8), byte(i>>16)
				s.HandleFlow(r)
			}
		})
	}
}
