package ovsdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	// maxValue bounds one value of JSON that is read as a whole: a row, a schema, the
	// parameters of a call.
	maxValue = 4 << 20
	// maxRows bounds the rows of one view.
	maxRows = 4 << 20
)

var (
	errValueTooLong = fmt.Errorf("a value of more than %d MiB", maxValue>>20)
	errTooManyRows  = fmt.Errorf("more than %d rows", maxRows)
)

// decoder reads JSON value by value, so that a message of any size takes the room of one
// row.
type decoder struct {
	*json.Decoder
	in *limited
}

func newDecoder(r io.Reader) *decoder {
	in := &limited{r: r, room: maxValue}
	return &decoder{Decoder: json.NewDecoder(in), in: in}
}

// limited fails once more than its room has been read.
type limited struct {
	r    io.Reader
	room int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.room <= 0 {
		return 0, errValueTooLong
	}
	n, err := l.r.Read(b[:min(len(b), l.room)])
	l.room -= n
	return n, err
}

// value decodes the next value.
func (d *decoder) value(v any) error {
	d.in.room = maxValue
	return d.Decode(v)
}

// token returns the next token. A string that is too long is an error.
func (d *decoder) token() (json.Token, error) {
	d.in.room = maxValue
	return d.Token()
}

// text returns the next token, which has to be a string, such as a key.
func (d *decoder) text() (string, error) {
	t, err := d.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%v where text was expected", t)
	}
	return s, nil
}

// open reads the next token, which has to be an opening bracket.
func (d *decoder) open(bracket json.Delim) error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t != bracket {
		return fmt.Errorf("%v where %v was expected", t, bracket)
	}
	return nil
}

// members calls f for each member of an object whose opening bracket has been read, after
// its key. f reads the value. The closing bracket is read, too.
func (d *decoder) members(f func(key string) error) error {
	for d.More() {
		key, err := d.text()
		if err != nil {
			return err
		}
		if err := f(key); err != nil {
			return err
		}
	}
	_, err := d.token()
	return err
}

// tables reads what monitor_cond returns, and what its updates have: an object of tables,
// each an object of rows by UUID, each with what happened to it.
func (d *decoder) tables(row func(table string, id UUID, op Op, r Row) error) error {
	rows := 0
	return d.members(func(table string) error {
		if err := d.open('{'); err != nil {
			return err
		}
		return d.members(func(key string) error {
			if rows++; rows > maxRows {
				return errTooManyRows
			}
			id, err := ParseUUID(key)
			if err != nil {
				return err
			}
			var change map[string]Row
			if err := d.value(&change); err != nil {
				return err
			}
			for name, r := range change {
				op, ok := ops[name]
				if !ok {
					return fmt.Errorf("unknown change %.20q of a row", name)
				}
				if err := row(table, id, op, r); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// ops are the members of a row's update (ovsdb-server(7), section 4.1.14).
var ops = map[string]Op{"initial": Insert, "insert": Insert, "modify": Modify, "delete": Delete}

// remoteError is the error that a server answered with.
type remoteError struct {
	Name    string `json:"error"`
	Details string `json:"details"`
}

// parseError returns what the member error of a response says, nil for null.
func parseError(raw json.RawMessage) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var e remoteError
	if json.Unmarshal(raw, &e) == nil && e.Name != "" {
		if e.Details != "" {
			return fmt.Errorf("%s: %s", e.Name, e.Details)
		}
		return errors.New(e.Name)
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return errors.New(s)
	}
	return fmt.Errorf("%.100s", raw)
}
