package enrich

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// errNotStreamed reports that a text has a form that is not read piece by piece.
var errNotStreamed = errors.New("not a list that can be read item by item")

// streamObjects reads the objects of a YAML text piece by piece: the items of its lists, as kubectl
// prints them, and its documents. The parser makes a tree of what it reads, which takes twenty times
// the memory of the text, so it never gets more than one piece. The result is nil if the text is
// JSON, or of another form, or has a mistake: then it is for parseObjects to read it as a whole, and
// to name the line of the mistake.
func streamObjects(r io.ReadSeeker, owners *Owners, labels ...string) *snapshotObjects {
	start := bufio.NewReader(r)
	for {
		c, _, err := start.ReadRune()
		if err != nil || c == '{' {
			return nil
		}
		if !bytes.ContainsRune([]byte(" \t\r\n\ufeff"), c) {
			break
		}
	}
	o := &snapshotObjects{skipped: map[string]int{}, owners: owners, labels: labels}
	var lists []typeHead // of the documents that are lists, in order
	err := splitYAML(r, func([]byte) error { return nil }, func(head []byte, isList bool) error {
		if !isList {
			return nil
		}
		var h typeHead
		n, err := parsePiece(head)
		if err == nil {
			h, err = headOfList(n)
		}
		lists = append(lists, h)
		return err
	})
	if err != nil {
		return nil
	}
	found := false
	err = splitYAML(r, func(item []byte) error {
		n, err := parsePiece(item)
		if err != nil || n == nil || n.Kind != yaml.SequenceNode || len(n.Content) != 1 || len(lists) == 0 {
			return errNotStreamed
		}
		return o.addYAML(n.Content[0], lists[0], 1)
	}, func(text []byte, isList bool) error {
		if isList {
			found, lists = true, lists[1:]
			return nil
		}
		n, err := parsePiece(text)
		if err != nil || n == nil {
			return err
		}
		found = true
		return o.addYAML(n, typeHead{}, 0)
	})
	if err != nil || !found {
		return nil
	}
	return o
}

// parsePiece parses a text of one document, and returns its root; nil if it is empty.
func parsePiece(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

// headOfList returns the type of the items of a list, of which the root lacks the items.
func headOfList(n *yaml.Node) (h typeHead, err error) {
	if n == nil || n.Kind != yaml.MappingNode {
		return h, errNotStreamed
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch v := n.Content[i+1]; n.Content[i].Value {
		case "apiVersion":
			h.APIVersion = v.Value
		case "kind":
			h.Kind = v.Value
		case "items", "<<":
			return h, errNotStreamed
		}
	}
	item, ok := h.itemType()
	if !ok {
		return h, errNotStreamed
	}
	return item, nil
}

// yamlSplitter splits a text by its lines. A line that begins with a hyphen, no deeper than the
// first item of a list, begins the next one: what is inside of an item is deeper. Where YAML allows
// another reading, the pieces are no documents of their own, which the parser finds.
type yamlSplitter struct {
	item func([]byte) error                   // gets each item of a list, as a list of one
	end  func(rest []byte, isList bool) error // gets a document without its items

	rest, piece []byte
	state       yamlState
	isList      bool // the document has items
	indent      int  // of the items
}

// yamlState is what the next line may belong to.
type yamlState uint8

const (
	inDocument  yamlState = iota
	beforeItems           // after the line "items:"
	inItems
)

// splitYAML reads a text from its start, and calls the functions in order. The bytes are valid until
// they return.
func splitYAML(r io.ReadSeeker, item func([]byte) error, end func(rest []byte, isList bool) error) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s := &yamlSplitter{item: item, end: end}
	lines := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := readLine(lines)
		if len(line) > 0 {
			if err := s.add(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return s.endDocument()
		}
		if err != nil {
			return err
		}
	}
}

// readLine returns the next line with its end. It is valid until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := slices.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

// add adds a line.
func (s *yamlSplitter) add(line []byte) error {
	content := bytes.TrimLeft(line, " ")
	indent := len(line) - len(content)
	content = bytes.TrimRight(content, " \t\r\n")
	isEmpty := len(content) == 0 || content[0] == '#'
	isItem := startsWith(content, "-")
	if begins := startsWith(content, "---"); indent == 0 && (begins || startsWith(content, "...")) {
		err := s.endDocument()
		if begins {
			s.rest = append(s.rest, line...)
		}
		return err
	}
	switch s.state {
	case beforeItems:
		switch {
		case isEmpty:
			s.piece = append(s.piece, line...)
			return nil
		case isItem:
			s.state, s.isList, s.indent = inItems, true, indent
			s.piece = append(s.piece[:0], line...)
			return nil
		}
		s.rest = append(s.rest, s.piece...) // they are no such list
	case inItems:
		if isEmpty || indent > s.indent {
			s.piece = append(s.piece, line...)
			return nil
		}
		err := s.item(s.piece)
		if err != nil || isItem && indent == s.indent {
			s.piece = append(s.piece[:0], line...)
			return err
		}
	}
	s.state = inDocument
	if rest, ok := bytes.CutPrefix(content, []byte("items:")); ok && indent == 0 && !s.isList && (len(rest) == 0 || startsWith(bytes.TrimLeft(rest, " \t"), "#")) {
		s.state = beforeItems
		s.piece = append(s.piece[:0], line...)
		return nil
	}
	s.rest = append(s.rest, line...)
	return nil
}

// startsWith reports whether a line starts with an indicator of YAML, which is a word of its own.
func startsWith(content []byte, indicator string) bool {
	rest, ok := bytes.CutPrefix(content, []byte(indicator))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t')
}

func (s *yamlSplitter) endDocument() error {
	switch s.state {
	case beforeItems:
		s.rest = append(s.rest, s.piece...)
	case inItems:
		if err := s.item(s.piece); err != nil {
			return err
		}
	}
	err := s.end(s.rest, s.isList)
	s.rest, s.state, s.isList = s.rest[:0], inDocument, false
	return err
}
