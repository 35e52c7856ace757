package page

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
)

// received asks how many records the collector has received.
func (p *program) received(t *testing.T) int {
	t.Helper()
	var summary struct{ Records int }
	if err := p.get("/api/v1/summary", &summary); err != nil {
		t.Fatal(err)
	}
	return summary.Records
}

// hostileSnapshot makes a copy of the demo's snapshot in which a pod has another name and
// namespace, and no owner.
func hostileSnapshot(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(demoSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	before, pod, found := strings.Cut(string(content), "\n- apiVersion: v1\n  kind: Pod\n")
	pod, after, ok := strings.Cut(pod, "\n- apiVersion: ")
	if !found || !ok {
		t.Fatal("the demo's snapshot does not begin with a pod")
	}
	var lines []string
	owner := false
	for line := range strings.SplitSeq(pod, "\n") {
		switch {
		case strings.HasPrefix(line, "    name: "):
			line = fmt.Sprintf("    name: %q", name)
		case strings.HasPrefix(line, "    namespace: "):
			line = fmt.Sprintf("    namespace: %q", name)
		case strings.HasPrefix(line, "    ownerReferences:"):
			owner = true
			continue
		}
		if owner = owner && (strings.HasPrefix(line, "    - ") || strings.HasPrefix(line, "      ")); !owner {
			lines = append(lines, line)
		}
	}
	file := filepath.Join(t.TempDir(), "snapshot.yaml")
	text := before + "\n- apiVersion: v1\n  kind: Pod\n" + strings.Join(lines, "\n") + "\n- apiVersion: " + after
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// accessibleScript returns what is wrong with the page by rules like those of axe: contrast,
// ids, references, headings of tables.
//
//go:embed testdata/accessible.js
var accessibleScript string

// named are the roles whose elements need a name.
var named = map[string]bool{
	"button": true, "combobox": true, "textbox": true, "link": true, "image": true, "img": true, "listbox": true, "option": true,
	"region": true, "group": true, "columnheader": true, "menulist": true, "complementary": true, "heading": true,
}

// accessible fails the test for what people with a screen reader, without a mouse or with weak
// eyes would miss.
func (v *view) accessible(state string) {
	v.t.Helper()
	for _, problem := range eval[[]string](v, accessibleScript) {
		v.t.Errorf("%s: %s", state, problem)
	}
	tree, err := chromedp.Call(v.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	v.must(err)
	checked := 0
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role := strings.ToLower(strings.Trim(string(node.Role.Value), `"`))
		if !named[role] {
			continue
		}
		checked++
		if node.Name == nil || strings.Trim(string(node.Name.Value), `" `) == "" {
			v.t.Errorf("%s: a %s has no name (%v)", state, role, node.Properties)
		}
	}
	if checked < 5 {
		v.t.Errorf("%s: the browser knows only %d elements with roles", state, checked)
	}
}
