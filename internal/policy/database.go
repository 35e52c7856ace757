package policy

import (
	"fmt"
	"strconv"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

// Tables of OVN's northbound and southbound databases (ovn-nb(5), ovn-sb(5)).
const (
	tableACL    = "ACL"
	tableSample = "Sample"
	tableApp    = "Sampling_App"
	tableGlobal = "NB_Global"
	tableFlow   = "Logical_Flow"
)

// northbound and southbound are the tables that are read, with the columns.
func northbound() []ovsdb.Table {
	return []ovsdb.Table{
		{Name: tableACL, Columns: []string{"action", "direction", "external_ids", "label", "name", "sample_est", "sample_new"}, Marks: []string{"action", "direction", "external_ids"}},
		{Name: tableSample, Columns: []string{"metadata"}, Marks: []string{"metadata"}},
		{Name: tableApp, Columns: []string{"id", "type"}, Marks: []string{"id", "type"}},
		{Name: tableGlobal, Columns: []string{"options"}, Marks: []string{"nb_cfg", "options"}},
	}
}

func southbound() []ovsdb.Table {
	return []ovsdb.Table{
		{Name: tableFlow, Columns: []string{"external_ids"}, Marks: []string{"external_ids", "pipeline"}},
	}
}

// acl is what is kept of a row of table ACL.
type acl struct {
	ids                     ids
	action, direction, name unique.Handle[string]
	label                   uint32
	new, established        ovsdb.UUID // rows of table Sample
	seen                    uint32     // the view that the row was in last

	shown *shown // as it is in numbers
	keys  []key  // under which it is there
}

// sample is a row of table Sample.
type sample struct {
	point uint32
	seen  uint32
}

// app is a row of table Sampling_App.
type app struct {
	id   uint8
	role role
	seen uint32
}

// logicalFlow is a row of table Logical_Flow that an ACL has made.
type logicalFlow struct {
	hint uint32 // the first 32 bits of the ACL's UUID
	seen uint32
}

// globals is what is kept of the row of table NB_Global.
type globals struct {
	drop uint8 // 0 for none
	seen uint32
}

// database keeps numbers up to date with the rows of both sides. Its methods, and those of
// the sides, are called with the lock of Policies held.
type database struct {
	numbers *numbers
	sides   [numSides]*side
	hinted  map[uint32][]uint32 // points of drops, by the hint
	hints   bool                // whether there were logical flows: byHint is kept
}

// side has the rows that one flag's database or file has. They are its own: a view of it
// says nothing of the rows that the other side has, even under the same UUID.
type side struct {
	db   *database
	view uint32

	acls    map[ovsdb.UUID]*acl
	samples map[ovsdb.UUID]sample
	apps    map[ovsdb.UUID]app
	dropApp map[ovsdb.UUID]globals
	flows   map[ovsdb.UUID]logicalFlow
	byHint  map[uint32][]ovsdb.UUID // rows of ACL, by the first 32 bits; nil without flows

	// What settle will look at.
	left       []*acl                  // rows of ACL that were deleted
	dirty      map[ovsdb.UUID]struct{} // rows of ACL that have changed
	dirtyAll   bool                    // all of them: a sample has another number
	dirtyHints map[uint32]struct{}
}

// The sides, by the flag that names them.
const (
	sideNorth = iota // -ovn.nb
	sideSouth        // -ovn.sb
	numSides
)

func newDatabase(n *numbers) *database {
	db := &database{numbers: n, hinted: make(map[uint32][]uint32)}
	for i := range db.sides {
		db.sides[i] = &side{
			db:   db,
			acls: make(map[ovsdb.UUID]*acl), samples: make(map[ovsdb.UUID]sample),
			apps: make(map[ovsdb.UUID]app), dropApp: make(map[ovsdb.UUID]globals),
			flows: make(map[ovsdb.UUID]logicalFlow),
			dirty: make(map[ovsdb.UUID]struct{}), dirtyHints: make(map[uint32]struct{}),
		}
	}
	return db
}

// change takes over one row.
func (s *side) change(table string, id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	switch table {
	case tableACL:
		return s.changeACL(id, op, row)
	case tableSample:
		return s.changeSample(id, op, row)
	case tableApp:
		return s.changeApp(id, op, row)
	case tableGlobal:
		return s.changeGlobal(id, op, row)
	case tableFlow:
		return s.changeFlow(id, op, row)
	}
	return nil
}

func (s *side) changeACL(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	s.dirty[id] = struct{}{}
	a := s.acls[id]
	if op == ovsdb.Delete {
		if a != nil {
			s.deleteACL(id, a)
		}
		return nil
	}
	if a == nil {
		a = &acl{}
		for i := range a.ids {
			a.ids[i] = unique.Make("")
		}
		a.action, a.direction, a.name = unique.Make(""), unique.Make(""), unique.Make("")
		s.acls[id] = a
		if s.byHint != nil {
			s.byHint[id.Prefix()] = append(s.byHint[id.Prefix()], id)
		}
	}
	a.seen = s.view
	return a.update(op, row)
}

// update takes over the columns of a row. An error leaves those that can be read.
func (a *acl) update(op ovsdb.Op, row ovsdb.Row) (err error) {
	keep := func(e error) {
		if err == nil {
			err = e
		}
	}
	for column, to := range map[string]*unique.Handle[string]{"action": &a.action, "direction": &a.direction, "name": &a.name} {
		if op == ovsdb.Insert || row.Has(column) {
			s, e := row.String(column)
			keep(e)
			*to = unique.Make(s)
		}
	}
	for column, to := range map[string]*ovsdb.UUID{"sample_new": &a.new, "sample_est": &a.established} {
		if op == ovsdb.Insert || row.Has(column) {
			id, e := row.UUID(column)
			keep(e)
			*to = id
		}
	}
	if op == ovsdb.Insert || row.Has("label") {
		n, e := row.Integer("label")
		keep(e)
		a.label = uint32(n)
	}
	external, e := row.Map("external_ids")
	keep(e)
	for i, name := range keptIDs {
		switch v, ok := external[name]; {
		case op == ovsdb.Insert:
			a.ids[i] = unique.Make(v)
		case ok && v == a.ids[i].Value(): // a difference has what was removed, too
			a.ids[i] = unique.Make("")
		case ok:
			a.ids[i] = unique.Make(v)
		}
	}
	return err
}

func (s *side) changeSample(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	if op == ovsdb.Delete {
		delete(s.samples, id)
		s.dirtyAll = true
		return nil
	}
	n, err := row.Integer("metadata")
	if err != nil {
		return err
	}
	old, known := s.samples[id]
	if op == ovsdb.Modify && !row.Has("metadata") {
		n = int64(old.point)
	}
	s.samples[id] = sample{uint32(n), s.view}
	// Rows of ACL that refer to a new row come with it, or before it in the same view. Those
	// of the other side may have come long before.
	s.dirtyAll = s.dirtyAll || known && old.point != uint32(n) || !known && s.others()
	return nil
}

// others reports whether the other side has ACLs.
func (s *side) others() bool {
	for _, o := range s.db.sides {
		if o != s && len(o.acls) > 0 {
			return true
		}
	}
	return false
}

// roles are the applications (ovn-nb(5), Sampling_App.type).
func roleOf(typ string) role {
	switch typ {
	case "drop":
		return roleDrop
	case "acl-new":
		return roleNew
	case "acl-est":
		return roleEstablished
	}
	return roleNone
}

func (s *side) changeApp(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	if op == ovsdb.Delete {
		delete(s.apps, id)
		return nil
	}
	a := s.apps[id]
	a.seen = s.view
	if row.Has("id") {
		n, err := row.Integer("id")
		if err != nil {
			return err
		}
		if n < 1 || n > 255 {
			return fmt.Errorf("id %d of a sampling application is not 1 to 255", n)
		}
		a.id = uint8(n)
	}
	if row.Has("type") {
		typ, err := row.String("type")
		if err != nil {
			return err
		}
		a.role = roleOf(typ)
	}
	s.apps[id] = a
	return nil
}

// changeGlobal reads which application drops have in OVN before 24.09.
func (s *side) changeGlobal(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	if op == ovsdb.Delete {
		delete(s.dropApp, id)
		return nil
	}
	options, err := row.Map("options")
	if err != nil {
		return err
	}
	g := s.dropApp[id]
	g.seen = s.view
	text, ok := options["debug_drop_domain_id"]
	n, parseErr := strconv.ParseUint(text, 0, 8)
	switch {
	case !ok && op == ovsdb.Insert:
		g.drop = 0
	case !ok:
	case parseErr != nil:
		err = fmt.Errorf("option debug_drop_domain_id %.20q: %w", text, parseErr)
	case op == ovsdb.Modify && n == uint64(g.drop): // a difference has what was removed, too
		g.drop = 0
	default:
		g.drop = uint8(n)
	}
	s.dropApp[id] = g
	return err
}

// indexHints finds rows of ACL by what logical flows have of them, from now on.
func (db *database) indexHints() {
	if db.hints {
		return
	}
	db.hints = true
	for _, s := range db.sides {
		s.byHint = make(map[uint32][]ovsdb.UUID, len(s.acls))
		for id := range s.acls {
			s.byHint[id.Prefix()] = append(s.byHint[id.Prefix()], id)
		}
	}
}

// changeFlow keeps the flows that ACLs have made: "stage-hint" has the first 32 bits of the
// row that a flow was made of (northd, ovn_lflow_add_at), which may be of another table.
func (s *side) changeFlow(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	external, err := row.Map("external_ids")
	if err != nil {
		return err
	}
	old, known := s.flows[id]
	text, hinted := external["stage-hint"]
	hint := uint64(0)
	if hinted && op != ovsdb.Delete {
		if hint, err = strconv.ParseUint(text, 16, 32); err != nil {
			return fmt.Errorf("stage-hint %.20q is no hexadecimal number of 32 bits", text)
		}
	}
	same := known && uint64(old.hint) == hint
	switch {
	case op == ovsdb.Delete:
		hinted = false
	case op == ovsdb.Modify && known && !hinted || op == ovsdb.Insert && hinted && same:
		s.flows[id] = logicalFlow{old.hint, s.view}
		return nil
	case op == ovsdb.Modify && same: // a difference has what was removed, too
		hinted = false
	}
	if known {
		s.deleteFlow(id, old)
	}
	if hinted {
		s.flows[id] = logicalFlow{uint32(hint), s.view}
		s.db.indexHints()
		s.db.hinted[uint32(hint)] = append(s.db.hinted[uint32(hint)], id.Prefix())
		s.dirtyHints[uint32(hint)] = struct{}{}
	}
	return nil
}
