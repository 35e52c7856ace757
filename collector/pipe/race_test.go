//go:build race

package pipe

// raceEnabled says that the race detector runs, which allocates.
const raceEnabled = true
