package page

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// twinsSnapshot writes a cluster of three pods. Two of them have the same address.
func twinsSnapshot(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nitems:\n")
	for _, p := range [][2]string{{"one", "10.200.0.1"}, {"twin-a", "10.200.0.2"}, {"twin-b", "10.200.0.2"}} {
		fmt.Fprintf(&b, "- {apiVersion: v1, kind: Pod, metadata: {name: %[1]s, namespace: team, uid: %[1]s}, spec: {nodeName: n}, "+
			"status: {phase: Running, startTime: \"2026-01-01T00:00:00Z\", podIP: %[2]s, podIPs: [{ip: %[2]s}]}}\n", p[0], p[1])
	}
	file := filepath.Join(t.TempDir(), "snapshot.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sendOne sends a flow from pod one to one of the twins, to the program p.
func sendOne(t *testing.T, p *program) {
	t.Helper()
	e, err := exporter.Dial(p.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f := exporter.Flow{Src: netip.MustParseAddr("10.200.0.1"), Dst: netip.MustParseAddr("10.200.0.2"), SrcPort: 40000, DstPort: 443, Proto: 6, Bytes: 1000, Packets: 10}
	if err := e.NetFlow5(f); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, soon, "a record", func() (bool, any) { n := p.received(t); return n == 1, n })
}

// TestDoubt: a name that two pods have is marked as doubtful on the map, in pairs, in the live
// list, and in the panel, and other names are not.
func TestDoubt(t *testing.T) {
	p := collect(t, twinsSnapshot(t))
	sendOne(t, p)
	for _, width := range []int{wide, narrow} {
		v := open(t, p.base, "#open=all", width)
		v.wait("doubt in the table", `document.querySelector("#pairs-table td.doubtful") !== null`)
		if got := eval[string](v, `[...document.querySelectorAll("#pairs-table td.doubtful")].map(td => td.cellIndex + td.title).join()`); got != "1In 1 flow this name is doubtful" {
			t.Errorf("%d wide: in the table in doubt: %s", width, got)
		}
		if got := eval[string](v, `[...document.querySelectorAll("#cards .doubtful")].map(s => s.dataset.sum).join()`); got != "ns:team,Pod/team/twin-a" {
			t.Errorf("%d wide: on the map in doubt: %s", width, got)
		}
		v.wait("doubt of a record", `document.querySelector("#live-table .doubt") !== null`)
		if got := eval[string](v, `[...document.querySelectorAll("#live-table .doubt")].map(e => e.closest("td").cellIndex + e.title).join()`); got != "2Several pods found for same IP: twin-a.team,twin-b.team" {
			t.Errorf("%d wide: in the live list in doubt: %s", width, got)
		}
		v.click(`[data-action=select][data-id="Pod/team/twin-a"]`)
		if text := v.text("#panel .warn"); !strings.Contains(text, "In 1 flow its name is doubtful") {
			t.Errorf("%d wide: the panel says %q", width, text)
		}
		v.accessible("doubt")
		v.looksRight(width)
	}
}

// TestMapping: names are shown whatever -mapping calls them, and those of other addresses, too.
func TestMapping(t *testing.T) {
	p := collect(t, twinsSnapshot(t), "-mapping", "SrcAddr=From,DstAddr=To,SamplerAddress=By,NextHop=Via", "-networks", networksFile(t))
	sendOne(t, p)
	v := open(t, p.base, "", wide)
	v.wait("names of a record", `document.querySelector("#live-table tbody tr td:nth-child(2) .ns")?.textContent === "team/"`)
	row := `[...document.querySelectorAll("#live-table tbody tr:first-child td")]`
	for i, want := range []string{1: "team/one:40000", 2: "team/twin-a:443?"} {
		if got := eval[string](v, fmt.Sprintf(`%s[%d].textContent`, row, i)); want != "" && got != want {
			t.Errorf("cell %d is %q, want %q", i, got, want)
		}
	}
	if got, want := eval[string](v, row+`[1].querySelector("button").title`), "team/one:40000, pod one, 10.200.0.1, why this name?"; got != want {
		t.Errorf("what is cut off is told as %q, want %q", got, want)
	}
	if got := eval[string](v, row+`[8].textContent`); !strings.HasSuffix(got, " NextHop: nowhere") {
		t.Errorf("the last cell is %q", got)
	}
	v.click(`[data-action=select][data-id="Pod/team/one"]`)
	eval[any](v, `[...document.querySelectorAll("#panel button")].find(b => b.textContent === "Why this name?").click()`)
	v.wait("reason", `document.querySelector("#panel .because") !== null`)
	eval[any](v, `[...document.querySelectorAll("#panel button")].find(b => b.textContent === "Only this").click()`)
	v.wait("filter", `document.getElementById("filter").value.includes("FromWorkload == \"one\"")`)
	v.wait("the pair", `document.querySelectorAll("#pairs-table tbody tr").length === 1`)
}

// networksFile names the next hop that NetFlow v5 has if there is none.
func networksFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "networks.yaml")
	if err := os.WriteFile(file, []byte("0.0.0.0/32: nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
