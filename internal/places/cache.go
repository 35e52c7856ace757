package places

import "math/bits"

// A cache has cacheSets sets of cacheWays addresses. If an address could be in one place
// alone, half of 10,000 addresses would be in the way of others.
const (
	cacheBits = 12
	cacheSets = 1 << cacheBits
	cacheWays = 8
)

// golden is the multiplier of Fibonacci hashing: the upper bits of the product depend on
// all bits of the number.
const golden = 0x9e3779b97f4a7c15

// hash4 makes the hash of an address of IPv4. The cache multiplies it once more: after one
// multiplication, addresses at some distances from each other all fall in a few sets.
func hash4(key uint32) uint64 {
	h := uint64(key) * golden
	return h ^ h>>32
}

// hash6 makes the hash of an address of IPv6. Both halves count alike: hosts of one network
// differ in the lower one, and the first hosts of many networks in the upper one.
func hash6(key [2]uint64) uint64 {
	// Without these two, a half of zeros would hide the other one.
	const upper, lower = 0xd1b54a32d192ed03, 0xaef17502108ef2d9
	hi, lo := bits.Mul64(key[0]^upper, key[1]^lower)
	return hi ^ lo
}

// cache remembers numbers of addresses, at most cacheSets*cacheWays. It is used by one
// goroutine at a time. Its zero value is empty.
type cache[K comparable] struct {
	sets []set[K] // nil before the first address
}

// set has the addresses of one hash, the newest first. For IPv4 it is one cache line: with
// many addresses, waiting for these lines takes most of the time.
type set[K comparable] struct {
	keys    [cacheWays]K
	numbers [cacheWays]uint32 // those of the keys, and 1; 0 for a place that is free
}

// find returns the number of an address. The hash is a number made of the key.
func (c *cache[K]) find(hash uint64, key K) (number uint32, ok bool) {
	if c.sets == nil {
		return 0, false
	}
	s := &c.sets[hash*golden>>(64-cacheBits)]
	// All are compared, since which one it is cannot be foreseen. It is no loop, which takes longer
	// among the other work on a record: see BenchmarkPlaces of the command.
	const _ = uint(8 - cacheWays) // there are no further ones
	var n uint32
	if s.keys[7] == key {
		n = s.numbers[7]
	}
	if s.keys[6] == key {
		n = s.numbers[6]
	}
	if s.keys[5] == key {
		n = s.numbers[5]
	}
	if s.keys[4] == key {
		n = s.numbers[4]
	}
	if s.keys[3] == key {
		n = s.numbers[3]
	}
	if s.keys[2] == key {
		n = s.numbers[2]
	}
	if s.keys[1] == key {
		n = s.numbers[1]
	}
	if s.keys[0] == key {
		n = s.numbers[0]
	}
	return n - 1, n != 0
}

// add remembers the number of an address that is not there. The oldest one of its set goes.
func (c *cache[K]) add(hash uint64, key K, number uint32) {
	if c.sets == nil {
		c.sets = make([]set[K], cacheSets)
	}
	s := &c.sets[hash*golden>>(64-cacheBits)]
	copy(s.keys[1:], s.keys[:])
	copy(s.numbers[1:], s.numbers[:])
	s.keys[0], s.numbers[0] = key, number+1
}
