//go:build steps

package steps

var count, waited uint64

// Add counts steps. One goroutine may use it at a time.
func Add(n int) { count += uint64(n) }

// Copied counts the copying of so many bytes.
func Copied(bytes int) { count += uint64(bytes+15) / 16 }

// Waited counts bytes of data sets that had waited and are decoded now: theirs are the steps
// that follow.
func Waited(bytes int) { waited += uint64(bytes) }

// Count returns how many steps were counted, and bytes that had waited.
func Count() (n, bytes uint64) { return count, waited }
