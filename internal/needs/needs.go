// Package needs skips tests where the machine lacks what they need. The reasons
// have one form, which test/gotest reads: a test that skips for a program that
// CI has installed is a failure there.
package needs

import (
	"os"
	"os/exec"
	"testing"
)

// Program skips the test unless a program can be found, and returns its path. The
// reason is "needs NAME, which is not installed".
func Program(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		// CI lists in it what it has installed. Go's test cache does not see programs,
		// but it sees that this is read: a result from before is not taken for new.
		_ = os.Getenv("TEST_NEEDS")
		t.Skipf("needs %s, which is not installed", name)
	}
	return path
}

// OK skips the test if err reports that the machine cannot do what the test needs.
// what is a noun, such as "a file system of its own".
func OK(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Skipf("needs %s: %v", what, err)
	}
}
