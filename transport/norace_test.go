//go:build !race

package transport

// raceEnabled tells tests that count allocations to stand back.
const raceEnabled = false
