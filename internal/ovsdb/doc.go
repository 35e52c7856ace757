// Package ovsdb reads tables of a database of Open vSwitch's database server: as they are
// and as they change, by the protocol of RFC 7047 with the extension monitor_cond of
// ovsdb-server(7), or from files that ovn-nbctl or ovn-sbctl have written.
//
// It writes nothing to a database, and keeps no rows: a [Receiver] does.
package ovsdb

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Table is a table that is read.
type Table struct {
	Name string
	// Columns are those that are asked for. A column that the schema lacks is left out.
	Columns []string
	// Marks are columns by which a table in a file is known to be this one. No other table
	// has all of them.
	Marks []string
}

// Op is what has happened to a row.
type Op uint8

// The kinds of changes.
const (
	// Insert is a new row, or one of the first view. It has all columns, but those of
	// monitor_cond may lack the ones that have their default value.
	Insert Op = iota
	// Modify has the columns that have changed: the new values of single ones and of
	// optional ones, and for sets and maps what differs (ovsdb-server(7), section 4.1.14).
	Modify
	// Delete has no columns.
	Delete
)

// Receiver takes rows. Its methods are called by one goroutine.
type Receiver interface {
	// Begin says that a whole view follows: rows that are not inserted before the next End
	// are gone. Where the view breaks off, there is another Begin, or none, before the End.
	Begin()
	// Change hands over one row. The row is the receiver's. An error concerns this row
	// alone.
	Change(table string, id UUID, op Op, row Row) error
	// End says that all rows of a message, or of a file, have been handed over.
	End()
	// Lost says that the view is kept up to date no longer: it was right until a time.
	Lost(right time.Time)
}

// UUID identifies a row.
type UUID [16]byte

// ParseUUID reads a UUID as RFC 7047 writes it: 36 characters.
func ParseUUID(s string) (id UUID, err error) {
	// The dashes' places matter: without four of them there are more digits than id has room.
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
		if _, err := hex.Decode(id[:], []byte(digits)); err == nil {
			return id, nil
		}
	}
	return UUID{}, fmt.Errorf("%.40q is no UUID", s)
}

// Prefix returns the first 32 bits of the UUID.
func (id UUID) Prefix() uint32 {
	return uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3])
}

// Row has the columns of a row, as JSON (RFC 7047, section 5.1). The methods return zero
// values for columns that the row lacks.
type Row map[string]json.RawMessage

// Has reports whether the row has a column.
func (r Row) Has(column string) bool { _, ok := r[column]; return ok }

// String returns a column of text, or an optional one.
func (r Row) String(column string) (s string, err error) {
	err = r.single(column, &s)
	return s, err
}

// Integer returns a column of numbers, or an optional one.
func (r Row) Integer(column string) (n int64, err error) {
	err = r.single(column, &n)
	return n, err
}

// UUID returns a column of references, or an optional one: zero if it is empty.
func (r Row) UUID(column string) (UUID, error) {
	var pair [2]string
	if err := r.single(column, &pair); err != nil || pair == ([2]string{}) {
		return UUID{}, err
	}
	id, err := ParseUUID(pair[1])
	if err != nil || pair[0] != "uuid" {
		return UUID{}, fmt.Errorf("column %s: %.60q is no reference", column, r[column])
	}
	return id, nil
}

// Map returns a column that maps text to text.
func (r Row) Map(column string) (map[string]string, error) {
	raw, ok := r[column]
	if !ok {
		return nil, nil //nolint:nilnil // a nil map is empty
	}
	var tagged []json.RawMessage
	var tag string
	var pairs [][2]string
	if err := json.Unmarshal(raw, &tagged); err != nil || len(tagged) != 2 ||
		json.Unmarshal(tagged[0], &tag) != nil || tag != "map" || json.Unmarshal(tagged[1], &pairs) != nil {
		return nil, fmt.Errorf("column %s: %.60q is no map of text", column, raw)
	}
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		m[p[0]] = p[1]
	}
	return m, nil
}

var errNoSet = errors.New("no set of at most one value")

// single decodes a column of one value, or of a set of at most one.
func (r Row) single(column string, v any) error {
	raw, ok := r[column]
	if !ok {
		return nil
	}
	if set, ok := strings.CutPrefix(string(raw), `["set",`); ok {
		var elements []json.RawMessage
		if err := json.Unmarshal([]byte(strings.TrimSuffix(set, "]")), &elements); err != nil || len(elements) > 1 {
			return fmt.Errorf("column %s: %.60q: %w", column, raw, errNoSet)
		}
		if len(elements) == 0 {
			return nil
		}
		raw = elements[0]
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("column %s: %.60q: %w", column, raw, err)
	}
	return nil
}
