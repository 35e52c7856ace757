// Package charts tests what the chart says about its values. That it works is
// tested in test/e2e.
package charts

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const dir = "goflow2-kube-enricher/"

var update = flag.Bool("update", false, "write README.md of the chart anew")

// value is a value that is documented as one: a scalar, a list, or a mapping
// whose keys are its user's.
type value struct{ path, def, doc string }

// values reads values.yaml: what has a comment is a value, what has none is a
// group of values.
func values(t *testing.T) []value {
	t.Helper()
	data, err := os.ReadFile(dir + "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var list []value
	var walk func(prefix string, node *yaml.Node)
	walk = func(prefix string, node *yaml.Node) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, v := node.Content[i], node.Content[i+1]
			path := prefix + key.Value
			if key.HeadComment == "" {
				if v.Kind != yaml.MappingNode || len(v.Content) == 0 {
					t.Errorf("values.yaml:%d: %s has no comment", key.Line, path)
				}
				walk(path+".", v)
				continue
			}
			var def any
			if err := v.Decode(&def); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			if err := e.Encode(def); err != nil {
				t.Fatal(err)
			}
			comment := strings.ReplaceAll(strings.ReplaceAll(key.HeadComment, "\n# ", " "), "# ", "")
			list = append(list, value{path, strings.TrimSpace(b.String()), comment})
		}
	}
	walk("", doc.Content[0])
	return list
}

// The table of values in the chart's README is what values.yaml says.
func TestValuesDoc(t *testing.T) {
	const begin, end = "<!-- Values; \"make docs\" writes them anew from values.yaml. -->\n", "<!-- End of values. -->\n"
	file := dir + "README.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found1 := strings.Cut(string(text), begin)
	_, tail, found2 := strings.Cut(rest, end)
	if !found1 || !found2 {
		t.Fatalf("%s has no place for values: no %q and %q", file, begin, end)
	}
	var b strings.Builder
	b.WriteString(head + begin + "\n| value | default | meaning |\n|---|---|---|\n")
	for _, v := range values(t) {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, v.def, strings.ReplaceAll(v.doc, "|", `\|`))
	}
	b.WriteString("\n" + end + tail)
	if b.String() == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what values.yaml says; run `make docs`", file)
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// schema is the part of JSON Schema that is looked at here.
type schema struct {
	Type       any
	Enum       []any
	Additional *bool `json:"additionalProperties"`
	Properties map[string]json.RawMessage
}

// values.schema.json knows exactly the values there are, and no other key is
// allowed.
func TestSchema(t *testing.T) {
	data, err := os.ReadFile(dir + "values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	groups := map[string]map[string]bool{"": {"global": true}} // the keys of groups of values, by path
	for _, v := range values(t) {
		for path := v.path; path != ""; {
			i := strings.LastIndexByte(path, '.')
			key := path[i+1:]
			path = path[:max(i, 0)]
			if groups[path] == nil {
				groups[path] = map[string]bool{}
			}
			groups[path][key] = true
		}
	}
	var walk func(path string, data []byte)
	walk = func(path string, data []byte) {
		keys, group := groups[path]
		var s schema
		if err := json.Unmarshal(data, &s); err != nil {
			if group { // additionalProperties is a schema
				t.Errorf("%q: %v", path, err)
			}
			return
		}
		if !group {
			if s.Type == nil && s.Enum == nil {
				t.Errorf("%s: neither a type nor an enumeration", path)
			}
			return
		}
		want, got := slices.Sorted(maps.Keys(keys)), slices.Sorted(maps.Keys(s.Properties))
		if !slices.Equal(got, want) {
			t.Errorf("%q: the schema has %v, values.yaml %v", path, got, want)
		}
		if s.Type != "object" || s.Additional == nil || *s.Additional {
			t.Errorf("%q: other keys are allowed", path)
		}
		for key, data := range s.Properties {
			walk(strings.TrimPrefix(path+"."+key, "."), data)
		}
	}
	walk("", data)
}
