// Package steps counts what decoding takes, for tests that look for the dearest byte of a
// datagram: time would not be the same twice. Without the build tag steps it does nothing,
// and costs nothing.
//
// One step is a turn of a loop, or 16 bytes copied. What takes longer than that counts as
// several.
package steps

// What takes longer than a turn of a loop, in steps, by about as much.
const (
	Lookup     = 4 // in a hash map
	Lock       = 4 // locking and unlocking
	Miss       = 2 // an entry somewhere in memory
	Allocation = 7 // besides what is copied there
	Record     = 4 // clearing a record and handing it on
)
