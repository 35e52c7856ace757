package collector

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestStore writes the table and reads it back into another collector.
func TestStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, _ := newWith(t, Config{})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	other := netip.AddrPortFrom(testSource.Addr(), 9)
	for _, b := range [][]byte{
		ipfixMessage(0, 1, set(2, basicTemplate(256))),
		ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 0}, ie{160, 8, 0})), set(300, be(uint32(1), uint32(77), uint64(5)))),
		ipfixMessage(0, 1, set(2, templateRecord(257, ie{892, 0xffff, 6876}))),
		v9Message(0, 1, set(0, basicTemplate(256))),
	} {
		d.Datagram(testSource, AnyFlow, b, testTime)
	}
	d.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256, ie{27, 16, 0}))), testTime)
	s := &templatesFile{path: file}
	if err := s.save(c.exporters, now, false); err != nil {
		t.Fatal(err)
	}
	restored := func(file string, now time.Time) (*Collector, int, error) {
		c, _ := newWith(t, Config{})
		n, err := (&templatesFile{path: file}).load(c.exporters, now)
		return c, n, err
	}
	c2, n, err := restored(file, now.Add(23*time.Hour))
	if err != nil || n != 5 {
		t.Fatalf("%d templates restored, error %v", n, err)
	}
	var rate uint64
	var got []string
	d2 := c2.NewDecoder(&sink{f: func(r *flow.Record) { rate = r.Msg.SamplingRate; got = append(got, tuple(r)) }})
	d2.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(40000))), testTime)
	d2.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(256, netip.MustParseAddr("fd00::1").AsSlice())), testTime)
	if rate != 77 || !slices.Equal(got, []string{basicTuple, "fd00::1  0 0 0 0 0"}) {
		t.Errorf("rate %d, records %q", rate, got)
	}
	e := c2.exporters.get(testSource.Addr(), 0)
	if l := e.session(testSource.Port()).templates.get(templateKey{1, 10, 256}); l == nil || int64(l.refreshed) != testTime/1e9 {
		t.Errorf("the template's age is not kept: %+v", l)
	}
	if _, n, err := restored(file, now.Add(25*time.Hour)); err != nil || n != 0 {
		t.Errorf("%d templates a day old are trusted, error %v", n, err)
	}
	if _, n, err := restored(filepath.Join(t.TempDir(), "none"), now); err != nil || n != 0 {
		t.Errorf("missing file: %d templates, error %v", n, err)
	}

	// Damage of every kind is noticed, and the file set aside.
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": {}, "cut": whole[:len(whole)/2], "foreign": []byte("{\"exporters\":[]}\n"),
		"flipped":         slices.Concat(whole[:len(whole)-20], []byte{whole[len(whole)-20] ^ 1}, whole[len(whole)-19:]),
		"another version": []byte(strings.Replace(string(whole), templatesFormat, "kube-enricher-templates/9", 1)),
	} {
		bad := filepath.Join(t.TempDir(), "t")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, hook := newWith(t, Config{TemplatesFile: bad})
		if c.restoreTemplates() == nil || len(hook.AllEntries()) != 1 || c.exporters.len() != 0 {
			t.Errorf("%s: %d lines logged, %d exporters", name, len(hook.AllEntries()), c.exporters.len())
		}
		if got, err := os.ReadFile(bad + ".bad"); err != nil || !slices.Equal(got, content) {
			t.Errorf("%s: not set aside: %v", name, err)
		}
	}

	// Nothing is left behind by writing, and a directory that has gone is an error.
	if files, _ := os.ReadDir(filepath.Dir(file)); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	if err := (&templatesFile{path: filepath.Join(file, "x")}).save(c.exporters, now, true); err == nil {
		t.Error("no error")
	}
}

// TestStoreInterval writes a changed table every few seconds at most.
func TestStoreInterval(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates")
	c, _ := newWith(t, Config{})
	s := &templatesFile{path: file}
	now := time.Unix(0, testTime)
	wrote := func(now time.Time) bool {
		_ = os.Remove(file)
		if err := s.save(c.exporters, now, false); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(file)
		return err == nil
	}
	wrote(now)
	e := c.exporters.get(testSource.Addr(), testTime/1e9)
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
	if !wrote(now.Add(2 * time.Minute)) {
		t.Error("times of refresh are not written")
	}
}

// TestOldTemplatesFile reads a file that a version from before the budgets in bytes
// wrote, and writes the same again.
func TestOldTemplatesFile(t *testing.T) {
	old := filepath.Join("testdata", "templates-v1.json")
	c, _ := newWith(t, Config{})
	if n, err := (&templatesFile{path: old}).load(c.exporters, time.Unix(0, testTime)); err != nil || n != 6 {
		t.Fatalf("%d templates restored, error %v", n, err)
	}
	again := filepath.Join(t.TempDir(), "templates")
	if err := (&templatesFile{path: again}).save(c.exporters, time.Unix(0, testTime), true); err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var lines []string
		err = readTemplates(f, func(se *storedExporter) {
			slices.SortFunc(se.Templates, func(a, b storedTemplate) int {
				return strings.Compare(mustJSON(t, a), mustJSON(t, b))
			})
			lines = append(lines, mustJSON(t, se))
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	if got, want := read(again), read(old); got != want {
		t.Errorf("written:\n%s\nread:\n%s", got, want)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReplaceFile replaces a file as a whole or leaves it as it is.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	content := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	check := func(want string) {
		t.Helper()
		got, err := os.ReadFile(path)
		info, serr := os.Stat(path)
		files, _ := os.ReadDir(dir)
		if err != nil || serr != nil || string(got) != want || info.Mode().Perm() != 0o600 || len(files) != 1 {
			t.Errorf("%q, %v, %v, %d files", got, err, info, len(files))
		}
	}
	for _, s := range []string{"one", "two"} {
		if err := replaceFile(path, content(s)); err != nil {
			t.Fatal(err)
		}
		check(s)
	}
	full := errors.New("no space left on device")
	err := replaceFile(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, full)
	})
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	check("two")
}

// TestTemplatesFileIsBounded has an exporter whose templates share large shapes: the
// budget counts a shape once, but the file has it for each template.
func TestTemplatesFileIsBounded(t *testing.T) {
	c, _ := newWith(t, Config{})
	e := c.exporters.get(testSource.Addr(), testTime/1e6)
	const templates = 5000
	for id := range templates {
		e.learnTemplate(testTemplate(0, id, 0, 1000), 1, testTime/1e9)
	}
	if n := e.countTemplates(); n != templates {
		t.Fatalf("%d templates are known", n)
	}
	var file bytes.Buffer
	if err := c.exporters.write(&file); err != nil {
		t.Fatal(err)
	}
	if file.Len() > 10<<20 {
		t.Errorf("%d bytes are written", file.Len())
	}
	n := 0
	if err := readTemplates(&file, func(se *storedExporter) { n += len(se.Templates) }); err != nil || n != maxStoredFields/1000 {
		t.Errorf("%d templates are written, error %v", n, err)
	}
}

// TestWriteErrorsAreLimited logs a file that cannot be written once in ten seconds,
// and at the end.
func TestWriteErrorsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, hook := newWith(t, Config{TemplatesFile: filepath.Join(t.TempDir(), "none", "templates")})
		f := c.restoreTemplates()
		hook.Reset()
		done := make(chan struct{})
		go func() {
			for range 14 {
				c.exporters.changes.Add(1)
				time.Sleep(time.Second)
			}
			close(done)
		}()
		c.runMaintenance(f, done)
		if n := len(hook.AllEntries()); n != 3 {
			t.Errorf("%d lines, want 3", n)
		}
	})
}
