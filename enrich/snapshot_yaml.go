package enrich

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads the documents of b.
func (o *snapshotObjects) parseYAML(b []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	found := false
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			if !found {
				return errors.New("line 1: there is no object")
			}
			return nil
		}
		if err != nil {
			return yamlError(err, b)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" { // an empty document
			continue
		}
		found = true
		if err := o.addYAML(doc.Content[0], typeHead{}, 0); err != nil {
			return err
		}
	}
}

// yamlError makes an error of one line of the parser's. Most name the line of the input. Those that
// do not are about the first line, or about bytes that are not text.
func yamlError(err error, b []byte) error {
	s := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
	if strings.Contains(s, "line ") {
		return errors.New(s)
	}
	n := 1
	for i, line := range bytes.Split(b, []byte("\n")) {
		if !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' }) {
			n = i + 1
			break
		}
	}
	return fmt.Errorf("line %d: %s", n, s)
}

// addYAML is addJSON for a node of YAML.
func (o *snapshotObjects) addYAML(n *yaml.Node, byDefault typeHead, depth int) error {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if depth > maxDepth {
		return fmt.Errorf("line %d: lists within lists", n.Line)
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: not a Kubernetes object", n.Line)
	}
	h := typeHead{}
	var items *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		v := n.Content[i+1]
		switch n.Content[i].Value {
		case "apiVersion":
			h.APIVersion = v.Value
		case "kind":
			h.Kind = v.Value
		case "items":
			items = v
		}
	}
	if h.Kind == "" {
		h = byDefault
	}
	if item, ok := h.itemType(); ok {
		if items == nil {
			return nil
		}
		if items.Kind != yaml.SequenceNode && items.Tag != "!!null" {
			return fmt.Errorf("line %d: the items of a %s are not a list", items.Line, h.Kind)
		}
		for _, n := range items.Content {
			if err := o.addYAML(n, item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if h.Kind != "" && h.recognizedKind() == noKind && !o.followed(h) {
		o.skipped[h.Kind]++
		return nil
	}
	var v map[string]any
	if err := n.Decode(&v); err != nil {
		return yamlError(err, nil)
	}
	raw, err := json.Marshal(v)
	if err == nil {
		err = o.addObject(h, raw)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}
