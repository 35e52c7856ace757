package flow

// FieldSet is a set of fields of [Fields]. The zero value is the empty one.
type FieldSet [4]uint64

// Add puts fields into the set.
func (s *FieldSet) Add(ids ...FieldID) {
	for _, id := range ids {
		s[id/64] |= 1 << (id % 64)
	}
}

// Union puts the fields of another set into the set.
func (s *FieldSet) Union(other FieldSet) {
	for i := range s {
		s[i] |= other[i]
	}
}

// Has reports whether a field is in the set.
func (s *FieldSet) Has(id FieldID) bool { return s[id/64]&(1<<(id%64)) != 0 }
