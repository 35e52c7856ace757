package policy

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

// What the numbers of testdata/nb-samples.json and nb-drops.json stand for, by the README of
// testdata/captures-ovn.
const (
	decidedSample = "dropped|NetworkPolicy|shop||Ingress||"
	sampleApp     = 43
	samplePoint   = 4351
	dropPoint     = 605235327
)

// TestTwoFiles has a file for each flag, each with tables of both databases. What one file has
// stays when the other is read, whichever is read last, and again.
func TestTwoFiles(t *testing.T) {
	const samples, drops = "testdata/nb-samples.json", "testdata/nb-drops.json"
	for _, cfg := range []Config{
		{Northbound: samples, Southbound: drops}, {Northbound: drops, Southbound: samples},
		{Northbound: split(t, tableACL), Southbound: split(t, tableSample, tableApp, tableFlow)},
		{Northbound: split(t, tableSample, tableApp, tableFlow), Southbound: split(t, tableACL)},
		{Northbound: split(t, tableACL, tableFlow), Southbound: split(t, tableACL, tableSample, tableApp)},
	} {
		p := newPolicies(t, cfg)
		for range 2 {
			if err := p.Load(); err != nil {
				t.Fatal(err)
			}
			if got := ask(p, sampled(sampleApp, samplePoint, time.Now())); got != decidedSample {
				t.Errorf("%+v: the sample: %s, not %s", cfg, got, decidedSample)
			}
			if got := ask(p, sampled(1, dropPoint, time.Now())); got != decidedSample {
				t.Errorf("%+v: the drop: %s, not %s", cfg, got, decidedSample)
			}
		}
	}
}

// split returns a file with those tables of the two test files that are named.
func split(t *testing.T, tables ...string) string {
	t.Helper()
	var text strings.Builder
	for _, name := range []string{"testdata/nb-samples.json", "testdata/nb-drops.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			kind := tableGlobal
			switch {
			case strings.Contains(line, `"direction"`):
				kind = tableACL
			case strings.Contains(line, `"metadata"`):
				kind = tableSample
			case strings.Contains(line, `"type"`):
				kind = tableApp
			case strings.Contains(line, `"pipeline"`):
				kind = tableFlow
			}
			for _, table := range tables {
				if table == kind {
					text.WriteString(line)
				}
			}
		}
	}
	file := filepath.Join(t.TempDir(), strings.Join(tables, "-"))
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// feed is a source whose rows the test hands over as a server would.
type feed struct {
	t    *testing.T
	view *view
}

func newFeeds(t *testing.T, p *Policies) (north, south feed) {
	t.Helper()
	sources := p.sources()
	return feed{t, newView(p, sources[0])}, feed{t, newView(p, sources[1])}
}

func (f feed) put(table string, n int, op ovsdb.Op, columns map[string]any) {
	f.t.Helper()
	if err := f.view.Change(table, id(n), op, row(f.t, columns)); err != nil {
		f.t.Fatal(err)
	}
}

// hint is a logical flow of an ACL.
func hint(acl int) map[string]any {
	u := id(acl)
	return map[string]any{"external_ids": asMap(map[string]string{"stage-hint": hex.EncodeToString(u[:4])})}
}

var twoServers = Config{Northbound: "tcp:127.0.0.1:1", Southbound: "tcp:127.0.0.1:2"}

// TestViewsMeet has views of both databases at the same time, as after a start, and one that
// breaks off: rows of one are not taken for gone in the other, nor shown before their time.
func TestViewsMeet(t *testing.T) {
	const a, b = "dropped|NetworkPolicy|shop|a|Ingress|0|", "dropped|NetworkPolicy|shop|b|Ingress|0|"
	p := newPolicies(t, twoServers)
	north, south := newFeeds(t, p)
	now := time.Now()
	check := func(when string, app uint8, point uint32, want string) {
		t.Helper()
		if got := ask(p, sampled(app, point, now)); got != want {
			t.Errorf("%s: application %d, number %d: %s, not %s", when, app, point, got, want)
		}
	}
	both := func(when string) {
		t.Helper()
		check(when, 2, 500, a)
		check(when, 1, id(7).Prefix(), a)
	}
	for _, when := range []string{"at first", "again"} {
		north.view.Begin()
		north.put(tableACL, 1, ovsdb.Insert, policyACL("a", "drop", 11, 0))
		south.view.Begin()
		south.put(tableFlow, 7, ovsdb.Insert, hint(1))
		south.view.End()
		north.put(tableSample, 11, ovsdb.Insert, map[string]any{"metadata": 500})
		north.view.End()
		both(when)
	}
	// A view that breaks off says nothing yet, whatever the other database says meanwhile.
	north.view.Begin()
	north.put(tableACL, 1, ovsdb.Insert, policyACL("b", "drop", 11, 0))
	south.put(tableFlow, 8, ovsdb.Insert, hint(1))
	south.view.End()
	both("broken off")
	// A row of one that goes leaves the other's, even if it has the same UUID.
	south.put(tableACL, 1, ovsdb.Insert, policyACL("b", "drop", 11, 0))
	south.put(tableACL, 1, ovsdb.Delete, nil)
	south.put(tableFlow, 7, ovsdb.Delete, nil)
	south.view.End()
	check("deleted", 2, 500, a)
	// Once the view is whole it is what counts.
	north.view.Begin()
	north.put(tableACL, 1, ovsdb.Insert, policyACL("b", "drop", 11, 0))
	north.put(tableSample, 11, ovsdb.Insert, map[string]any{"metadata": 500})
	north.view.End()
	now = time.Now().Add(time.Minute)
	check("whole", 2, 500, b)
	check("whole", 1, id(8).Prefix(), b)
}

// TestLost has a connection that is lost for a minute after an hour without a change. Doubt is
// only about what differs after it, and only for that minute.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicies(t, twoServers)
		north, south := newFeeds(t, p)
		start := time.Now()
		list := func(stays, goes int, name string) {
			north.view.Begin()
			for i, n := range []int{21, 22} {
				north.put(tableSample, n, ovsdb.Insert, map[string]any{"metadata": 500 + i})
			}
			north.put(tableACL, stays, ovsdb.Insert, policyACL("stays", "drop", 21, 0))
			north.put(tableACL, goes, ovsdb.Insert, policyACL(name, "drop", 22, 0))
			north.view.End()
		}
		list(1, 2, "a")
		south.view.Begin()
		south.view.End()
		time.Sleep(time.Hour)
		north.view.Lost(time.Now())
		time.Sleep(30 * time.Second)
		south.view.End() // the other database's changes do not say that this one is right
		time.Sleep(30 * time.Second)
		list(3, 4, "b") // of a server that was made anew: its rows have other UUIDs
		time.Sleep(time.Hour)

		const stays = "dropped|NetworkPolicy|shop|stays|Ingress|0|"
		const a, b = "dropped|NetworkPolicy|shop|a|Ingress|0|", "dropped|NetworkPolicy|shop|b|Ingress|0|"
		const doubt = "dropped||||||Several policies found for same number: " +
			"NetworkPolicy shop/a (Ingress 0, dropped),NetworkPolicy shop/b (Ingress 0, dropped)"
		for _, c := range []struct {
			at   time.Duration
			want string
		}{
			{30 * time.Minute, a}, {59 * time.Minute, a}, {time.Hour + 30*time.Second, doubt},
			{time.Hour + 2*time.Minute, b}, {90 * time.Minute, b},
		} {
			if got := ask(p, sampled(2, 501, start.Add(c.at))); got != c.want {
				t.Errorf("%v: %s, not %s", c.at, got, c.want)
			}
			if got := ask(p, sampled(2, 500, start.Add(c.at))); got != stays {
				t.Errorf("%v: what stayed: %s", c.at, got)
			}
		}
	})
}

// TestOldestStays has a server that is made anew ten times: what a number meant before all of
// them is not pushed out.
func TestOldestStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicies(t, twoServers)
		north, _ := newFeeds(t, p)
		start := time.Now()
		list := func(n int, name string) {
			north.view.Begin()
			north.put(tableSample, 21, ovsdb.Insert, map[string]any{"metadata": 500})
			north.put(tableACL, n, ovsdb.Insert, policyACL(name, "drop", 21, 0))
			north.view.End()
			time.Sleep(time.Hour)
			north.view.Lost(time.Now())
			time.Sleep(time.Minute)
		}
		list(1, "a")
		for n := range 10 {
			list(2+n, "b")
		}
		if got, want := ask(p, sampled(2, 500, start.Add(time.Minute))), "dropped|NetworkPolicy|shop|a|Ingress|0|"; got != want {
			t.Errorf("%s, not %s", got, want)
		}
	})
}
