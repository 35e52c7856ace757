package recent

// Size says how much a [Store] has. To know it costs little.
type Size struct {
	// Records is how many records can be read, Bytes what they take of Room.
	Records, Bytes, Room uint64
	// Seen is how many records each worker has had, by its number. A worker whose records have
	// all left since is missing.
	Seen map[int]uint64
}

// Size returns how much there is.
func (s *Store) Size() Size {
	size := Size{Room: uint64(len(s.slots)) * segmentBytes, Seen: make(map[int]uint64)}
	for _, l := range s.glances() {
		size.Records += uint64(l.count)
		size.Bytes += uint64(l.used)
		size.Seen[l.worker] = max(size.Seen[l.worker], l.first+uint64(l.count))
	}
	return size
}
