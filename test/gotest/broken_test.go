package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// brokenEvents is what go test -json prints of a package that the race detector ended.
const brokenEvents = `{"Action":"output","Package":"a","Test":"TestA","Output":"ThreadSanitizer: CHECK failed: tsan_rtl.cpp:346 \"((exiting || x)) != (0)\" (0x0, 0x0) (tid=1)\n"}
{"Action":"fail","Package":"a","Test":"TestA"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t4.02s\n"}
{"Action":"fail","Package":"a"}
`

func TestBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		more string
		want []string
	}{
		"alone":                {"", []string{"a"}},
		"with a good one":      {`{"Action":"pass","Package":"b"}`, []string{"a"}},
		"its test failed, too": {`{"Action":"output","Package":"a","Test":"TestB","Output":"    --- FAIL: TestB (0.00s)\n"}`, nil},
		"it raced, too":        {`{"Action":"output","Package":"a","Test":"TestB","Output":"WARNING: DATA RACE\n"}`, nil},
		"another one failed":   {`{"Action":"fail","Package":"b"}`, nil},
	} {
		r := newReport(new(strings.Builder), false)
		if err := r.read(strings.NewReader(brokenEvents + tc.more)); err != nil {
			t.Fatal(err)
		}
		if got := r.takeBroken(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestAgain runs a go that breaks the first time.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "go")
	script := `#!/bin/sh
echo "$*" >> ` + dir + `/calls
if [ "$(wc -l < ` + dir + `/calls)" -le "$BREAKS" ]; then
cat <<'END'
` + brokenEvents + `END
exit 1
fi
echo '{"Action":"output","Package":"a","Output":"ok  \ta\t1s\n"}'
`
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for breaks, want := range map[string]struct {
		code  int
		calls string
	}{
		"0": {0, "test -json -race -timeout 20m ./...\n"},
		"1": {0, "test -json -race -timeout 20m ./...\ntest -json -count=1 -race -timeout 20m a\n"},
		"9": {1, "test -json -race -timeout 20m ./...\n" + strings.Repeat("test -json -count=1 -race -timeout 20m a\n", 2)},
	} {
		t.Setenv("BREAKS", breaks)
		_ = os.Remove(dir + "/calls")
		var out strings.Builder
		code, err := run([]string{program, "test", "-race", "-timeout", "20m", "./..."}, &out, os.Stderr)
		calls, _ := os.ReadFile(dir + "/calls")
		if err != nil || code != want.code || string(calls) != want.calls {
			t.Errorf("breaks %s: exit code %d, %v, calls\n%s%s", breaks, code, err, calls, &out)
		}
		if again := strings.Count(out.String(), "golang/go#78156"); again != strings.Count(want.calls, "-count=1") {
			t.Errorf("breaks %s: said %d times:\n%s", breaks, again, &out)
		}
	}
}

func TestWithPackages(t *testing.T) {
	got := withPackages([]string{"go", "test", "-tags", "steps", "-run", "Test.*/b.c", "-timeout", "1.5m", "./enrich/...", ".", "example.org/x/y", "-coverprofile=./x"}, []string{"p", "q"})
	if want := []string{"go", "test", "-tags", "steps", "-run", "Test.*/b.c", "-timeout", "1.5m", "-coverprofile=./x", "p", "q"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
