package page

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
)

// TestOrder sorts the pairs by each column, in both directions.
func TestOrder(t *testing.T) {
	p := read(t, demoSnapshot, demoCapture)
	v := open(t, p.base, "", wide)
	var answer struct {
		Pairs []struct {
			Src, Dst              struct{ Namespace, Name string }
			Bytes, Packets, Flows uint64
		}
	}
	if err := p.get("/api/v1/pairs?limit=3000", &answer); err != nil {
		t.Fatal(err)
	}
	var src, size, packets, flows []string
	for _, p := range answer.Pairs {
		src = append(src, strings.TrimPrefix(p.Src.Namespace+"/"+p.Src.Name, "/"))
		size = append(size, fmt.Sprintf("%012d", p.Bytes))
		packets = append(packets, fmt.Sprintf("%012d", p.Packets))
		flows = append(flows, fmt.Sprintf("%012d", p.Flows))
	}
	if len(src) < 10 {
		t.Fatalf("only %d pairs", len(src))
	}
	number := `r.cells[%d].textContent.replaceAll(",", "").padStart(12, "0")`
	for i, c := range []struct {
		column int
		cell   string
		want   []string
		down   bool // the first press has the largest first
	}{
		{0, `r.cells[0].textContent`, src, false},
		{3, fmt.Sprintf(number, 3), packets, true},
		{4, fmt.Sprintf(number, 4), flows, true},
		{2, `r.dataset.bytes.padStart(12, "0")`, size, true},
	} {
		for _, turned := range []bool{false, true} {
			v.click(fmt.Sprintf("#pairs-table th:nth-child(%d) button", c.column+1))
			got := eval[[]string](v, `(async () => { `+still+` return [...document.querySelectorAll("#pairs-table tbody tr")].map(r => `+c.cell+`); })()`)
			slices.Sort(c.want)
			if c.down != turned {
				slices.Reverse(c.want)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("sort %d, turned %t: the column has\n%q, want\n%q", i, turned, got, c.want)
			}
		}
	}
}

// TestRows: whoever cannot see them hears of tables with rows, cells and headings, though rows
// are laid out as grids. Cells are below their headings, beside an open panel, too.
func TestRows(t *testing.T) {
	p := read(t, ovnSnapshot, ovnCapture)
	for _, width := range []int{wide, narrow} {
		v := open(t, p.base, "#open=all", width)
		v.wait("records", `document.querySelectorAll("#live-table tbody tr").length > 20 && !document.querySelector("[aria-busy]")`)
		v.accessible("tables")
		roles := make(map[string]int)
		tree, err := chromedp.Call(v.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		v.must(err)
		for _, node := range tree.Nodes {
			if !node.Ignored && node.Role != nil {
				roles[strings.ToLower(strings.Trim(string(node.Role.Value), `"`))]++
			}
		}
		rows, cells := eval[int](v, `document.querySelectorAll("tr").length`), eval[int](v, `document.querySelectorAll("td:not(.plain td:last-child)").length`)
		if roles["table"] != 2 || roles["row"] != rows || roles["cell"] != cells || roles["columnheader"] < 15 {
			t.Errorf("%d wide: %d tables, %d rows of %d, %d cells of %d, %d headings", width, roles["table"], roles["row"], rows, roles["cell"], cells, roles["columnheader"])
		}
		v.straight(fmt.Sprintf("%d wide", width))
		v.click("#cards .row")
		v.wait("panel", `!document.getElementById("panel").hidden`)
		eval[any](v, `(async () => { await new Promise(done => requestAnimationFrame(() => setTimeout(done))); `+still+` })()`)
		v.straight(fmt.Sprintf("%d wide, with the panel", width))
	}
}

// straight checks that cells are below their headings.
func (v *view) straight(state string) {
	v.t.Helper()
	askew := eval[[]string](v, `[...document.querySelectorAll("table")].flatMap(table => {
		const [head, ...rows] = table.rows;
		const off = (c, i) => Math.abs(c.getBoundingClientRect().left - head.cells[i].getBoundingClientRect().left) > 0.5;
		return rows.flatMap(r => [...r.cells].filter(off).map(c => c.textContent));
	})`)
	if len(askew) > 0 {
		v.t.Errorf("%s: %d cells are not below their headings: %q", state, len(askew), askew[:min(len(askew), 5)])
	}
}
