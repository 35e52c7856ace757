// Package page tests the page of -ui.addr in a real browser: Debian's chromium, driven over
// the Chrome DevTools Protocol. It needs no cluster.
package page

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	root = "../../.." // of the project
	soon = time.Minute

	demoCapture, demoSnapshot = root + "/testdata/captures/ovs-ipfix-2node-geneve.pcap", root + "/examples/demo/snapshot.yaml"
	ovnCapture, ovnSnapshot   = root + "/testdata/captures-ovn/ipfix1.pcap.gz", root + "/testdata/captures-ovn/snapshot.yaml"
)

var (
	pictures = flag.Bool("pictures", false, "write the pictures in docs/ anew")

	binary  string // the program under test
	browser struct {
		once sync.Once
		ctx  context.Context
		stop func()
		err  error
	}
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "page-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if binary, err = build(dir, "kube-enricher", "./cmd/kube-enricher"); err != nil {
		return 0, err
	}
	code = m.Run()
	if browser.stop != nil {
		browser.stop()
	}
	return code, nil
}

// build builds a program of the project, unless KUBE_ENRICHER_BIN names the one under test.
func build(dir, name, source string) (string, error) {
	if path := os.Getenv("KUBE_ENRICHER_BIN"); path != "" && name == "kube-enricher" {
		_ = os.Unsetenv("KUBE_ENRICHER_BIN") // the program takes it for a flag's
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", path, source)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// newTab returns a tab of the one browser that the tests share. The test skips without one.
func newTab(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		_ = os.Getenv("TEST_NEEDS") // CI fails then; see internal/needs
		t.Skip("needs chromium, which is not installed")
	}
	browser.once.Do(func() {
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("disable-dev-shm-usage", true))
		if syscall.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stop := chromedp.NewContext(allocator)
		browser.ctx, browser.err = ctx, chromedp.Do(ctx)
		browser.stop = func() { stop(); stopAllocator() }
	})
	if browser.err != nil {
		t.Fatal("start chromium:", browser.err)
	}
	ctx, stop := chromedp.NewContext(browser.ctx)
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
