//go:build !race

package enrich

// raceEnabled says that the race detector is on, which allocates.
const raceEnabled = false
