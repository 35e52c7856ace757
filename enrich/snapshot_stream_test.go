package enrich

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Lists that are read item by item, and what is only read as a whole: both give the same objects.
func TestStreamObjects(t *testing.T) {
	pod := func(indent, name string) string {
		return strings.ReplaceAll(`- apiVersion: v1
  kind: Pod
  metadata:
    name: `+name+`
    annotations:
      text: |
        - kind: Pod

       # a comment, less deep
        items:
        ---
      quoted: "a
        - b"
  status:
    podIPs:
    - ip: 10.0.0.1
`, "\n", "\n"+indent)
	}
	list := "apiVersion: v1\nitems:\n" + pod("", "a") + pod("", "b") + "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
	list = strings.Replace(list, "       # a comment, less deep\n", "", -1)
	for name, c := range map[string]struct {
		text     string
		streamed bool
	}{
		"list":                      {list, true},
		"lines of Windows":          {strings.ReplaceAll(list, "\n", "\r\n"), true},
		"kind first":                {"kind: List\napiVersion: v1\nitems: # all\n\n# the first\n- {kind: Pod, metadata: {name: a}}\n-\n  kind: Pod\n  metadata: {name: b}\n", true},
		"deeper items":              {"kind: List\nitems:\n  - kind: Pod\n    metadata: {name: a}\n  # b\n  - kind: Pod\n    metadata: {name: b}\nmetadata: {}\n", true},
		"a typed list, kind last":   {"items:\n- metadata: {name: a}\n- metadata: {name: b}\nkind: PodList\napiVersion: v1\n", true},
		"lists and objects":         {"---\n" + list + "---\nkind: Node\nmetadata: {name: n}\n...\n---\n# nothing\n---\n" + list, true},
		"a list within a list":      {"kind: List\nitems:\n- kind: PodList\n  items:\n  - metadata: {name: a}\n", true},
		"no end of line":            {"kind: List\nitems:\n- kind: Pod\n  metadata: {name: a}", true},
		"other kinds":               {"kind: List\nitems:\n- kind: Secret\n  metadata: {name: a}\n- kind: Pod\n  metadata: {name: a}\n", true},
		"no items":                  {"kind: List\nitems:\n", true},
		"empty items":               {"kind: List\nitems: []\n", true},
		"items of an object":        {"kind: Widget\nitems:\n- kind: Pod\n  metadata: {name: a}\n", false},
		"an alias of another item":  {"kind: List\nitems:\n- &a\n  kind: Pod\n  metadata: {name: a}\n- *a\n", false},
		"a quoted text over items":  {"kind: List\na: \"x\nitems:\n- y\n\"\nitems:\n- kind: Pod\n  metadata: {name: a}\n", false},
		"a flow over a hyphen":      {"kind: List\nitems:\n- {kind: Pod, metadata: {name: a, annotations: {b: c,\n- d: e}}}\n", false},
		"JSON":                      {`{"kind": "Pod", "metadata": {"name": "a"}}`, false},
		"items twice":               {"kind: List\nitems:\n- kind: Pod\n  metadata: {name: a}\nitems:\n- kind: Pod\n  metadata: {name: b}\n", false},
		"a mistake in the last one": {"kind: List\nitems:\n- kind: Pod\n  metadata: {name: a}\n- kind: Pod\n  status: {podIPs: x}\n", false},
		"empty":                     {"# nothing\n", false},
	} {
		checkStream(t, name, c.text, &c.streamed)
	}
	for _, file := range []string{"testdata/rules.yaml", "testdata/kubectl.yaml"} {
		if b, err := os.ReadFile(file); err == nil {
			checkStream(t, file, string(b), new(true))
		}
	}
}

// checkStream checks that a text that is read piece by piece gives what it gives as a whole.
func checkStream(t *testing.T, name, text string, streamed *bool) {
	t.Helper()
	got := streamObjects(strings.NewReader(text), nil)
	if streamed != nil && (got != nil) != *streamed {
		t.Errorf("%s: read piece by piece: %v", name, got != nil)
	}
	if got == nil {
		return
	}
	want, err := parseObjects([]byte(text), nil)
	if err != nil {
		t.Errorf("%s: read piece by piece, though: %v", name, err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: read piece by piece it is %+v, as a whole %+v", name, got, want)
	}
}

func FuzzStreamObjects(f *testing.F) {
	f.Add("kind: List\nitems:\n- kind: Pod\n  metadata:\n    name: a\n- kind: Pod\n  metadata: {name: b}\nmetadata: {}\n")
	f.Add("kind: List\nitems:\n  - kind: Node\n    metadata:\n      name: a\n      annotations:\n        x: |\n          - y\n---\nkind: Pod\nmetadata: {name: b}\n...\n")
	f.Add("items:\n- metadata: {name: a}\n# c\n-\n metadata: {name: \"b\n c\"}\nkind: PodList\n")
	f.Fuzz(func(t *testing.T, text string) { checkStream(t, "text", text, nil) })
}
