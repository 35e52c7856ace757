package page

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// cases are captures that the page is looked at with.
var cases = []struct{ name, capture, snapshot, namespace string }{
	{"demo", demoCapture, demoSnapshot, "shop"},
	{"ovn", ovnCapture, ovnSnapshot, "shop"},
}

// shown is a pair as the page has it.
type shown struct {
	Src, Dst string
	Bytes    uint64
}

const (
	still     = `while (document.querySelector("[aria-busy]")) await new Promise(done => requestAnimationFrame(done));`
	readTable = `(async () => {
		for (const more = document.getElementById("pairs-more"); !more.hidden;) more.click();
		` + still + `
		return [...document.querySelectorAll("#pairs-table tbody tr")].map(r => ({ Src: r.dataset.src, Dst: r.dataset.dst, Bytes: Number(r.dataset.bytes) }));
	})()`
	readMap = `(async () => {
		for (let more; (more = document.querySelector("#cards [data-action=more]"));) more.click();
		` + still + `
		return [...document.querySelectorAll("#links path")].map(p => ({ Src: p.dataset.from, Dst: p.dataset.to, Bytes: Number(p.dataset.bytes) }));
	})()`
)

// pairs reads pairs off the page, by a script.
func (v *view) pairs(script string) map[pair]uint64 {
	v.t.Helper()
	m := make(map[pair]uint64)
	for _, s := range eval[[]shown](v, script) {
		m[pair{s.Src, s.Dst}] += s.Bytes
	}
	return m
}

func compare(t *testing.T, what string, got, want map[pair]uint64) {
	t.Helper()
	if len(want) < 2 {
		t.Fatalf("%s: the records have only %d pairs", what, len(want))
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: the page has %d pairs, the records %d:\n%v\nwant\n%v", what, len(got), len(want), got, want)
	}
}

// TestSums compares what map and table show with the records that were written.
func TestSums(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p := read(t, tc.snapshot, tc.capture)
			list := p.records(t)
			all := sums(list, func(*record) bool { return true })
			some := sums(list, func(r *record) bool { return r.SrcNamespace == tc.namespace && r.Bytes > 1000 })
			for _, width := range []int{wide, narrow} {
				v := open(t, p.base, "#open=all", width)
				compare(t, fmt.Sprintf("table, %d wide", width), v.pairs(readTable), all)
				compare(t, fmt.Sprintf("map, %d wide", width), v.pairs(readMap), all)
				v.looksRight(width)

				v.navigate("#open=all&filter=" + url.QueryEscape(fmt.Sprintf("SrcNamespace == %q && Bytes > 1000", tc.namespace)))
				v.wait("fewer pairs", fmt.Sprintf(`document.querySelectorAll("#pairs-table tbody tr").length === %d`, len(some)))
				compare(t, fmt.Sprintf("table with a filter, %d wide", width), v.pairs(readTable), some)
				compare(t, fmt.Sprintf("map with a filter, %d wide", width), v.pairs(readMap), some)
			}
		})
	}
}

// looksRight checks that nothing is wider than the window, that no cards overlap, and that where
// there is room the panel covers none.
func (v *view) looksRight(width int) {
	v.t.Helper()
	if got := eval[int](v, `document.documentElement.scrollWidth`); got > width {
		v.t.Errorf("the page is %d wide in a window of %d", got, width)
	}
	overlaps := eval[[]string](v, `(() => {
		const boxes = [...document.querySelectorAll(".box")].map(b => [b.getAttribute("aria-label"), b.getBoundingClientRect()]);
		const bad = [];
		boxes.forEach(([a, x], i) => boxes.slice(i + 1).forEach(([b, y]) => {
			if (x.left < y.right && y.left < x.right && x.top < y.bottom && y.top < x.bottom) bad.push(a + " and " + b);
		}));
		return bad;
	})()`)
	if len(overlaps) > 0 {
		v.t.Errorf("%d wide, cards overlap: %s", width, overlaps)
	}
	covered := eval[[]string](v, `(() => {
		const panel = document.getElementById("panel");
		if (panel.hidden) return [];
		const left = panel.getBoundingClientRect().left;
		return [...document.querySelectorAll(".box, .card")].filter(e => e.getBoundingClientRect().right > left).map(e => e.getAttribute("aria-label") || e.id);
	})()`)
	if width >= wide && len(covered) > 0 {
		v.t.Errorf("%d wide, the panel covers %s", width, covered)
	}
}

// TestFilterBox types a filter with completions, by keyboard alone, and then a wrong one.
func TestFilterBox(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "", wide)
	v.do(chromedp.KeyEvent("/"))
	v.wait("focus in the box", `document.activeElement.id === "filter"`)
	eval[any](v, `document.getElementById("filter").value = ""`) // the protocol types the key, too
	v.do(chromedp.KeyEvent("SrcNamesp"))
	v.wait("completion of a field", `document.querySelector("#completions li span")?.textContent === "SrcNamespace"`)
	v.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter))
	v.do(chromedp.KeyEvent(`== "kube-s`))
	v.wait("completion of a namespace", `document.querySelector("#completions li span")?.textContent === "kube-system"`)
	v.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Enter))
	if got, want := eval[string](v, `document.getElementById("filter").value`), `SrcNamespace == "kube-system"`; got != want {
		t.Fatalf("the box has %s, want %s", got, want)
	}
	want := sums(p.records(t), func(r *record) bool { return r.SrcNamespace == "kube-system" })
	v.wait("fewer pairs", fmt.Sprintf(`document.querySelectorAll("#pairs-table tbody tr").length === %d`, len(want)))
	compare(t, "typed filter", v.pairs(readTable), want)

	v.do(chromedp.KeyEvent(" && SrcNamspace"), chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent(kb.Enter))
	v.wait("error", `!document.getElementById("filter-error").hidden`)
	if got := v.text("#filter-error mark"); got != "SrcNamspace" {
		t.Errorf("the error marks %q: %s", got, v.text("#filter-error"))
	}
	if got := v.text("#filter-error"); !strings.Contains(got, "did you mean SrcNamespace") {
		t.Errorf("the error says %q", got)
	}
	compare(t, "after an error", v.pairs(readTable), want)
	v.accessible("a wrong filter")
	v.click("#filter-clear")
	v.wait("all pairs", fmt.Sprintf(`document.querySelectorAll("#pairs-table tbody tr").length > %d && document.getElementById("filter-error").hidden`, len(want)))
}

// TestLink checks that a link holds the view: filter, window, what is open and selected.
func TestLink(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "#open=none", wide)
	v.click(`[data-action=toggle][data-id="ns:shop"]`)
	v.wait("workloads of the group", `document.querySelector('[data-id="Deployment/shop/frontend"]') !== null`)
	v.click(`[data-action=select][data-id="Deployment/shop/frontend"]`)
	v.wait("panel", `!document.getElementById("panel").hidden`)
	eval[any](v, `[...document.querySelectorAll("#panel button")].find(b => b.textContent === "Only this").click()`)
	v.wait("filter", `location.hash.includes("filter=")`)
	want := sums(p.records(t), func(r *record) bool {
		return r.SrcNamespace == "shop" && r.SrcWorkload == "frontend" || r.DstNamespace == "shop" && r.DstWorkload == "frontend"
	})
	counted := fmt.Sprintf(`document.querySelectorAll("#pairs-table tbody tr").length === %d`, len(want))
	v.wait("pairs of one workload", counted)
	compare(t, "only one workload", v.pairs(readTable), want)

	// Without a window that has the focus, the browser's own clipboard is closed.
	eval[any](v, `Object.defineProperty(navigator, "clipboard", { value: { writeText: async text => { window.copied = text; } } })`)
	v.click("#link")
	v.wait("word that it is copied", `document.getElementById("link").textContent === "Copied"`)
	fragment, found := strings.CutPrefix(eval[string](v, `copied`), p.base+"/")
	if !found || fragment == "" {
		t.Fatalf("the link is %s%s", p.base, fragment)
	}

	other := open(t, p.base, fragment, narrow)
	other.wait("the same pairs", counted)
	compare(t, "the link", other.pairs(readTable), want)
	for _, script := range []string{`document.getElementById("filter").value`, `document.querySelector("#panel-title").innerText`, `location.hash`,
		`[...document.querySelectorAll(".toggle[aria-expanded=true]")].map(b => b.dataset.id).join()`} {
		if got, want := eval[string](other, script), eval[string](v, script); got != want || got == "" {
			t.Errorf("%s is %q behind the link, want %q", script, got, want)
		}
	}
	// What was done last is undone by the browser's own button.
	eval[any](v, `history.back()`)
	v.wait("all pairs", fmt.Sprintf(`document.querySelectorAll("#pairs-table tbody tr").length > %d`, len(want)))
}

// TestWhy opens why an end has its name: of a workload on the map, and of a record.
func TestWhy(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	pods := make(map[string]string)
	for _, r := range p.records(t) {
		pods[r.SrcAddr], pods[r.DstAddr] = r.SrcPod, r.DstPod
	}
	for _, width := range []int{wide, narrow} {
		v := open(t, p.base, "#open=all", width)
		v.click(`[data-action=select][data-id="Deployment/shop/frontend"]`)
		eval[any](v, `[...document.querySelectorAll("#panel button")].find(b => b.textContent === "Why this name?").click()`)
		v.wait("reason", `document.querySelector("#panel .because") !== null`)
		address := v.text("#panel code")
		pod := pods[address]
		if text := v.text("#panel"); !strings.HasPrefix(pod, "frontend-") || !strings.Contains(text, "shop/"+pod) || !strings.Contains(text, "Rule “overlap”") {
			t.Errorf("%d wide: %s, pod %q: the panel says %s", width, address, pod, text)
		}
		v.accessible("why")
		v.do(chromedp.KeyEvent(kb.Escape))
		if !eval[bool](v, `document.getElementById("panel").hidden`) {
			t.Error("the escape key does not close the panel")
		}

		v.wait("records", `document.querySelector("#live-table tbody button") !== null`)
		address = eval[string](v, `document.querySelector("#live-table tbody button").dataset.address`)
		v.click("#live-table tbody button")
		v.wait("reason", `document.querySelector("#panel .because") !== null`)
		if got := v.text("#panel code"); got != address {
			t.Errorf("%d wide: the panel explains %s, %s was pressed", width, got, address)
		}
	}
}

// TestWhyPlace opens why an end outside of the cluster has its label.
func TestWhyPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "networks.yaml")
	if err := os.WriteFile(file, []byte("0.0.0.0/0: internet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := read(t, demoSnapshot, demoCapture, "-networks", file)
	v := open(t, p.base, "#open=all", wide)
	v.click(`[data-action=select][data-id="none//internet"]`)
	eval[any](v, `[...document.querySelectorAll("#panel button")].find(b => b.textContent === "Why this name?").click()`)
	v.wait("reason", `document.querySelector("#panel .because") !== null`)
	if text := v.text("#panel"); !strings.Contains(text, "-networks: internet, the label of 0.0.0.0/0.") {
		t.Errorf("the panel says %s", text)
	}
}

// goesOn sends the demo's capture to the program over and over again, until the test ends.
func (p *program) goesOn(t *testing.T) {
	t.Helper()
	replay, err := harness.Build(root, t.TempDir(), "./examples/demo/replay")
	if err != nil {
		t.Fatal(err)
	}
	child, err := proc.Start(exec.Command(replay, "-gap", "20ms", demoCapture, p.listen))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.Stop(syscall.SIGTERM, soon); err != nil {
			t.Error(err)
		}
	})
}

// TestFirstRecords has a page that would not ask again by itself: it does once records come in.
func TestFirstRecords(t *testing.T) {
	p := collect(t, demoSnapshot)
	v := blank(t, p.base, narrow, "dark")
	v.before(`(() => {
		const set = window.setTimeout;
		window.setTimeout = (f, milliseconds, ...more) => milliseconds >= 5000 ? 0 : set(f, milliseconds, ...more);
	})()`)
	v.navigate("")
	v.wait("word on what to do", `/Point exporters at/.test(document.getElementById("empty").innerText)`)
	v.wait("a list that waits", `document.getElementById("live-state").textContent === "waiting for records"`)
	p.goesOn(t)
	v.wait("pairs", `document.getElementById("empty").hidden && document.querySelectorAll("#pairs-table tbody tr").length > 0`)
	v.wait("cards", `document.querySelectorAll("#cards .box").length > 0`)
}

// TestPause holds the live list of a collector that goes on receiving.
func TestPause(t *testing.T) {
	p := collect(t, demoSnapshot)
	v := blank(t, p.base, wide, "light")
	v.navigate("")
	_, port, _ := net.SplitHostPort(p.listen)
	v.wait("word on what to do", fmt.Sprintf(`/Point exporters at .*\bport %s\b/.test(document.getElementById("empty").innerText)`, port))
	v.accessible("no datagram yet")
	v.picture("view-empty.png", 360, wide)

	p.goesOn(t)
	v.wait("live records", `document.getElementById("live-state").textContent.startsWith("live") && document.querySelectorAll("#live-table tbody tr").length > 20`)
	v.accessible("live")
	rows := `[...document.querySelectorAll("#live-table tbody tr")].map(r => r.innerText).join("\n")`
	v.do(chromedp.KeyEvent("p"))
	v.wait("pause", `document.getElementById("pause").getAttribute("aria-pressed") === "true"`)
	held, before := eval[string](v, rows), p.received(t)
	harness.Eventually(t, soon, "more records", func() (bool, any) {
		now := p.received(t)
		return now > before+200, now
	})
	if got := eval[string](v, rows); got != held {
		t.Error("the list changes while it is paused")
	}
	v.click("#pause")
	v.wait("other records", fmt.Sprintf(`%s !== %q`, rows, held))
}

// TestPauseUnderWay presses Pause while the answer to a question for pairs is on its way, with
// other sums than those that are shown: the table stays as it is.
func TestPauseUnderWay(t *testing.T) {
	p := collect(t, demoSnapshot)
	p.goesOn(t)
	v := open(t, p.base, "", wide)
	const table = `document.querySelector("#pairs-table tbody").innerText`
	// From now on answers with pairs are kept back, but for those that have what is shown.
	eval[any](v, `(() => {
		const ask = window.fetch;
		window.read = [];
		window.fetch = async (address, settings) => {
			const asked = ask(address, settings);
			read.push(asked.then(answer => answer.clone().text()).catch(() => "aborted"));
			const answer = await asked;
			const url = new URL(address);
			if (!url.pathname.endsWith("/pairs") || url.searchParams.has("filter")) return answer; // with one, it asks for doubt
			const { pairs } = await answer.clone().json();
			const shown = [...document.querySelectorAll("#pairs-table tbody tr")].reduce((n, tr) => n + Number(tr.dataset.bytes), 0);
			if (pairs.reduce((n, p) => n + p.bytes, 0) === shown) return answer;
			window.underWay = true;
			await new Promise(done => (window.arrive = done));
			return answer;
		};
	})()`)
	v.wait("an answer under way", `window.underWay === true`)
	held := eval[string](v, table)
	v.click("#pause")
	got := eval[string](v, `(async () => {
		arrive();
		await Promise.all(read); // by the page, too, some steps later
		for (let frames = 0; frames < 10 || document.querySelector("[aria-busy]"); frames++) await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
		return `+table+`;
	})()`)
	if got != held {
		t.Errorf("after Pause the table goes from\n%s\nto\n%s", held, got)
	}
}

// TestHostileNames shows names that are markup. Those of pods cannot be in a cluster, but
// addresses are not all that a page shows: nothing may be more than text.
func TestHostileNames(t *testing.T) {
	const name = `<img src=x onerror="document.title='x'">`
	p := read(t, hostileSnapshot(t, name), demoCapture)
	for _, width := range []int{wide, narrow} {
		v := open(t, p.base, "#open=all", width)
		v.click(fmt.Sprintf(`[data-action=select][data-id=%q]`, "Pod/"+name+"/"+name))
		v.wait("panel", `!document.getElementById("panel").hidden`)
		v.wait("records", `document.querySelector("#live-table tbody button") !== null`)
		if got := v.text("#panel-title"); got != name+"/"+name {
			t.Errorf("the panel's title is %q", got)
		}
		v.do(chromedp.KeyEvent("/"), chromedp.KeyEvent("img"))
		v.wait("completion", `document.querySelector("#completions li") !== null`)
		if got := eval[int](v, `document.querySelectorAll("main img, aside img, #completions img").length`); got != 0 {
			t.Errorf("%d images have come from names", got)
		}
		if got := eval[string](v, `document.title`); !strings.Contains(got, "kube-enricher") {
			t.Errorf("the title is %q", got)
		}
	}
}

// TestVerdicts looks at what policies dropped, in a capture of OVN that samples its decisions.
func TestVerdicts(t *testing.T) {
	p := read(t, ovnSnapshot, root+"/testdata/captures-ovn/ovn-sample.pcap.gz", "-ovn.nb", root+"/internal/policy/testdata/nb-samples.json")
	want := make(map[string]string)
	for _, r := range p.records(t) {
		key := r.pair().src + " " + r.pair().dst
		switch {
		case r.Verdict == "" || want[key] == r.Verdict:
		case want[key] == "":
			want[key] = r.Verdict
		default:
			want[key] = "mixed"
		}
	}
	if len(want) < 5 {
		t.Fatalf("the records have verdicts of %d pairs", len(want))
	}
	counted := sums(p.records(t), func(*record) bool { return true })
	for _, width := range []int{wide, narrow} {
		v := open(t, p.base, "#open=all&filter="+url.QueryEscape(`Verdict != ""`), width)
		got := eval[map[string]string](v, `Object.fromEntries([...document.querySelectorAll("#pairs-table tbody tr")].map(r => [r.dataset.src + " " + r.dataset.dst, r.querySelector(".verdict").textContent]))`)
		if !maps.Equal(got, want) {
			t.Errorf("%d wide: the table has the verdicts %v, the records %v", width, got, want)
		}
		for key, size := range eval[map[string]string](v, `Object.fromEntries([...document.querySelectorAll("#pairs-table tbody tr")].map(r => [r.dataset.src + " " + r.dataset.dst, r.cells[2].textContent]))`) {
			src, dst, _ := strings.Cut(key, " ")
			if _, counts := counted[pair{src, dst}]; counts == (size == "–") {
				t.Errorf("%d wide: the size of %s is %s; a record of it counts: %t", width, key, size, counts)
			}
		}
		v.wait("links", `document.querySelector("#links path") && !document.querySelector("[aria-busy]")`)
		links := eval[map[string]string](v, `Object.fromEntries([...document.querySelectorAll("#links path")].map(p => [p.dataset.from + " " + p.dataset.to, p.getAttribute("class")]))`)
		for key, verdict := range want {
			if class := map[string]string{"allowed": "link", "dropped": "link dropped", "mixed": "link partly dropped"}[verdict]; links[key] != class {
				t.Errorf("%d wide: the link of %s is a %q, want %q", width, key, links[key], class)
			}
		}
		v.wait("policy in the list", `document.getElementById("live-table").innerText.includes("dropped NetworkPolicy shop Ingress")`)
		v.click("#cards .row")
		if got := v.text("#panel"); !strings.Contains(got, "–") || strings.Contains(got, "0 B") {
			t.Errorf("%d wide: nothing counts, and the panel says %q", width, got)
		}
		v.accessible("verdicts")
	}
}

// TestKeys walks over the map by the arrow keys.
func TestKeys(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "#open=all", narrow)
	focus := `document.activeElement.innerText + document.activeElement.getAttribute("aria-label")`
	eval[any](v, `document.querySelector("#cards button").focus()`)
	first := eval[string](v, focus)
	v.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown))
	third := eval[string](v, focus)
	v.do(chromedp.KeyEvent(kb.ArrowUp), chromedp.KeyEvent(kb.ArrowUp))
	if again := eval[string](v, focus); again != first || third == first {
		t.Errorf("the focus goes from %q to %q and back to %q", first, third, again)
	}
	v.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter))
	v.wait("panel", `!document.getElementById("panel").hidden && document.getElementById("panel").contains(document.activeElement)`)
	v.do(chromedp.KeyEvent(kb.Escape))
	if !eval[bool](v, `document.activeElement.closest("#cards") !== null`) {
		t.Error("after the panel is closed, the focus is not where it was")
	}
}

// TestFocus draws the map anew while a row at its end has the focus, twice at once: the row has it
// again, but not if it has been moved meanwhile.
func TestFocus(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "#open=all", wide)
	for _, c := range []struct{ what, meanwhile, want string }{
		{"the focus is nowhere", ``, `document.activeElement.dataset.id === id`},
		{"it is moved", `document.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }))`, `document.activeElement.id === "filter"`},
	} {
		ok := eval[bool](v, `(async () => {
			`+still+`
			const row = [...document.querySelectorAll("#cards .row")].at(-1), id = row.dataset.id;
			row.focus();
			for (let i = 0; i < 2; i++) document.querySelector("#cards .toggle").click();
			`+c.meanwhile+`;
			`+still+`
			return `+c.want+`;
		})()`)
		if !ok {
			t.Errorf("%s while the map is drawn, and then at %s", c.what, eval[string](v, `document.activeElement.outerHTML.slice(0, 200)`))
		}
	}
}

// TestHidden: a map that is hidden while its cards are still being drawn stops that, since what is
// to be drawn may be gone. Where drawing fails, nothing stays busy.
func TestHidden(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "#open=none", wide)
	busy := eval[bool](v, `(async () => {
		`+still+`
		const map = await import("/js/map.js");
		document.getElementById("open-all").click();
		document.body.classList.add("none");
		map.update([], null);
		for (let frames = 0; frames < 20; frames++) await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
		return document.getElementById("canvas").hasAttribute("aria-busy");
	})()`)
	if busy {
		t.Error("the map is hidden, and still being drawn")
	}
	busy = eval[bool](v, `(async () => {
		const { inFrames, finish } = await import("/js/dom.js");
		const box = document.createElement("div");
		inFrames(box, [1, 2], 1, () => { throw new Error("cannot be drawn"); });
		try {
			finish(box);
		} catch {}
		return box.hasAttribute("aria-busy");
	})()`)
	if busy {
		t.Error("drawing has failed, and is said to go on")
	}
}

// TestWrongWindow shows what is wrong with a link that somebody has edited.
func TestWrongWindow(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := blank(t, p.base, narrow, "light")
	v.navigate("#since=yesterday")
	v.wait("error", `document.getElementById("banner").innerText.includes("since")`)
	v.accessible("a wrong window")
	if got := eval[int](v, `[...document.querySelectorAll("main > *")].filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 0).length`); got != 0 {
		t.Errorf("%d parts of the page are shown, with nothing in them", got)
	}
	v.click("#banner button")
	v.wait("pairs", `document.getElementById("banner").hidden && document.querySelectorAll("#pairs-table tbody tr").length > 0`)
}

// TestSpan marks a span of time by keyboard, which then is the window.
func TestSpan(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "", wide)
	all := eval[int](v, `document.querySelectorAll("#pairs-table tbody tr").length`)
	eval[any](v, `document.getElementById("chart").focus()`)
	v.do(chromedp.KeyEvent(kb.Home), chromedp.KeyEvent(kb.Enter))
	v.wait("window", `location.hash.includes("since=") && location.hash.includes("until=")`)
	v.wait("fewer pairs", fmt.Sprintf(`document.querySelectorAll("#pairs-table tbody tr").length < %d`, all))
	var answer struct{ Pairs []any }
	window := eval[string](v, `location.hash.slice(1)`)
	if err := p.get("/api/v1/pairs?"+window, &answer); err != nil {
		t.Fatal(err)
	}
	if got := eval[int](v, `document.querySelectorAll("#pairs-table tbody tr").length`); got != len(answer.Pairs) || got == 0 {
		t.Errorf("the table has %d pairs, the API %d", got, len(answer.Pairs))
	}
}

// TestPictures makes the pictures of docs/, and checks the page in both colour schemes.
func TestPictures(t *testing.T) {
	p := read(t, ovnSnapshot, ovnCapture)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{wide, narrow} {
			v := blank(t, p.base, width, scheme)
			v.navigate("#open=all")
			v.wait("records", `document.querySelectorAll("#live-table tbody tr").length > 20 && document.querySelector("#chart path") !== null`)
			v.accessible(fmt.Sprintf("%s, %d wide", scheme, width))
			v.looksRight(width)
			switch {
			case scheme == "light" && width == wide:
				v.picture("view.png", 980, wide)
			case scheme == "dark" && width == narrow:
				v.picture("view-narrow.png", 860, narrow)
			case scheme == "dark":
				v.click(`[data-action=select][data-id="Deployment/shop/web"]`)
				eval[any](v, `[...document.querySelectorAll("#panel button")].find(b => b.textContent === "Why this name?").click()`)
				v.wait("reason", `document.querySelector("#panel .because") !== null`)
				v.picture("view-why.png", 700, wide)
			}
		}
	}
}
