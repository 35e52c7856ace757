package collector

// Data sets that wait are kept packed: more than half of a record of Open vSwitch is
// zeros. A packed set is a sequence of groups. Each begins with a byte that says how
// many zeros come first (upper half) and how many other bytes follow it (lower half). It
// takes at most a fifteenth more than the set, and one byte.

const maxGroup = 15 // zeros and other bytes of a group

// appendPacked appends a packed data set.
func appendPacked(to, set []byte) []byte {
	for len(set) > 0 {
		zeros := 0
		for zeros < len(set) && zeros < maxGroup && set[zeros] == 0 {
			zeros++
		}
		set = set[zeros:]
		n := 0
		// One zero between others costs no more than the byte of a group.
		for n < len(set) && n < maxGroup && !(set[n] == 0 && n+1 < len(set) && set[n+1] == 0) {
			n++
		}
		to = append(to, byte(zeros<<4|n))
		to = append(to, set[:n]...)
		set = set[n:]
	}
	return to
}

// appendUnpacked appends the data set that was packed.
func appendUnpacked(to []byte, packed string) []byte {
	var none [maxGroup]byte
	for len(packed) > 0 {
		zeros, n := packed[0]>>4, packed[0]&maxGroup
		to = append(to, none[:zeros]...)
		to = append(to, packed[1:1+n]...)
		packed = packed[1+n:]
	}
	return to
}
