package page

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
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

// TestFleet looks at 300 workloads and 3,000 pairs: what is drawn at once stays bounded. It
// logs what a frame costs; a frame has 16 ms at 60 a second.
func TestFleet(t *testing.T) {
	p := collect(t, fleetSnapshot(t))
	v := blank(t, p.base, wide, "light")
	e, err := exporter.Dial(p.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const batch = 30 // flows of a datagram of NetFlow v5
	for n := 0; n < fleetPairs; n += batch {
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
			now := p.received(t)
			return now >= n+batch, now
		})
	}
	v.navigate("#open=none")
	v.wait("all pairs", `document.getElementById("pairs-count").textContent === "3,000 pairs"`)
	v.click("#pause") // what is measured is what hands do, not what comes in
	v.bounded("closed", fleetNamespaces)
	v.frames("hover over closed groups", hover)
	v.frames("scroll", scroll)
	v.frames("open all", `document.getElementById("open-all").click()`)
	v.bounded("open", fleetNamespaces)
	v.frames("hover over workloads", hover)
	v.frames("close all", `document.getElementById("close-all").click()`)
	v.frames("sort the table", `document.querySelector("#pairs-table th button").click()`)
	v.frames("list 100 more pairs", `document.getElementById("pairs-more").click()`)
	v.accessible("300 workloads")
	v.navigate("#filter=SrcWorkload+%3D%3D+%22workload-042%22")
	v.wait("pairs of one workload", `document.getElementById("pairs-count").textContent === "10 pairs"`)
	v.bounded("filtered", 11)
}

const (
	hover = `(async () => {
		const rows = [...document.querySelectorAll("#cards [data-action=select]")].slice(0, 60);
		for (const row of rows) {
			row.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
			await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
		}
	})()`
	scroll = `(async () => {
		for (let i = 0; i < 60; i++) {
			scrollBy(0, 20);
			await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
		}
	})()`
)

// bounded checks how much is drawn.
func (v *view) bounded(state string, groups int) {
	v.t.Helper()
	const mostLinks, mostElements = 300, 4000
	links, boxes := eval[int](v, `document.querySelectorAll("#links path").length`), eval[int](v, `document.querySelectorAll(".box").length`)
	elements := eval[int](v, `document.querySelectorAll("*").length`)
	if links == 0 || links > mostLinks || boxes == 0 || boxes > groups || elements > mostElements {
		v.t.Errorf("%s: %d links (at most %d), %d boxes (at most %d), %d elements (at most %d)", state, links, mostLinks, boxes, groups, elements, mostElements)
	}
	v.looksRight(wide)
}

// frames logs how long the page's thread works for a frame, in its own processor time, while a
// script runs and until all that it has begun is drawn.
func (v *view) frames(what, script string) {
	v.t.Helper()
	before := v.busy()
	n := eval[float64](v, `(async () => {
		let frames = 0, on = true;
		requestAnimationFrame(function tick() {
			frames++;
			if (on) requestAnimationFrame(tick);
		});
		await (`+script+`);
		do await new Promise(done => requestAnimationFrame(() => setTimeout(done))); while (document.querySelector("[aria-busy]"));
		on = false;
		return frames;
	})()`)
	v.t.Logf("%-26s %5.1f ms a frame, %3.0f frames", what, (v.busy()-before)*1000/n, n)
}

// busy is the processor time of the page's thread so far, in seconds.
func (v *view) busy() float64 {
	v.t.Helper()
	answer, err := chromedp.Call(v.ctx, performance.GetMetrics, cdp.Empty{})
	v.must(err)
	for _, m := range answer.Metrics {
		if m.Name == "TaskDuration" {
			return m.Value
		}
	}
	v.t.Fatal("the browser does not say how long tasks take")
	return 0
}
