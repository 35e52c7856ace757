package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// events is what go test -json prints of two packages: one passes with skips, in
// the other a test fails and one panics.
const events = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestQuiet"}
{"Action":"output","Package":"a","Test":"TestQuiet","Output":"=== RUN   TestQuiet\n"}
{"Action":"output","Package":"a","Test":"TestQuiet","Output":"    a_test.go:1: nothing to see\n"}
{"Action":"pass","Package":"a","Test":"TestQuiet"}
{"Action":"output","Package":"a","Test":"TestTool","Output":"=== RUN   TestTool\n"}
{"Action":"output","Package":"a","Test":"TestTool","Output":"    a_test.go:2: a message before\n"}
{"Action":"output","Package":"a","Test":"TestTool","Output":"    a_test.go:3: needs protoc, which is not installed\n"}
{"Action":"output","Package":"a","Test":"TestTool","Output":"--- SKIP: TestTool (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestTool"}
{"Action":"output","Package":"a","Test":"TestRoot/a","Output":"    a_test.go:4: needs root:\n"}
{"Action":"output","Package":"a","Test":"TestRoot/a","Output":"        not permitted\n"}
{"Action":"output","Package":"a","Test":"TestRoot/a","Output":"    --- SKIP: TestRoot/a (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestRoot/a"}
{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.01s\n"}
{"Action":"pass","Package":"a"}
{"Action":"output","Package":"b","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"b","Test":"TestBad","Output":"    b_test.go:1: bad\n"}
{"Action":"output","Package":"b","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"b","Test":"TestBad"}
{"Action":"output","Package":"b","Test":"TestPanic","Output":"panic: x\n"}
{"Action":"output","Package":"b","Output":"FAIL\tb\t0.01s\n"}
{"Action":"fail","Package":"b"}
go: a line of go itself
{"Action":"output","Package":"c","Output":"?   \tc\t[no test files]\n"}
{"Action":"skip","Package":"c"}
`

const printed = `ok  	a	0.01s
    b_test.go:1: bad
--- FAIL: TestBad (0.00s)
FAIL	b	0.01s
panic: x
go: a line of go itself
?   	c	[no test files]
skips: 2
    1 × needs protoc, which is not installed: TestTool
    1 × needs root: not permitted: TestRoot/a
`

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		installed []string
		want      string
	}{
		{nil, printed},
		{[]string{"jq"}, printed},
		{[]string{"jq", "protoc"}, printed + "FAIL\ta: TestTool was skipped: it needs protoc, which is not installed, although CI installs it\n"},
	} {
		var b strings.Builder
		r := newReport(&b, false)
		if err := r.read(strings.NewReader(events)); err != nil {
			t.Fatal(err)
		}
		if wrong := r.summary(tc.installed); wrong != (tc.want != printed) || b.String() != tc.want {
			t.Errorf("installed %q: wrong %v, printed\n%s", tc.installed, wrong, b.String())
		}
	}
}

func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skips")
	r := report{skips: []skip{{reason: "needs root"}}}
	for range 2 {
		if err := r.save(file); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); string(got) != "needs root\nneeds root\n" {
		t.Errorf("%q, %v", got, err)
	}
}
