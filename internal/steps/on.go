//go:build steps

package steps

var count uint64

// Add counts steps. One goroutine may use it at a time.
func Add(n int) { count += uint64(n) }

// Copied counts the copying of so many bytes.
func Copied(bytes int) { count += uint64(bytes+15) / 16 }

// Count returns how many steps were counted.
func Count() uint64 { return count }
