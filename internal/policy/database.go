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

// database holds the rows of both databases, and keeps numbers up to date. Its methods are
// called with the lock of Policies held.
type database struct {
	numbers *numbers
	view    uint32

	acls    map[ovsdb.UUID]*acl
	samples map[ovsdb.UUID]sample
	apps    map[ovsdb.UUID]app
	dropApp map[ovsdb.UUID]globals
	flows   map[ovsdb.UUID]logicalFlow

	byHint map[uint32][]ovsdb.UUID // rows of ACL, by the first 32 bits; nil without flows
	hinted map[uint32][]uint32     // points of drops, by the hint

	left       []*acl                  // rows of ACL that were deleted
	dirty      map[ovsdb.UUID]struct{} // rows of ACL to be looked at
	dirtyAll   bool                    // all of them: a sample has another number
	dirtyHints map[uint32]struct{}
}

// globals is what is kept of the row of table NB_Global.
type globals struct {
	drop uint8 // 0 for none
	seen uint32
}

func newDatabase(n *numbers) *database {
	return &database{
		numbers: n,
		acls:    make(map[ovsdb.UUID]*acl), samples: make(map[ovsdb.UUID]sample),
		apps: make(map[ovsdb.UUID]app), dropApp: make(map[ovsdb.UUID]globals),
		flows: make(map[ovsdb.UUID]logicalFlow), hinted: make(map[uint32][]uint32),
		dirty: make(map[ovsdb.UUID]struct{}), dirtyHints: make(map[uint32]struct{}),
	}
}

// change takes over one row.
func (db *database) change(table string, id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	switch table {
	case tableACL:
		return db.changeACL(id, op, row)
	case tableSample:
		return db.changeSample(id, op, row)
	case tableApp:
		return db.changeApp(id, op, row)
	case tableGlobal:
		return db.changeGlobal(id, op, row)
	case tableFlow:
		return db.changeFlow(id, op, row)
	}
	return nil
}

func (db *database) changeACL(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	db.dirty[id] = struct{}{}
	a := db.acls[id]
	if op == ovsdb.Delete {
		if a != nil {
			db.deleteACL(id, a)
		}
		return nil
	}
	if a == nil {
		a = &acl{}
		for i := range a.ids {
			a.ids[i] = unique.Make("")
		}
		a.action, a.direction, a.name = unique.Make(""), unique.Make(""), unique.Make("")
		db.acls[id] = a
		if db.byHint != nil {
			db.byHint[id.Prefix()] = append(db.byHint[id.Prefix()], id)
		}
	}
	a.seen = db.view
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

func (db *database) changeSample(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	if op == ovsdb.Delete {
		delete(db.samples, id)
		db.dirtyAll = true
		return nil
	}
	n, err := row.Integer("metadata")
	if err != nil {
		return err
	}
	old, known := db.samples[id]
	if op == ovsdb.Modify && !row.Has("metadata") {
		n = int64(old.point)
	}
	db.samples[id] = sample{uint32(n), db.view}
	// Rows of ACL that refer to a new row come with it, or before it in the same view.
	db.dirtyAll = db.dirtyAll || known && old.point != uint32(n)
	return nil
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

func (db *database) changeApp(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	if op == ovsdb.Delete {
		delete(db.apps, id)
		return nil
	}
	a := db.apps[id]
	a.seen = db.view
	if row.Has("id") {
		n, err := row.Integer("id")
		if err != nil || n < 1 || n > 255 {
			return fmt.Errorf("id %d of a sampling application is not 1 to 255 (%w)", n, err)
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
	db.apps[id] = a
	return nil
}

// changeGlobal reads which application drops have in OVN before 24.09.
func (db *database) changeGlobal(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	if op == ovsdb.Delete {
		delete(db.dropApp, id)
		return nil
	}
	options, err := row.Map("options")
	if err != nil {
		return err
	}
	g := db.dropApp[id]
	g.seen = db.view
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
	db.dropApp[id] = g
	return err
}

// indexHints finds rows of ACL by what logical flows have of them.
func (db *database) indexHints() {
	db.byHint = make(map[uint32][]ovsdb.UUID, len(db.acls))
	for id := range db.acls {
		db.byHint[id.Prefix()] = append(db.byHint[id.Prefix()], id)
	}
}

// changeFlow keeps the flows that ACLs have made: "stage-hint" has the first 32 bits of the
// row that a flow was made of (northd, ovn_lflow_add_at), which may be of another table.
func (db *database) changeFlow(id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	external, err := row.Map("external_ids")
	if err != nil {
		return err
	}
	hint, hinted := uint64(0), false
	if text, ok := external["stage-hint"]; ok && op != ovsdb.Delete {
		if hint, err = strconv.ParseUint(text, 16, 32); err != nil {
			return fmt.Errorf("stage-hint %.20q: %w", text, err)
		}
		hinted = true
	}
	old, known := db.flows[id]
	if op == ovsdb.Modify && !row.Has("external_ids") || known && hinted && uint64(old.hint) == hint {
		if known {
			db.flows[id] = logicalFlow{old.hint, db.view}
		}
		return nil
	}
	if known {
		db.deleteFlow(id, old)
	}
	if hinted {
		db.flows[id] = logicalFlow{uint32(hint), db.view}
		if db.byHint == nil {
			db.indexHints()
		}
		db.hinted[uint32(hint)] = append(db.hinted[uint32(hint)], id.Prefix())
		db.dirtyHints[uint32(hint)] = struct{}{}
	}
	return nil
}
