package collector

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// openTemplatesFile opens a templates file for a new collector, which has read it.
func openTemplatesFile(t *testing.T, path string, now time.Time) (c *Collector, f *templatesFile, templates int, err error) {
	t.Helper()
	c, _ = newWith(t, Config{Fields: everyField(), TemplatesHold: time.Hour})
	f = newTemplatesFile(path)
	t.Cleanup(f.close)
	templates, err = f.load(c.exporters, now)
	return c, f, templates, err
}

func everyField() (fields flow.FieldSet) {
	for _, id := range []flow.FieldID{flow.FieldInIfName, flow.FieldInIfDescription, flow.FieldIngressVrfName, flow.FieldApplicationName} {
		fields.Add(id)
	}
	return fields
}

// known returns all that a table of exporters knows, in lines of text.
func known(t *exporters) []string {
	var lines []string
	for _, e := range t.list() {
		for k, l := range e.allTemplates() {
			lines = append(lines, fmt.Sprint("template ", e.addr, k, l.shape.fields, l.shape.scopes, l.shape.options, l.refreshed))
		}
		rates, bootTimes, selectors, names := e.takeUnsavedOptions(true)
		for _, v := range rates {
			lines = append(lines, fmt.Sprint("rate ", e.addr, v.optionKey, v.value.value, v.value.announced))
		}
		for _, v := range bootTimes {
			lines = append(lines, fmt.Sprint("boot time ", e.addr, v.optionKey, v.value.value, v.value.announced))
		}
		for _, v := range selectors {
			lines = append(lines, fmt.Sprint("selectors ", e.addr, v.optionKey, v.value.ids, v.value.n))
		}
		for _, v := range names {
			lines = append(lines, fmt.Sprintf("name %v %v %q %q %d", e.addr, v.optionKey, v.value.name, v.value.description, v.value.at))
		}
	}
	slices.Sort(lines)
	return lines
}

// storeExamples are datagrams that make a table of exporters know something of each kind.
func storeExamples() (sources []netip.AddrPort, datagrams [][]byte) {
	other := netip.AddrPortFrom(testSource.Addr(), 0)
	v6 := netip.MustParseAddrPort("[2001:db8::1]:7")
	for _, d := range []struct {
		source netip.AddrPort
		b      []byte
	}{
		{testSource, ipfixMessage(0, 1, set(2, basicTemplate(256)))},
		{testSource, ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 0}, ie{160, 8, 0})), set(300, be(uint32(1), uint32(77), uint64(5))))},
		{testSource, ipfixMessage(0, 1, set(2, templateRecord(257, ie{892, 0xffff, 6876})))},
		{testSource, v9Message(0, 1, set(0, basicTemplate(256)))},
		{other, ipfixMessage(0, 1, set(2, templateRecord(256, ie{27, 16, 0})))},
		{v6, ipfixMessage(0, 7, set(3, optionsRecord(301, 1, ie{302, 4, 0}, ie{305, 4, 0})), set(301, be(uint32(5), uint32(1000)), be(uint32(6), uint32(10))))},
		{v6, ipfixMessage(0, 7, set(3, optionsRecord(302, 1, ie{301, 4, 0}, ie{302, 4, 0}, ie{302, 4, 0})), set(302, be(uint32(9), uint32(5), uint32(6))))},
		{v6, ipfixMessage(0, 7, set(3, optionsRecord(303, 1, ie{10, 4, 0}, ie{82, 4, 0}, ie{83, 8, 0})), set(303, be(uint32(3), "eth3", "up\xfflink\x00")))},
		{v6, ipfixMessage(0, 7, set(3, optionsRecord(304, 1, ie{234, 4, 0}, ie{236, 4, 0})), set(304, be(uint32(2), "blue")))},
		{v6, ipfixMessage(0, 7, set(3, optionsRecord(305, 1, ie{95, 4, 0}, ie{96, 4, 0})), set(305, be(uint32(3<<24|80), "http")))},
	} {
		sources, datagrams = append(sources, d.source), append(datagrams, d.b)
	}
	return sources, datagrams
}

// TestStore writes what exporters announce, by and by, and reads all of it back into
// another collector: written at once, appended, and after each datagram written anew.
func TestStore(t *testing.T) {
	sources, datagrams := storeExamples()
	for _, anew := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "templates")
		now := time.Unix(0, testTime)
		c, f, _, err := openTemplatesFile(t, path, now)
		if err != nil {
			t.Fatal(err)
		}
		d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
		for i, b := range datagrams {
			d.Datagram(sources[i], AnyFlow, b, testTime+int64(i)*1e9)
			f.rewrite = f.rewrite || anew
			now = now.Add(10 * time.Second)
			if err := f.save(c.exporters, now, false); err != nil {
				t.Fatal(err)
			}
			want := known(c.exporters)
			c2, _, _, err := openTemplatesFile(t, path, now.Add(23*time.Hour))
			if got := known(c2.exporters); !errors.Is(err, errInUse) || !slices.Equal(got, want) {
				t.Fatalf("error %v; restored:\n%s\nwant:\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			checkAccounts(t, c2.exporters)
		}
		kinds := make(map[string]int)
		for _, line := range known(c.exporters) {
			kinds[strings.Fields(line)[0]]++
		}
		if kinds["template"] != 10 || kinds["rate"] != 3 || kinds["boot"] != 1 || kinds["selectors"] == 0 || kinds["name"] != 3 {
			t.Errorf("the example has %v", kinds)
		}
		f.close()
		if _, _, n, err := openTemplatesFile(t, path, now.Add(25*time.Hour)); err != nil || n != 10 {
			t.Errorf("%d templates read, error %v", n, err)
		}
		c3, _, _, _ := openTemplatesFile(t, path, now.Add(25*time.Hour))
		if n := c3.exporters.len(); n != 0 {
			t.Errorf("%d exporters silent for a day are trusted", n)
		}
		if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
			t.Errorf("files %v", files)
		}
	}
}

// TestSilentBeforeRestart: an exporter that has sent nothing since a restart has the time of its last
// datagram before it, so that an alert can tell how long it has been silent.
func TestSilentBeforeRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, f, _, err := openTemplatesFile(t, path, now)
	if err != nil {
		t.Fatal(err)
	}
	c.NewDecoder(&sink{f: func(*flow.Record) {}}).Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), testTime)
	if err := f.save(c.exporters, now, true); err != nil {
		t.Fatal(err)
	}
	f.close()
	c, _, _, err = openTemplatesFile(t, path, now.Add(3*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan prometheus.Metric, 1000)
	newMetrics(c).Collect(ch)
	close(ch)
	for m := range ch {
		var d dto.Metric
		if strings.Contains(m.Desc().String(), "exporter_last_seen_timestamp_seconds") && m.Write(&d) == nil {
			if got := d.GetGauge().GetValue(); got != float64(testTime/int64(1e9)) || d.GetLabel()[0].GetValue() != testSource.Addr().String() {
				t.Errorf("seen at %v: %v", got, d.GetLabel())
			}
			return
		}
	}
	t.Error("the exporter has no series")
}

// TestRestored decodes data by what was read back.
func TestRestored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, f, _, _ := openTemplatesFile(t, path, now)
	sources, datagrams := storeExamples()
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	for i, b := range datagrams {
		d.Datagram(sources[i], AnyFlow, b, testTime)
	}
	if err := f.save(c.exporters, now, true); err != nil {
		t.Fatal(err)
	}
	f.close()
	c, _, n, err := openTemplatesFile(t, path, now)
	if err != nil || n != 10 {
		t.Fatalf("%d templates, error %v", n, err)
	}
	var got []string
	d = c.NewDecoder(&sink{f: func(r *flow.Record) {
		got = append(got, fmt.Sprint(tuple(r), " ", r.Msg.SamplingRate, " ", string(r.Extra.InIfName), " ", string(r.Extra.ApplicationName)))
	}})
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(40000))), testTime)
	d.Datagram(sources[4], AnyFlow, ipfixMessage(0, 1, set(256, netip.MustParseAddr("fd00::1").AsSlice())), testTime)
	d.Datagram(sources[5], AnyFlow, ipfixMessage(0, 7, set(2, templateRecord(400, ie{27, 16, 0}, ie{10, 4, 0}, ie{95, 4, 0}, ie{301, 4, 0})),
		set(400, be(netip.MustParseAddr("fd00::2"), uint32(3), uint32(3<<24|80), uint32(9)))), testTime)
	want := []string{basicTuple + " 77  ", "fd00::1  0 0 0 0 0 77  ", "fd00::2  0 0 0 0 0 10000 eth3 http"}
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

// TestStoreInProportion changes one template of many exporters: what is written is about
// that. The file never takes much more than what is known.
func TestStoreInProportion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, f, _, _ := openTemplatesFile(t, path, now)
	f.sync = func(*os.File) error { return nil } // 20,000 times
	for i := range 500 {
		for id := range 88 {
			c.exporters.get(forged(i).Addr(), 1).learnTemplate(testTemplate(1, id, id, 30), 1, testTime/1e9)
		}
	}
	save := func() int64 {
		t.Helper()
		now = now.Add(10 * time.Second)
		before := f.size
		if err := f.save(c.exporters, now, false); err != nil {
			t.Fatal(err)
		}
		return f.size - before
	}
	first := save()
	if first > 88*500*20 {
		t.Errorf("%d bytes for %d templates", first, 88*500)
	}
	e := c.exporters.get(forged(7).Addr(), 1)
	most := first
	for i := range 20_000 {
		e.learnTemplate(testTemplate(1, 0, 1000+i, 2), 1, testTime/1e9)
		if n := save(); n > 300 {
			t.Fatalf("%d bytes are written", n)
		}
		most = max(most, f.size)
		if i == 5 {
			for id := range 87 { // refreshed
				e.learnTemplate(testTemplate(1, id+1, id+1, 30), 1, testTime/1e9+10)
			}
			if n := save(); n != 0 {
				t.Errorf("%d bytes are written as nothing has changed", n)
			}
		}
	}
	if most > 2*first+minGrowth+10_000 {
		t.Errorf("the file had %d bytes, %d when it was new", most, first)
	}
	if n := save(); n != 0 {
		t.Errorf("%d bytes are written without a change", n)
	}
	e.learnTemplate(testTemplate(1, 1, 1, 30), 1, testTime/1e9+600)
	if n := save(); n == 0 {
		t.Error("the time of refresh is not written")
	}
	f.rewrite = true
	save()
	f.close()
	c2, _, _, err := openTemplatesFile(t, path, time.Unix(0, testTime))
	if got := known(c2.exporters); err != nil || !slices.Equal(got, known(c.exporters)) {
		t.Errorf("another table is read back: %v", err)
	}
}

// TestStoreInterval writes a changed table every few seconds at most. By the clock of the bubble,
// writing takes no time, after which the next one would be put off.
func TestStoreInterval(t *testing.T) {
	synctest.Test(t, testStoreInterval)
}

func testStoreInterval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, f, _, _ := openTemplatesFile(t, path, now)
	wrote := func(now time.Time) bool {
		_ = os.Remove(path)
		if err := f.save(c.exporters, now, false); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(path)
		return err == nil
	}
	if wrote(now) {
		t.Error("written without a template")
	}
	e := c.exporters.get(testSource.Addr(), testTime/1e9)
	e.learnTemplate(testTemplate(1, 1, 1, 1), 1, testTime/1e9)
	if !wrote(now) {
		t.Error("the first template is not written at once")
	}
	e.setRate(optionKey{version: 9}, 5, testTime/1e9)
	if wrote(now.Add(time.Second)) {
		t.Error("written after a second")
	}
	if !wrote(now.Add(3 * time.Second)) {
		t.Error("not written after 3 s")
	}
	if wrote(now.Add(30 * time.Second)) {
		t.Error("written without a change")
	}
	e.session(1).lastSeen.Store(testTime/1e9 + 100)
	e.session(1).lastSeen.Store(testTime/1e9 + 600)
	if !wrote(now.Add(2 * time.Minute)) {
		t.Error("the time of the last datagram is not written")
	}
}

// TestTemplatesFile1 reads a file of the format before, and writes it in this one.
func TestTemplatesFile1(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "templates-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "templates")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, testTime)
	c, f, n, err := openTemplatesFile(t, path, now)
	if err != nil || n != 6 {
		t.Fatalf("%d templates restored, error %v", n, err)
	}
	if err := f.save(c.exporters, now, false); err != nil {
		t.Fatal(err)
	}
	f.close()
	want := known(c.exporters)
	c, _, _, err = openTemplatesFile(t, path, now)
	if got := known(c.exporters); err != nil || !slices.Equal(got, want) || len(want) < 8 {
		t.Errorf("error %v; restored:\n%s\nwant:\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), `{"format":"kube-enricher-templates/2"}`+"\n") {
		t.Errorf("the file begins with %.60q, error %v", b, err)
	}
}

// TestStoreBounds fills a table with more than a templates file holds. The file is
// bounded, has the exporters that give records, and can be read back.
func TestStoreBounds(t *testing.T) {
	if testing.Short() || race.Enabled {
		t.Skip("takes seconds")
	}
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, f, _, _ := openTemplatesFile(t, path, now)
	honest := c.exporters.get(testSource.Addr(), testTime/1e6)
	honest.learnTemplate(testTemplate(1, 1, 1, 2), 1, testTime/1e9)
	honest.markUsed()
	for i := range 45 {
		e := c.exporters.get(forged(i).Addr(), testTime/1e6)
		for id := range 200 {
			fields := make([]netflow.Field, maxTemplateFields)
			for n := range fields {
				fields[n] = netflow.Field{PenProvided: true, Type: 32767, Length: 60, Pen: 0xffffffff}
			}
			fields[0].Pen = uint32(i<<16 | id)
			e.learnTemplate(newTemplate(templateKey{1, 10, uint16(256 + id)}, nil, fields, false), 1, testTime/1e9)
		}
		now = now.Add(time.Minute)
		if err := f.save(c.exporters, now, false); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() > maxTemplatesFile {
			t.Fatalf("%d bytes, error %v", info.Size(), err)
		}
	}
	if c.exporters.bytes.Load() < 100<<20 {
		t.Errorf("the table takes only %d bytes", c.exporters.bytes.Load())
	}
	f.rewrite = true
	if err := f.save(c.exporters, now.Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if f.size > maxCompacted || f.size < maxCompacted/2 {
		t.Errorf("%d bytes when it is new", f.size)
	}
	f.close()
	c, _, n, err := openTemplatesFile(t, path, now)
	if err != nil || n < 1000 {
		t.Fatalf("%d templates, error %v", n, err)
	}
	if e := c.exporters.get(testSource.Addr(), 1); e.countTemplates() != 1 {
		t.Error("the exporter that gives records is missing")
	}
}
