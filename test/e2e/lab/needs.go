package lab

import (
	"os/exec"
	"testing"
)

// NeedsProgram skips the test unless a program can be found. The reason has the
// form that test/gotest reads. It is internal/needs of the main module once more.
func NeedsProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s, which is not installed", name)
	}
}
