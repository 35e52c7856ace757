package collector

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStoreIsTorn cuts a file at each byte, as a kill does. What was whole is read, and
// what comes next is written behind it.
func TestStoreIsTorn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "templates")
	now := time.Unix(0, testTime)
	c, f, _, _ := openTemplatesFile(t, path, now)
	learn := func(c *Collector, id int) {
		c.exporters.get(testSource.Addr(), testTime/1e6).learnTemplate(testTemplate(1, id, id, 2), 1, testTime/1e9)
	}
	var whole []int // length and templates
	for id := range 4 {
		learn(c, id)
		now = now.Add(time.Minute)
		if err := f.save(c.exporters, now, false); err != nil {
			t.Fatal(err)
		}
		whole = append(whole, int(f.size))
	}
	f.close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if n < whole[0] && n < len(templatesFormat)+14 {
			continue // without its first line it is another file
		}
		torn := filepath.Join(dir, "torn")
		if err := os.WriteFile(torn, b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		c, f, templates, err := openTemplatesFile(t, torn, now)
		want := 0
		for want < len(whole) && whole[want] <= n {
			want++
		}
		if err != nil || templates != want {
			t.Fatalf("%d of %d bytes: %d templates, want %d, error %v", n, len(b), templates, want, err)
		}
		learn(c, 9)
		if err := f.save(c.exporters, now.Add(time.Minute), false); err != nil {
			t.Fatal(err)
		}
		f.close()
		if _, f, templates, err = openTemplatesFile(t, torn, now); err != nil || templates != want+1 {
			t.Fatalf("%d bytes: %d templates after the next start, want %d, error %v", n, templates, want+1, err)
		}
		f.close()
	}
}

// TestStoreIsDamaged damages a file in every way. It is set aside as it is.
func TestStoreIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	c, f, _, _ := openTemplatesFile(t, path, time.Now())
	for id := range 4 {
		c.exporters.get(testSource.Addr(), time.Now().UnixMilli()).learnTemplate(testTemplate(1, id, id, 2), 1, time.Now().Unix())
	}
	if err := f.save(c.exporters, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	f.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": {}, "foreign": []byte("{\"exporters\":[]}\n"), "not ours": []byte("not ours"), "the first line is torn": whole[:10],
		"flipped":         slices.Concat(whole[:len(whole)/2], []byte{whole[len(whole)/2] ^ 1}, whole[len(whole)/2+1:]),
		"another version": []byte(strings.Replace(string(whole), templatesFormat, "kube-enricher-templates/9", 1)),
	} {
		bad := filepath.Join(t.TempDir(), "t")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, hook := newWith(t, Config{})
		f := newTemplatesFile(bad)
		if err := c.restoreTemplates(f); err != nil || len(hook.AllEntries()) != 1 || c.exporters.len() != 0 {
			t.Errorf("%s: error %v, %d lines logged, %d exporters", name, err, len(hook.AllEntries()), c.exporters.len())
		}
		if got, err := os.ReadFile(bad + ".bad"); err != nil || !slices.Equal(got, content) {
			t.Errorf("%s: not set aside: %v", name, err)
		}
		c.exporters.get(testSource.Addr(), 1).learnTemplate(testTemplate(1, 1, 1, 2), 1, time.Now().Unix())
		if err := f.save(c.exporters, time.Now(), true); err != nil {
			t.Error(err)
		}
		f.close()
		if _, _, n, err := openTemplatesFile(t, bad, time.Now()); n != 1 || err != nil {
			t.Errorf("%s: %d templates are kept then, error %v", name, n, err)
		}
	}
}

// TestLeftovers removes what killed processes left behind, and nothing else.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".t.json123", "t.json.tmp-9876", "t.json.bad", ".t.json", ".t.json12a", "t.json.tmp-", "t.json.tmp-1x", "xt.json.tmp-1", ".txjson1", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".t.json77"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := openTemplatesFile(t, filepath.Join(dir, "t.json"), time.Now()); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), ".t.json .t.json12a .t.json77 .txjson1 other t.json.bad t.json.tmp- t.json.tmp-1x xt.json.tmp-1"; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
}

// TestTwoProcesses has two processes share a file. The second one reads it, and writes it
// once the first one has ended.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Now()
	first, f1, _, _ := openTemplatesFile(t, path, now)
	learn := func(c *Collector, id int) {
		c.exporters.get(testSource.Addr(), now.UnixMilli()).learnTemplate(testTemplate(1, id, id, 2), 1, now.Unix())
	}
	learn(first, 1)
	if err := f1.save(first.exporters, now, true); err != nil {
		t.Fatal(err)
	}
	second, f2, n, err := openTemplatesFile(t, path, now)
	if n != 1 || !errors.Is(err, errInUse) {
		t.Fatalf("%d templates, error %v", n, err)
	}
	learn(second, 2)
	if err := f2.save(second.exporters, now, true); !errors.Is(err, errInUse) {
		t.Errorf("it is written: %v", err)
	}
	learn(first, 3)
	if err := f1.save(first.exporters, now, true); err != nil {
		t.Error(err)
	}
	f1.rewrite = true // the lock goes on
	if err := f1.save(first.exporters, now.Add(time.Hour), true); err != nil {
		t.Error(err)
	}
	if err := f2.save(second.exporters, now.Add(time.Hour), true); !errors.Is(err, errInUse) {
		t.Errorf("it is written: %v", err)
	}
	f1.close()
	if err := f2.save(second.exporters, now.Add(2*time.Hour), true); err != nil {
		t.Error(err)
	}
	f2.close()
	c, _, _, err := openTemplatesFile(t, path, now)
	if got := known(c.exporters); err != nil || !slices.Equal(got, known(second.exporters)) {
		t.Errorf("%q, error %v", got, err)
	}
}

// TestWriteFails appends to a file and writes it anew while the volume fails. The file
// stays as it was, and has all once the volume works again.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, f, _, _ := openTemplatesFile(t, path, now)
	e := c.exporters.get(testSource.Addr(), 1)
	learn := func(id int) { e.learnTemplate(testTemplate(1, id, id, 2), 1, testTime/1e9) }
	learn(1)
	if err := f.save(c.exporters, now, true); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	full := errors.New("no space left on device")
	f.sync = func(*os.File) error { return full }
	learn(2)
	if err := f.save(c.exporters, now, true); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(after, before) {
		t.Errorf("the file has %d bytes, %d before, error %v", len(after), len(before), err)
	}
	f.sync = (*os.File).Sync
	learn(3)
	if err := f.save(c.exporters, now, true); err != nil {
		t.Error(err)
	}
	f.close()
	if _, _, n, err := openTemplatesFile(t, path, now); n != 3 || err != nil {
		t.Errorf("%d templates, error %v", n, err)
	}
}

// TestWriteErrorsAreLimited logs a file that cannot be written once in ten seconds,
// and at the end.
func TestWriteErrorsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, hook := newWith(t, Config{TemplatesFile: filepath.Join(t.TempDir(), "none", "templates")})
		done := make(chan struct{})
		finished := c.keepTemplates(t.Context(), done)
		hook.Reset()
		c.exporters.get(testSource.Addr(), 1).learnTemplate(testTemplate(1, 1, 1, 2), 1, time.Now().Unix())
		time.Sleep(14 * time.Second)
		close(done)
		<-finished
		if n := len(hook.AllEntries()); n != 3 {
			t.Errorf("%d lines, want 3", n)
		}
	})
}

// TestStopWhileVolumeHangs stops while nothing can be read or written. A named pipe
// without another end is no templates file, and is not waited for.
func TestStopWhileVolumeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, hook := newWith(t, Config{TemplatesFile: filepath.Join(t.TempDir(), "templates")})
		hangs := make(chan struct{})
		defer close(hangs)
		start := time.Now()
		c.awaitTemplates(hangs)
		if waited := time.Since(start); waited > saveTimeout || len(hook.AllEntries()) != 1 {
			t.Errorf("stopped after %v, %d lines", waited, len(hook.AllEntries()))
		}
	})
}

// TestRestoreIsAbandoned ends a restore, as a stop does.
func TestRestoreIsAbandoned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "templates")
	c, f, _, _ := openTemplatesFile(t, path, time.Now())
	c.exporters.get(testSource.Addr(), time.Now().UnixMilli()).learnTemplate(testTemplate(1, 1, 1, 2), 1, time.Now().Unix())
	if err := f.save(c.exporters, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	f.close()
	before, _ := os.ReadFile(path)
	c, _ = newWith(t, Config{TemplatesFile: path})
	f = newTemplatesFile(path)
	f.abandoned.Store(true)
	if err := c.restoreTemplates(f); !errors.Is(err, errAbandoned) || c.exporters.len() != 0 {
		t.Errorf("error %v, %d exporters", err, c.exporters.len())
	}
	f.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	select {
	case <-c.keepTemplates(ctx, make(chan struct{})):
	case <-c.keepTemplates(t.Context(), ctx.Done()):
	}
	if after, _ := os.ReadFile(path); !slices.Equal(before, after) {
		t.Error("the file is written all the same")
	}
}
