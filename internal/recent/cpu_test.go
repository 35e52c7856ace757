package recent

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime returns the CPU time that the process has taken. Unlike the time of a clock it does not
// depend on what else runs on the machine.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
