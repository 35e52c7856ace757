package page

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"
)

// view is a tab with the page.
type view struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	problems []string // of the console, scripts and requests
	refusals int      // answers with 400, which the browser calls errors

	trace trace
}

const wide, narrow = 1280, 400

// open opens the page in a tab of its own and waits until it has pairs.
func open(t *testing.T, base, fragment string, width int) *view {
	t.Helper()
	v := blank(t, base, width, "light")
	v.navigate(fragment)
	v.wait("pairs", `document.querySelectorAll("#pairs-table tbody tr").length > 0`)
	return v
}

// blank makes a tab without a page. When the test ends, the tab must have had no problem.
func blank(t *testing.T, base string, width int, scheme string) *view {
	t.Helper()
	v := &view{t: t, ctx: newTab(t), base: base, trace: trace{done: make(chan struct{}, 1)}}
	v.do(chromedp.EmulateViewport(int64(width), 900))
	_, err := chromedp.Call(v.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"})
	v.must(err)
	_, err = chromedp.Call(v.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	v.must(err)
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{log.Enable, runtime.Enable} {
		_, err = chromedp.Call(v.ctx, enable, cdp.Empty{})
		v.must(err)
	}
	_, err = chromedp.Call(v.ctx, network.Enable, network.EnableParams{})
	v.must(err)
	v.must(chromedp.Listen(v.ctx, v.event))
	t.Cleanup(v.check)
	return v
}

// event gathers what a page should not do.
func (v *view) event(ev any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		v.problems = append(v.problems, "exception: "+text)
	case *runtime.EventConsoleAPICalled:
		v.problems = append(v.problems, fmt.Sprintf("console: %s", e.Type))
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "status of 400") {
			v.refusals++
			return
		}
		v.problems = append(v.problems, fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
	case *network.EventRequestWillBeSent:
		if url := e.Request.URL; !strings.HasPrefix(url, v.base+"/") && !strings.HasPrefix(url, "data:") {
			v.problems = append(v.problems, "request to another host: "+url)
		}
	case *tracing.EventDataCollected, *tracing.EventTracingComplete:
		if err := v.trace.event(e); err != nil {
			v.problems = append(v.problems, err.Error())
		}
	}
}

// check fails the test for each problem.
func (v *view) check() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range v.problems {
		v.t.Error(p)
	}
}

func (v *view) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *view) do(actions ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	v.must(chromedp.Do(v.ctx, actions...))
}

// before has a script run before those of the next page.
func (v *view) before(script string) {
	v.t.Helper()
	_, err := chromedp.Call(v.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	v.must(err)
}

func (v *view) navigate(fragment string) {
	v.t.Helper()
	v.do(chromedp.Navigate(v.base + "/" + fragment))
}

// eval evaluates JavaScript in the page. A promise is waited for.
func eval[T any](v *view, script string) T {
	v.t.Helper()
	value, err := chromedp.Run(v.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		v.t.Fatalf("%v\nin %.200s", err, script)
	}
	return value
}

// wait waits until a condition in JavaScript is true.
func (v *view) wait(what, condition string) {
	v.t.Helper()
	_, err := chromedp.Run(v.ctx, chromedp.Poll[bool](condition, chromedp.WithPollingTimeout(soon)))
	if err != nil {
		state, _ := chromedp.Run(v.ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 1500)`))
		v.t.Fatalf("no %s within %s: %v; the page says:\n%s", what, soon, err, state)
	}
}

func (v *view) click(selector string) {
	v.t.Helper()
	eval[any](v, fmt.Sprintf(`document.querySelector(%q).click()`, selector))
}

// text returns what is written in an element.
func (v *view) text(selector string) string {
	v.t.Helper()
	return eval[string](v, fmt.Sprintf(`document.querySelector(%q).innerText`, selector))
}

// picture writes a picture of the window to docs/ if it was asked for.
func (v *view) picture(name string, height int, width int) {
	v.t.Helper()
	if !*pictures {
		return
	}
	v.do(chromedp.EmulateViewport(int64(width), int64(height)))
	eval[any](v, `new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))`)
	content, err := chromedp.Run(v.ctx, chromedp.CaptureScreenshot())
	v.must(err)
	const most = 150 << 10
	if len(content) > most {
		v.t.Errorf("%s has %d bytes, at most %d may be", name, len(content), most)
	}
	v.must(os.WriteFile(filepath.Join(root, "docs", name), content, 0o644))
}
