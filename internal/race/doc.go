// Package race tells tests whether the race detector is on. Allocations mean
// nothing under it, and timings little.
package race
