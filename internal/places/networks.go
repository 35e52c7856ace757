package places

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gaissmai/bart"
	"go.yaml.in/yaml/v3"
)

// maxNetworksFile bounds the file of networks, in bytes.
const maxNetworksFile = 64 << 20

// maxLabel bounds a label, in characters.
const maxLabel = 128

// network is a line of the file of networks.
type network struct {
	line        int
	cidr, label string
}

// lineError is a mistake in a line of a file.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("%d: %s", e.line, e.text) }

// networks finds the label of an address by longest match.
type networks struct {
	table  *bart.Table[int32] // indices of labels
	labels []string           // each once
}

// parseNetworks reads networks and their labels: lines of CSV if the file's name ends
// with .csv, else a mapping in YAML. Errors are a [*lineError] where a line is wrong.
func parseNetworks(name string, data []byte) (*networks, error) {
	read := readYAML
	if strings.EqualFold(filepath.Ext(name), ".csv") {
		read = readCSV
	}
	list, err := read(bytes.TrimPrefix(data, []byte("\uFEFF"))) // which spreadsheets write
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &lineError{1, "there is no network in it; give CIDR: LABEL"}
	}
	n := &networks{table: new(bart.Table[int32])}
	lines := make(map[netip.Prefix]int, len(list))
	index := make(map[string]int32)
	for _, l := range list {
		p, err := parsePrefix(l.cidr)
		if err != nil {
			return nil, &lineError{l.line, err.Error()}
		}
		if err := checkLabel(l.label); err != nil {
			return nil, &lineError{l.line, err.Error()}
		}
		if first, ok := lines[p]; ok {
			return nil, &lineError{l.line, fmt.Sprintf("%s is in line %d, too; leave one out", p, first)}
		}
		lines[p] = l.line
		i, ok := index[l.label]
		if !ok {
			i = int32(len(n.labels))
			index[l.label] = i
			n.labels = append(n.labels, l.label)
		}
		n.table.Insert(p, i)
	}
	return n, nil
}

// readYAML reads a mapping of networks to labels.
func readYAML(data []byte) ([]network, error) {
	var doc, next yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); err != nil && err != io.EOF {
		return nil, yamlError(err)
	}
	switch err := d.Decode(&next); {
	case err == nil:
		return nil, &lineError{max(next.Line, 1), "a second document begins here; put all into one"}
	case err != io.EOF:
		return nil, yamlError(err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	m := doc.Content[0]
	if m.Kind != yaml.MappingNode {
		return nil, &lineError{max(m.Line, 1), "this is no mapping of CIDR: LABEL; a file of CSV has a name that ends with .csv"}
	}
	list := make([]network, 0, len(m.Content)/2)
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		if k.Kind != yaml.ScalarNode || v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
			return nil, &lineError{k.Line, "this is not CIDR: LABEL"}
		}
		list = append(list, network{k.Line, k.Value, v.Value})
	}
	return list, nil
}

// yamlError returns an error of YAML's parser as one of its line, where that is known.
func yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if at, rest, ok := strings.Cut(text, ": "); ok {
		if line, err := strconv.Atoi(strings.TrimPrefix(at, "line ")); err == nil {
			return &lineError{line, "no YAML: " + rest}
		}
	}
	return errors.New("no YAML: " + text)
}

// readCSV reads lines of CIDR,LABEL. A first line of names is passed over.
func readCSV(data []byte) (list []network, err error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.Comment, r.ReuseRecord = -1, true, '#', true
	for {
		row, err := r.Read()
		if err == io.EOF {
			return list, nil
		}
		if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
			return nil, &lineError{wrong.Line, wrong.Err.Error()}
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if len(row) != 2 {
			return nil, &lineError{line, fmt.Sprintf("%d values; give CIDR,LABEL", len(row))}
		}
		cidr := strings.TrimSpace(row[0])
		if len(list) == 0 && slices.Contains([]string{"cidr", "network", "prefix", "subnet"}, strings.ToLower(cidr)) {
			continue
		}
		list = append(list, network{line, strings.Clone(cidr), strings.Clone(strings.TrimSpace(row[1]))})
	}
}

// parsePrefix reads a network, or an address as the network that has only it.
// IPv4-mapped IPv6 becomes IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if err != nil {
		return p, fmt.Errorf("%.60q is no network; give a CIDR such as 192.0.2.0/24 or 2001:db8::/32", s)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s has bits beyond its length; give %s", p, p.Masked())
	}
	return p, nil
}

// checkLabel refuses labels that records and metrics should not have.
func checkLabel(s string) error {
	switch {
	case s == "":
		return errors.New("the label is empty")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("the label %.60q is not allowed; give text in UTF-8 without control characters", s)
	case utf8.RuneCountInString(s) > maxLabel:
		return fmt.Errorf("the label has more than %d characters", maxLabel)
	}
	return nil
}
