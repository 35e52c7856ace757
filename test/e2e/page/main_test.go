// Package page tests the page of -ui.addr in a real browser: Debian's chromium, driven over
// the Chrome DevTools Protocol. It needs no cluster.
package page

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
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
	harness.Main("page", func(dir string) (code int, err error) {
		if binary, err = harness.Binary(root, dir); err != nil {
			return 0, err
		}
		code = m.Run()
		if browser.stop != nil {
			browser.stop()
		}
		return code, nil
	})
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
