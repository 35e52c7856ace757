package policy

import (
	"iter"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

// period is when something has changed, in Unix nanoseconds: after since and not after
// until. They are the same where changes are announced, and apart where two views differ.
type period struct{ since, until int64 }

// begin starts a whole view of the side's tables.
func (s *side) begin() { s.view++ }

// sweep drops the rows of some tables that were not in the view that began last.
func (s *side) sweep(tables []ovsdb.Table) {
	for _, t := range tables {
		switch t.Name {
		case tableACL:
			for id, a := range s.acls {
				if a.seen != s.view {
					s.dirty[id] = struct{}{}
					s.deleteACL(id, a)
				}
			}
		case tableSample:
			for id, row := range s.samples {
				if row.seen != s.view {
					delete(s.samples, id)
					s.dirtyAll = true
				}
			}
		case tableApp:
			deleteUnseen(s.apps, func(a app) bool { return a.seen == s.view })
		case tableGlobal:
			deleteUnseen(s.dropApp, func(g globals) bool { return g.seen == s.view })
		case tableFlow:
			for id, f := range s.flows {
				if f.seen != s.view {
					s.deleteFlow(id, f)
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
func (s *side) deleteACL(id ovsdb.UUID, a *acl) {
	delete(s.acls, id)
	s.left = append(s.left, a)
	if s.byHint == nil {
		return
	}
	hint := id.Prefix()
	rows := slices.DeleteFunc(s.byHint[hint], func(o ovsdb.UUID) bool { return o == id })
	if s.byHint[hint] = rows; len(rows) == 0 {
		delete(s.byHint, hint)
	}
}

func (s *side) deleteFlow(id ovsdb.UUID, f logicalFlow) {
	delete(s.flows, id)
	points := s.db.hinted[f.hint]
	if i := slices.Index(points, id.Prefix()); i >= 0 {
		points = slices.Delete(points, i, i+1)
	}
	if s.db.hinted[f.hint] = points; len(points) == 0 {
		delete(s.db.hinted, f.hint)
	}
	s.dirtyHints[f.hint] = struct{}{}
}

// settle brings numbers up to date with what has changed on this side within p, and
// publishes them.
func (s *side) settle(p period) {
	db := s.db
	for _, a := range s.left {
		db.unlist(a, p)
	}
	for id := range s.dirty {
		if a := s.acls[id]; a != nil {
			db.list(a, s.keys(id, a), p)
		}
	}
	// New maps: those of a whole view stay as large as it was.
	s.left, s.dirty = nil, make(map[ovsdb.UUID]struct{})
	for _, o := range db.sides {
		if s.dirtyAll {
			for id := range o.acls {
				o.again(id, p)
			}
		}
		for hint := range s.dirtyHints {
			for _, id := range o.byHint[hint] {
				o.again(id, p)
			}
		}
	}
	s.dirtyAll, s.dirtyHints = false, make(map[uint32]struct{})
	db.numbers.publish()
}

// again lists an ACL whose numbers may have changed, but not the ACL. One that has changed
// waits for its own side to settle: the view that it came with may break off.
func (s *side) again(id ovsdb.UUID, p period) {
	if _, changed := s.dirty[id]; !changed {
		a := s.acls[id]
		s.db.list(a, s.keys(id, a), p)
	}
}

// keys returns the numbers of an ACL. A label takes the place of the sample's number in
// versions that have both (northd, build_acl_sample).
func (s *side) keys(id ovsdb.UUID, a *acl) []key {
	var keys []key
	if verdict(a.action.Value()) == flow.VerdictDropped {
		for _, point := range s.db.hinted[id.Prefix()] {
			keys = append(keys, newKey(roleDrop, point))
		}
	}
	for r, id := range map[role]ovsdb.UUID{roleNew: a.new, roleEstablished: a.established} {
		row, ok := s.sample(id)
		if !ok {
			continue
		}
		keys = append(keys, newKey(r, row.point))
		if a.label != 0 && a.label != row.point {
			keys = append(keys, newKey(r, a.label))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// sample finds a row of table Sample, on the other side too: a file may have it.
func (s *side) sample(id ovsdb.UUID) (sample, bool) {
	if row, ok := s.samples[id]; ok {
		return row, true
	}
	for _, o := range s.db.sides {
		if row, ok := o.samples[id]; ok {
			return row, true
		}
	}
	return sample{}, false
}

// all yields the ACLs. One that both sides have is one.
func (db *database) all() iter.Seq[*acl] {
	return func(yield func(*acl) bool) {
		for i, s := range db.sides {
			for id, a := range s.acls {
				if i > sideNorth && db.sides[sideNorth].acls[id] != nil {
					continue
				}
				if !yield(a) {
					return
				}
			}
		}
	}
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
	for _, s := range db.sides {
		for _, g := range s.dropApp {
			if g.drop != 0 {
				roles[g.drop] = roleDrop
			}
		}
	}
	for _, s := range db.sides {
		for _, a := range s.apps {
			roles[a.id] = a.role
		}
	}
	return roles
}
