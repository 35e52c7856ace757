package policy

import (
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

// period is when something has changed, in Unix nanoseconds: after since and not after
// until. They are the same where changes are announced, and apart where two views differ.
type period struct{ since, until int64 }

// begin starts a whole view of the tables of one database.
func (db *database) begin() { db.view++ }

// sweep drops the rows of some tables that were not in the view that began last.
func (db *database) sweep(tables []ovsdb.Table) {
	for _, t := range tables {
		switch t.Name {
		case tableACL:
			for id, a := range db.acls {
				if a.seen != db.view {
					db.dirty[id] = struct{}{}
					db.deleteACL(id, a)
				}
			}
		case tableSample:
			for id, s := range db.samples {
				if s.seen != db.view {
					delete(db.samples, id)
					db.dirtyAll = true
				}
			}
		case tableApp:
			deleteUnseen(db.apps, func(a app) bool { return a.seen == db.view })
		case tableGlobal:
			deleteUnseen(db.dropApp, func(g globals) bool { return g.seen == db.view })
		case tableFlow:
			for id, f := range db.flows {
				if f.seen != db.view {
					db.deleteFlow(id, f)
				}
			}
		}
	}
}

func deleteUnseen[V any](m map[ovsdb.UUID]V, seen func(V) bool) {
	for id, v := range m {
		if !seen(v) {
			delete(m, id)
		}
	}
}

// deleteACL forgets a row. What numbers have of it goes with settle.
func (db *database) deleteACL(id ovsdb.UUID, a *acl) {
	delete(db.acls, id)
	db.left = append(db.left, a)
	if db.byHint == nil {
		return
	}
	hint := id.Prefix()
	if db.byHint[hint] = slices.DeleteFunc(db.byHint[hint], func(o ovsdb.UUID) bool { return o == id }); len(db.byHint[hint]) == 0 {
		delete(db.byHint, hint)
	}
}

func (db *database) deleteFlow(id ovsdb.UUID, f logicalFlow) {
	delete(db.flows, id)
	points := db.hinted[f.hint]
	if i := slices.Index(points, id.Prefix()); i >= 0 {
		points = slices.Delete(points, i, i+1)
	}
	if db.hinted[f.hint] = points; len(points) == 0 {
		delete(db.hinted, f.hint)
	}
	db.dirtyHints[f.hint] = struct{}{}
}

// settle brings numbers up to date with what has changed within p, and publishes them.
func (db *database) settle(p period) {
	for _, a := range db.left {
		db.unlist(a, p)
	}
	db.left = nil
	for hint := range db.dirtyHints {
		for _, id := range db.byHint[hint] {
			db.dirty[id] = struct{}{}
		}
	}
	if db.dirtyAll {
		for id, a := range db.acls {
			db.list(a, db.keys(id, a), p)
		}
	}
	for id := range db.dirty {
		if a := db.acls[id]; a != nil && !db.dirtyAll {
			db.list(a, db.keys(id, a), p)
		}
	}
	// New maps: those of a whole view stay as large as it was.
	db.dirty, db.dirtyHints = make(map[ovsdb.UUID]struct{}), make(map[uint32]struct{})
	db.dirtyAll = false
	db.numbers.publish()
}

// keys returns the numbers of an ACL. A label takes the place of the sample's number in
// versions that have both (northd, build_acl_sample).
func (db *database) keys(id ovsdb.UUID, a *acl) []key {
	var keys []key
	if verdict(a.action.Value()) == flow.VerdictDropped {
		for _, point := range db.hinted[id.Prefix()] {
			keys = append(keys, newKey(roleDrop, point))
		}
	}
	for r, id := range map[role]ovsdb.UUID{roleNew: a.new, roleEstablished: a.established} {
		s, ok := db.samples[id]
		if !ok {
			continue
		}
		keys = append(keys, newKey(r, s.point))
		if a.label != 0 && a.label != s.point {
			keys = append(keys, newKey(r, a.label))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// unlist takes an ACL out of numbers.
func (db *database) unlist(a *acl, p period) {
	for _, k := range a.keys {
		db.numbers.remove(k, a.shown.Decision, p.until)
	}
	a.keys = nil
}

// list brings numbers up to date with an ACL.
func (db *database) list(a *acl, keys []key, p period) {
	d := decide(a.action.Value(), a.direction.Value(), a.name.Value(), a.ids)
	if a.shown != nil && a.shown.Decision != d {
		db.unlist(a, p)
		a.shown = nil
	}
	if a.shown == nil && len(keys) > 0 {
		a.shown = show(d, "")
	}
	for _, k := range a.keys {
		if !slices.Contains(keys, k) {
			db.numbers.remove(k, d, p.until)
		}
	}
	for _, k := range keys {
		if !slices.Contains(a.keys, k) {
			db.numbers.add(k, a.shown, p.since)
		}
	}
	a.keys = keys
}

// application returns what an application samples. What neither database says is as
// OVN-Kubernetes numbers them (go-controller/pkg/observability).
func (db *database) applications() (roles [256]role) {
	roles[1], roles[2], roles[3] = roleDrop, roleNew, roleEstablished
	for _, g := range db.dropApp {
		if g.drop != 0 {
			roles[g.drop] = roleDrop
		}
	}
	for _, a := range db.apps {
		roles[a.id] = a.role
	}
	return roles
}
