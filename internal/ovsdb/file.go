package ovsdb

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// ReadFile hands a receiver the rows of those tables that are in a file, as one whole view.
// The file has what "ovn-nbctl --format=json list TABLE" writes, any number of times. Other
// tables are passed over. ReadFile returns the names of the tables that it found.
//
// A file that is wrong is handed over in part, and End is not called then. It takes the room
// of one row: a table whose headings follow its rows is read twice. The error is one line,
// names the place in the file, and says what to do.
func ReadFile(name string, tables []Table, to Receiver) (found []string, err error) {
	found, err = readFile(name, tables, to)
	if err != nil {
		return nil, &explained{err, advice}
	}
	return found, nil
}

// advice says how a file comes about.
const advice = `write it with "ovn-nbctl --format=json list ACL", and so on`

func readFile(name string, tables []Table, to Receiver) (found []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &lists{file: f, tables: tables, to: to}
	switch info, err := f.Stat(); {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory; give a file", name)
	case !info.Mode().IsRegular(): // a pipe cannot be read twice
		text, err := io.ReadAll(io.LimitReader(f, maxPipe))
		if err != nil {
			return nil, err
		}
		l.file = bytes.NewReader(text)
	}
	to.Begin()
	if err := l.read(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(l.found) == 0 {
		return nil, fmt.Errorf("%s: %w", name, l.nothing())
	}
	to.End()
	return l.found, nil
}

// maxPipe bounds what is read of a file that is a pipe.
const maxPipe = 256 << 20

// lists reads tables one after the other.
type lists struct {
	file   io.ReaderAt
	tables []Table
	to     Receiver

	found  []string
	others [][]string // headings of tables that are none of ours
	rows   int
}

func (l *lists) nothing() error {
	if len(l.others) == 0 {
		return errors.New("holds no table")
	}
	return fmt.Errorf("holds none of the tables %s, but one with the columns %.200s",
		tableNames(l.tables), strings.Join(l.others[0], ","))
}

func tableNames(tables []Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name
	}
	return strings.Join(names, ", ")
}

// read reads all tables of the file.
func (l *lists) read() error {
	d := newDecoder(l.from(0))
	for {
		t, err := d.token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && t != json.Delim('{') {
			err = fmt.Errorf("%.40v where a table was expected", t)
		}
		if err == nil {
			err = l.list(d)
		}
		if err != nil {
			return l.place(err, d.InputOffset())
		}
	}
}

// place says where in the file an error is.
func (l *lists) place(err error, offset int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("ends within a table")
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		err = fmt.Errorf("is no JSON of ovn-nbctl --format=json: %w", err)
	}
	before := io.LimitReader(l.from(0), offset)
	line, buffer := 1, make([]byte, 64<<10)
	for {
		n, readErr := before.Read(buffer)
		line += strings.Count(string(buffer[:n]), "\n")
		if readErr != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// list reads one table, whose opening bracket has been read.
func (l *lists) list(d *decoder) error {
	var headings []string
	var table *Table
	data := int64(-1) // where the rows are, if they come before the headings
	err := d.members(func(key string) error {
		switch key {
		case "headings":
			if err := d.value(&headings); err != nil {
				return err
			}
			if table = l.identify(headings); table == nil {
				l.others = append(l.others, headings)
			}
			return nil
		case "data":
			if headings == nil {
				data = d.InputOffset()
				return l.data(d, func([]json.RawMessage) error { return nil })
			}
			return l.data(d, l.receive(table, headings))
		}
		var ignored json.RawMessage
		return d.value(&ignored)
	})
	if err != nil || data < 0 || table == nil {
		return err
	}
	again := bufio.NewReader(l.from(data))
	if _, err := again.ReadString(':'); err != nil { // what is between the key and its value
		return err
	}
	return l.data(newDecoder(again), l.receive(table, headings))
}

// from returns a reader of the file from an offset on.
func (l *lists) from(offset int64) io.Reader {
	return io.NewSectionReader(l.file, offset, math.MaxInt64-offset)
}

// identify returns the table with such columns, nil if it is none of ours.
func (l *lists) identify(headings []string) *Table {
	for i := range l.tables {
		t := &l.tables[i]
		if !slices.ContainsFunc(t.Marks, func(c string) bool { return !slices.Contains(headings, c) }) {
			if !slices.Contains(l.found, t.Name) {
				l.found = append(l.found, t.Name)
			}
			return t
		}
	}
	return nil
}

// data calls f for each row of a table.
func (l *lists) data(d *decoder, f func(cells []json.RawMessage) error) error {
	if err := d.open('['); err != nil {
		return err
	}
	for d.More() {
		var cells []json.RawMessage
		if err := d.value(&cells); err != nil {
			return err
		}
		if err := f(cells); err != nil {
			return err
		}
	}
	_, err := d.token()
	return err
}

// receive returns a function that hands a row of a table to the receiver. It does nothing
// if the table is nil.
func (l *lists) receive(table *Table, headings []string) func(cells []json.RawMessage) error {
	return func(cells []json.RawMessage) error {
		if table == nil {
			return nil
		}
		if len(cells) != len(headings) {
			return fmt.Errorf("a row of table %s has %d columns, not %d", table.Name, len(cells), len(headings))
		}
		if l.rows++; l.rows > maxRows {
			return errTooManyRows
		}
		row := make(Row, len(table.Columns)+1)
		for i, h := range headings {
			if h == "_uuid" || slices.Contains(table.Columns, h) {
				row[h] = cells[i]
			}
		}
		id, err := row.UUID("_uuid")
		if err != nil {
			return fmt.Errorf("table %s: %w", table.Name, err)
		}
		if id == (UUID{}) {
			return fmt.Errorf("table %s has no column _uuid; list all columns", table.Name)
		}
		if err := l.to.Change(table.Name, id, Insert, row); err != nil {
			return fmt.Errorf("table %s: %w", table.Name, err)
		}
		return nil
	}
}
