package page

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

const (
	fleetNamespaces = 15
	fleetWorkloads  = 300
	fleetPairs      = 3000
)

// fleetAddr is the address of the pod of a workload.
func fleetAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 200, byte(i / 200), byte(i%200 + 1)})
}

// fleetSnapshot writes a cluster of 300 workloads, with one pod each.
func fleetSnapshot(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n")
	for i := range fleetWorkloads {
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Pod, metadata: {name: workload-%03[1]d-0, namespace: team-%02[2]d, uid: u%[1]d, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: workload-%03[1]d, uid: s%[1]d, controller: true}]}, "+
			"spec: {nodeName: n}, status: {phase: Running, startTime: \"2026-01-01T00:00:00Z\", podIP: %[3]s, podIPs: [{ip: %[3]s}]}}\n", i, i%fleetNamespaces, fleetAddr(i))
	}
	file := filepath.Join(t.TempDir(), "snapshot.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// send sends flows from number from on, one of each pair, and waits until they are received.
func (p *program) send(t *testing.T, e *exporter.Exporter, from, to int) {
	t.Helper()
	const batch = 30 // flows of a datagram of NetFlow v5
	before := p.received(t)
	for n := from; n < to; n += batch {
		var flows []exporter.Flow
		for i := n; i < n+batch; i++ {
			src := i % fleetWorkloads
			dst := (src + 1 + i/fleetWorkloads*7) % fleetWorkloads
			flows = append(flows, exporter.Flow{Src: fleetAddr(src), Dst: fleetAddr(dst), SrcPort: 40000, DstPort: 443, Proto: 6, Bytes: uint64(1000 + i*i%977*100), Packets: 10})
		}
		if err := e.NetFlow5(flows...); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, soon, "records of a datagram", func() (bool, any) {
			now := p.received(t) - before
			return now >= n-from+batch, now
		})
	}
}

// TestFleet looks at 300 workloads and 3,000 pairs: what is drawn at once stays bounded. It
// logs what frames cost; a frame has 16 ms at 60 a second.
func TestFleet(t *testing.T) {
	p := collect(t, fleetSnapshot(t))
	v := blank(t, p.base, wide, "light")
	e, err := exporter.Dial(p.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p.send(t, e, 0, fleetPairs)
	v.navigate("#open=none")
	v.wait("all pairs", `document.getElementById("pairs-count").textContent === "3,000 pairs"`)
	v.click("#pause") // what hands do is measured first, without what comes in
	v.bounded("closed", fleetNamespaces)
	v.frames("point at closed groups", point)
	v.frames("scroll the page", `each(60, () => scrollBy(0, 20))`)
	v.frames("open all", `document.getElementById("open-all").click()`)
	v.bounded("open", fleetNamespaces)
	v.frames("point at workloads", point)
	v.frames("choose a workload", `document.querySelector("#cards .row").click()`)
	v.frames("close the panel", `document.querySelector("#panel button.icon").click()`)
	v.frames("close one group", `document.querySelector("#cards .toggle").click()`)
	v.frames("close all", `document.getElementById("close-all").click()`)
	eval[any](v, `document.getElementById("pairs").scrollIntoView()`)
	v.frames("sort by names", `document.querySelector("#pairs-table th button").click()`)
	v.frames("sort by bytes", `document.querySelector("#pairs-table th:nth-child(3) button").click()`)
	v.frames("list 100 more pairs", `document.getElementById("pairs-more").click()`)
	v.frames("list 100 more again", `document.getElementById("pairs-more").click()`)
	v.frames("scroll 250 pairs", `each(60, () => document.querySelector("#pairs .scroll").scrollBy(0, 60))`)
	v.frames("sort 250 pairs", `document.querySelector("#pairs-table th:nth-child(4) button").click()`)
	v.accessible("300 workloads")
	// While the page pauses, no filter begins the live list anew, were this one applied unfinished.
	v.frames("type in the filter", `each(26, i => {
		const box = document.getElementById("filter");
		box.value = 'SrcWorkload == "workload-04'.slice(0, i + 1);
		box.dispatchEvent(new Event("input"));
	})`)
	v.click("#filter-clear")
	v.wait("all pairs again", `document.getElementById("pairs-count").textContent === "3,000 pairs" && !document.querySelector("[aria-busy]")`)
	v.frames("go on, with new sums", `(async () => {
		const asked = performance.getEntriesByType("resource").length;
		document.getElementById("pause").click();
		await until("sums and records", () => performance.getEntriesByType("resource").length >= asked + 4);
		await each(10, () => {});
	})()`)
	v.wait("stream of records", `/^(waiting for records|live)/.test(document.getElementById("live-state").textContent)`)
	eval[any](v, `document.getElementById("live").scrollIntoView()`)
	v.wait("end of drawing", `!document.querySelector("[aria-busy]")`)
	v.framesWhile("150 records come", `(async () => {
		const all = () => document.querySelectorAll("#live-table tbody tr").length >= 150; // the API leaves out what comes too fast
		if (all()) throw new Error("they are there before they come");
		await until("150 records", all);
	})()`, func() { p.send(t, e, 0, 150) })
	v.navigate("#filter=SrcWorkload+%3D%3D+%22workload-042%22")
	v.wait("pairs of one workload", `document.getElementById("pairs-count").textContent === "10 pairs"`)
	v.bounded("filtered", 11)
}

const point = `(() => {
	const rows = [...document.querySelectorAll("#cards [data-action=select]")].slice(0, 60);
	return each(rows.length, i => rows[i].dispatchEvent(new PointerEvent("pointerover", { bubbles: true })));
})()`

// bounded checks how much is drawn.
func (v *view) bounded(state string, groups int) {
	v.t.Helper()
	const mostLinks, mostElements = 300, 4000
	v.wait("all of the map", `!document.querySelector("[aria-busy]")`)
	links, boxes := eval[int](v, `document.querySelectorAll("#links path").length`), eval[int](v, `document.querySelectorAll(".box").length`)
	elements := eval[int](v, `document.querySelectorAll("*").length`)
	if links == 0 || links > mostLinks || boxes == 0 || boxes > groups || elements > mostElements {
		v.t.Errorf("%s: %d links (at most %d), %d boxes (at most %d), %d elements (at most %d)", state, links, mostLinks, boxes, groups, elements, mostElements)
	}
	v.looksRight(wide)
}

// frames logs what the longest frame costs while a script runs, and until all that it has begun
// is drawn: all that the page's thread does from one picture to the next, as the browser traces
// it, in that thread's own processor time. Other threads paint the pixels meanwhile.
func (v *view) frames(what, script string) {
	v.t.Helper()
	v.framesWhile(what, script, func() {})
}

// framesWhile is frames of a script that waits for what do does, which is called once it runs.
func (v *view) framesWhile(what, script string, do func()) {
	v.t.Helper()
	v.trace.reset()
	_, err := chromedp.Call(v.ctx, tracing.Start, tracing.StartParams{TraceConfig: &tracing.TraceConfig{
		IncludedCategories: []string{"devtools.timeline", "disabled-by-default-devtools.timeline"},
	}})
	v.must(err)
	eval[any](v, `void (window.step = (async () => {
		const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
		const each = async (n, f) => {
			for (let i = 0; i < n; i++) {
				f(i);
				await frame();
			}
		};
		const until = async (what, is) => {
			for (const began = performance.now(); !is(); await frame()) {
				if (performance.now() - began > `+fmt.Sprint(soon.Milliseconds())+`) throw new Error("no " + what);
			}
		};
		let on = true;
		requestAnimationFrame(function tick() {
			if (on) requestAnimationFrame(tick);
		});
		try {
			await (`+script+`);
			let idle = 0; // what begins a frame or two later is part of it, too
			await until("end of drawing", () => (document.querySelector("[aria-busy]") ? (idle = 0) : idle++) === 5);
		} finally {
			on = false;
		}
	})())`)
	do()
	eval[any](v, `window.step`)
	_, err = chromedp.Call(v.ctx, tracing.End, cdp.Empty{})
	v.must(err)
	select {
	case <-v.trace.done:
	case <-v.ctx.Done():
		v.t.Fatal("the browser does not end its trace")
	}
	list := v.trace.frames()
	if len(list) == 0 {
		v.t.Fatalf("%s: the trace has no frame", what)
	}
	longest := slices.MaxFunc(list, func(a, b frame) int { return cmp.Compare(a.work, b.work) })
	var sum time.Duration
	for _, f := range list {
		sum += f.work
	}
	v.t.Logf("%-26s longest %v, mean %v of %d frames", what, longest, ms(sum/time.Duration(len(list))), len(list))
}
