package flowtest

import (
	"syscall"
	"testing"
	"time"
)

// CPUTime returns the CPU time that the process has taken. Unlike the time of a clock it does not
// depend on what else runs on the machine.
func CPUTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
