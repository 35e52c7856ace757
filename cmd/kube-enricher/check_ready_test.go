package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestCheckReady asks a program that runs, as helm test does.
func TestCheckReady(t *testing.T) {
	addr := freeAddr(t)
	p := startProgram(t, "-listen", "flow://127.0.0.1:0?count=1", "-addr", addr, "-kube.snapshot", demoSnapshot)
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	stdout, stderr, code := runProgram(t, "-check", "-kube.off", "-check.ready", "http://"+addr)
	if code != exitDone || !strings.Contains(stdout, "ready: http://"+addr+"/readyz: {\"ready\":true") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for value, want := range map[string]string{"127.0.0.1:8080": "is no URL", "ftp://host/": "is no URL"} {
		if _, stderr, code := runProgram(t, "-check", "-check.ready", value); code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d: %s", value, code, stderr)
		}
	}
	if _, stderr, code := runProgram(t, "-check.ready", "http://"+addr); code != exitUsage || !strings.Contains(stderr, "-check.ready: is part of -check") {
		t.Errorf("without -check: exit code %d: %s", code, stderr)
	}
}

// TestCheckReadyWaits: a program may take a while, but not for ever. The error has its answer.
func TestCheckReadyWaits(t *testing.T) {
	for after, want := range map[time.Duration]string{10 * time.Second: "", time.Hour: `not ready within 30s: http://x/readyz answers 503 Service Unavailable: not synced`} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			saved := http.DefaultClient
			defer func() { http.DefaultClient = saved }()
			http.DefaultClient = &http.Client{Transport: answers(func() (int, string) {
				if time.Since(start) < after {
					return http.StatusServiceUnavailable, "not synced\n"
				}
				return http.StatusOK, "{}"
			})}
			err := checkReady(context.Background(), io.Discard, "http://x/readyz")
			if (err == nil) != (want == "") || err != nil && err.Error() != want {
				t.Errorf("after %v: %v", after, err)
			}
			if took := time.Since(start); took != min(after, readyPatience) {
				t.Errorf("took %v", took)
			}
		})
	}
	if _, err := askReady(t.Context(), "http://"+freeAddr(t)+"/readyz"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
}

// answers is a transport that answers by itself.
type answers func() (code int, body string)

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	code, body := a()
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", http.StatusText(code)), Body: io.NopCloser(strings.NewReader(body))}, nil
}

// TestNotReadyOnceStopping has a program that a signal has reached, and whose output is stalled:
// from the signal on, nobody is to be sent to it.
func TestNotReadyOnceStopping(t *testing.T) {
	p, base := startStalled(t)
	p.signal(syscall.SIGTERM)
	p.eventually("stopping", func() bool { return strings.Contains(p.stderr(), "msg=\"stopping: ") })
	if body, code := get(t, base+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"process":"stopping"`) {
		t.Errorf("/readyz once the program stops: %d %s", code, body)
	}
	if _, code := get(t, base+"/livez"); code != http.StatusOK {
		t.Errorf("/livez once the program stops: %d", code)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
}
