package flow

import "math/bits"

// MaxEstimate bounds the bytes and the packets of one record: 2^48, or 256 TiB. More can
// only be wrong, and a few such records would bring a counter to its largest value,
// where it stops.
const MaxEstimate = 1 << 48

// Estimate returns the bytes and packets that counters stand for: the counters, times the
// sampling rate unless the exporter has done that.
func Estimate(bytes, packets, rate uint64, scaled bool) (estimatedBytes, estimatedPackets uint64) {
	if rate == 0 || scaled {
		rate = 1
	}
	return times(bytes, rate), times(packets, rate)
}

// times returns n * rate, and MaxEstimate at most.
func times(n, rate uint64) uint64 {
	if high, low := bits.Mul64(n, rate); high == 0 && low < MaxEstimate {
		return low
	}
	return MaxEstimate
}
