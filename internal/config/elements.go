package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
)

// maxElementsFile bounds the file of -fields.elements, in bytes.
const maxElementsFile = 1 << 20

// elementExample shows what the file of -fields.elements has.
const elementExample = "a list of {name: NAME, id: N, pen: N, type: TYPE}"

var elementName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// readElements reads the file of -fields.elements, if there is one.
func (p *parser) readElements(c *Config) error {
	if c.ElementsFile == "" {
		return nil
	}
	option := p.given["fields.elements"].flag("fields.elements")
	if c.Mode == Stdin {
		return Usagef("%s: goflow2's output on standard input has no elements; leave it out", option)
	}
	if err := readable(c.ElementsFile); err != nil {
		return Usagef("%s: %v", option, err)
	}
	f, err := os.Open(c.ElementsFile)
	if err != nil {
		return Usagef("%s: %v", option, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxElementsFile+1))
	switch {
	case err != nil:
		return Usagef("%s: %v", option, err)
	case len(data) > maxElementsFile:
		return Usagef("%s: %s has more than %d bytes", option, Quote(c.ElementsFile), maxElementsFile)
	}
	// A clash of the mapping's own names is reported with the mapping.
	taken, err := encode.Names(c.Mapping, c.KubeLabels...)
	if err != nil {
		taken = nil
	}
	c.Elements, err = parseElements(data, taken)
	if line := (*lineError)(nil); errors.As(err, &line) {
		return Usagef("%s: %s:%d: %s", option, show(c.ElementsFile), line.line, line.text)
	}
	if err != nil {
		return Usagef("%s: %s: %v", option, show(c.ElementsFile), err)
	}
	return nil
}

// lineError is a mistake in a line of a file.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func atLine(n *yaml.Node, format string, args ...any) error {
	return &lineError{n.Line, fmt.Sprintf(format, args...)}
}

// parseElements reads a list of elements. taken has the names of other fields.
func parseElements(data []byte, taken map[string]bool) ([]flow.ExtraElement, error) {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing but comments
	case err != nil:
		return nil, elementsError(err, data)
	}
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, elementsError(err, data)
	default:
		return nil, atLine(&more, "has a second YAML document; give one")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.SequenceNode {
		return nil, atLine(root, "is no list; give %s", elementExample)
	}
	var elements []flow.ExtraElement
	for _, item := range root.Content {
		e, at, err := parseElement(item)
		if err != nil {
			return nil, err
		}
		for _, other := range elements {
			switch {
			case other.Name == e.Name:
				return nil, atLine(at["name"], "name %s is there twice; choose another", e.Name)
			case other.Element == e.Element:
				return nil, atLine(at["id"], "element %s is there twice, as %s and %s; give it once", e.Element, other.Name, e.Name)
			}
		}
		switch {
		case taken[e.Name]:
			return nil, atLine(at["name"], "name %s is that of another field; choose another (%sfields.md lists those there are)", e.Name, pages)
		case collector.ReadsElement(e.Element):
			return nil, atLine(at["id"], "element %s has a field already, see %sfields.md; leave it out", e.Element, pages)
		case len(elements) == flow.MaxElements:
			return nil, atLine(item, "has more than %d elements; leave some out", flow.MaxElements)
		}
		elements = append(elements, e)
	}
	return elements, nil
}

// elementsError returns an error of YAML with its line. Of tabs the YAML library names
// the wrong line, or none.
func elementsError(err error, data []byte) error {
	text := err.Error()
	if strings.Contains(text, "tab character") || strings.Contains(text, "cannot start any token") {
		for i, line := range strings.Split(string(data), "\n") {
			rest := strings.TrimLeft(line, " -")
			if strings.HasPrefix(rest, "\t") {
				return &lineError{i + 1, "has a tab in its indentation; use spaces"}
			}
		}
	}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &lineError{line, text[len(m[0]):] + "; give " + elementExample}
	}
	return fmt.Errorf("%s; give %s", strings.TrimPrefix(text, "yaml: "), elementExample)
}

// parseElement reads one element of the list, and where its values are.
func parseElement(item *yaml.Node) (e flow.ExtraElement, at map[string]*yaml.Node, err error) {
	if item.Kind != yaml.MappingNode {
		return e, nil, atLine(item, "is no element; give %s", elementExample)
	}
	at = make(map[string]*yaml.Node)
	for i := 0; i+1 < len(item.Content); i += 2 {
		key, value := item.Content[i], item.Content[i+1]
		if at[key.Value] != nil {
			return e, nil, atLine(key, "%s is there twice; give it once", show(key.Value))
		}
		if value.Kind != yaml.ScalarNode {
			return e, nil, atLine(value, "%s is no plain value", show(key.Value))
		}
		at[key.Value] = value
		if err := setElement(&e, key, value); err != nil {
			return e, nil, err
		}
	}
	for _, key := range []string{"name", "id", "type"} {
		if at[key] == nil {
			return e, nil, atLine(item, "%s is missing; give %s", key, elementExample)
		}
	}
	const enterpriseBit = 0x8000
	if e.PEN != 0 && e.ID >= enterpriseBit {
		return e, nil, atLine(at["id"], "id %d is not allowed; elements of enterprises have numbers from 1 to 32767", e.ID)
	}
	return e, at, nil
}

// setElement takes over the value of a key.
func setElement(e *flow.ExtraElement, key, value *yaml.Node) error {
	switch key.Value {
	case "name":
		if e.Name = value.Value; !elementName.MatchString(e.Name) {
			return atLine(value, "name %s is not allowed; give up to 64 letters, digits and underscores", Quote(e.Name))
		}
	case "id":
		id, err := strconv.ParseUint(value.Value, 10, 16)
		if err != nil || id == 0 {
			return atLine(value, "id %s is not allowed; give a number from 1 to 65535", Quote(value.Value))
		}
		e.ID = uint16(id)
	case "pen":
		pen, err := strconv.ParseUint(value.Value, 10, 32)
		if err != nil {
			return atLine(value, "pen %s is not allowed; give a private enterprise number, or 0 for IANA's and NetFlow v9's elements", Quote(value.Value))
		}
		e.PEN = uint32(pen)
	case "type":
		t := slices.Index(flow.ElementTypes, value.Value)
		if t < 0 {
			return atLine(value, "type %s is not allowed; give one of %s", Quote(value.Value), strings.Join(flow.ElementTypes, ", "))
		}
		e.Type = flow.ElementType(t)
	default:
		return atLine(key, "key %s is not allowed; give name, id, pen and type", Quote(key.Value))
	}
	return nil
}
