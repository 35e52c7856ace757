//go:build race

package capture

// raceEnabled says that the race detector runs, which allocates.
const raceEnabled = true
