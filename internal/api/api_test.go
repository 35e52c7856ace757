package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// end is the end of a chain.
type end struct{}

func (end) HandleFlow(*flow.Record) {}
func (end) Idle() bool              { return false }

// fixture is a server with a few records.
type fixture struct {
	*Server
	http  *httptest.Server
	stage *recent.Stage
	base  string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOf(t, recent.MinRoom)
}

// newFixtureOf is the same with so many bytes of room.
func newFixtureOf(t *testing.T, room int64) *fixture {
	t.Helper()
	f := unserved(t, room)
	f.http = httptest.NewServer(Guard("page.example:8082", f.Handler()))
	t.Cleanup(f.http.Close)
	t.Cleanup(f.Stop)
	f.base = f.http.URL + "/api/v1/"
	return f
}

// unserved is the same without a network.
func unserved(t testing.TB, room int64) *fixture {
	t.Helper()
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	store, err := recent.New(recent.Config{Room: room, Mapping: mapping}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	enc, err := encode.NewJSON(encode.JSONConfig{Schema: "v1", Fields: "all", Mapping: mapping})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{stage: store.Stage(0, end{})}
	f.Server = New(Config{
		Store: store, Encoder: enc,
		Compile: func(expression string) (func(*flow.Record) bool, error) {
			f, err := filter.Compile(expression, filter.Config{Mapping: mapping})
			if at := (*filter.Error)(nil); errors.As(err, &at) {
				return nil, &Mistake{at.Text, at.Column}
			}
			return f.Matcher(), nil
		},
		Explain: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"addr":"10.0.0.1"}`) },
		Ready:   func() any { return map[string]any{"ready": true} },
		Version: "v1", Mode: "collect", Listen: []string{"flow://:2055"}, Started: time.Now(), Fields: []Field{{"Bytes", "number"}}, Mapping: mapping,
		Cut: prometheus.NewCounter(prometheus.CounterOpts{Name: "cut"}),
	})
	return f
}

// send keeps n records.
func (f *fixture) send(n int) {
	for range n {
		f.stage.HandleFlow(flowtest.Reference())
	}
}

// get returns the status and the body of an answer.
func (f *fixture) get(t *testing.T, target string) (int, string) {
	t.Helper()
	r, err := http.Get(f.base + target) //nolint:noctx // a test of its own server
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// spec is docs/openapi.yaml.
func spec(t *testing.T) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := yaml.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// at follows a path of keys.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// mismatch says how a value is not as a schema wants it, "" if it is. What a schema of an
// object does not name must not be there, unless it names nothing.
func mismatch(s map[string]any, schema any, v any, where string) string {
	if ref, ok := at(schema, "$ref").(string); ok {
		schema = at(s, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	if v == nil && at(schema, "nullable") == true {
		return ""
	}
	if enum, ok := at(schema, "enum").([]any); ok {
		found := false
		for _, e := range enum {
			found = found || e == v
		}
		if !found {
			return fmt.Sprintf("%s is %v, none of %v", where, v, enum)
		}
	}
	ok := false
	switch kind := at(schema, "type"); kind {
	case "string":
		var text string
		text, ok = v.(string)
		if at(schema, "format") == "date-time" {
			_, err := time.Parse(time.RFC3339, text)
			ok = ok && err == nil
		}
	case "integer", "number":
		var n float64
		n, ok = v.(float64)
		ok = ok && (kind == "number" || n == float64(int64(n)))
	case "array":
		var list []any
		list, ok = v.([]any)
		for i, e := range list {
			if m := mismatch(s, at(schema, "items"), e, fmt.Sprintf("%s[%d]", where, i)); m != "" {
				return m
			}
		}
	case "object":
		var object map[string]any
		object, ok = v.(map[string]any)
		properties, _ := at(schema, "properties").(map[string]any)
		for name, e := range object {
			if p, known := properties[name]; known {
				if m := mismatch(s, p, e, where+"."+name); m != "" {
					return m
				}
			} else if properties != nil {
				return where + "." + name + " is not described"
			}
		}
		required, _ := at(schema, "required").([]any)
		for _, name := range required {
			if _, there := object[name.(string)]; !there && ok {
				return fmt.Sprintf("%s has no %v", where, name)
			}
		}
	}
	if !ok {
		return fmt.Sprintf("%s is %v, want %v", where, v, at(schema, "type"))
	}
	return ""
}

// TestAnswers: answers are as docs/openapi.yaml has them, before the first record and
// after it; what is wrong is said in the same way everywhere.
func TestAnswers(t *testing.T) {
	f, s := newFixture(t), spec(t)
	for _, sent := range []int{0, 1, 20_000} {
		f.send(sent)
		for _, c := range []struct {
			status int
			target string
		}{
			{200, "summary"}, {200, "pairs"}, {200, "pairs?since=5m&until=0s&limit=1"}, {200, "series?by=pair&buckets=7"},
			{200, "series?by=namespace&since=2021-08-08T10:00:00Z"}, {200, "flows?limit=3"}, {200, "explain?addr=10.0.0.1"},
			{200, "flows?filter=" + url.QueryEscape(`SrcNamespace == "local-path-storage"`)},
			{400, "pairs?filter=Bytes"}, {400, "flows?filter=" + url.QueryEscape("Bytes > 1 && Nope == 1")}, {400, "series?filter=%28"},
			{400, "pairs?since=yesterday"}, {400, "pairs?limit=0"}, {400, "pairs?limit=10001"}, {400, "flows?limit=x"}, {400, "series?by=day"},
			{400, "series?buckets=1001"}, {400, "pairs?from=5m"}, {400, "summary?x=1"}, {400, "pairs?since=1m&until=2m"}, {400, "pairs?limit=1&limit=2"},
			{400, "pairs?filter=%zz"},
		} {
			status, body := f.get(t, c.target)
			var v any
			if err := json.Unmarshal([]byte(body), &v); err != nil || status != c.status {
				t.Errorf("%s: status %d, %v: %s", c.target, status, err, body)
				continue
			}
			name, _, _ := strings.Cut(c.target, "?")
			response := at(s, "paths", "/api/v1/"+name, "get", "responses", fmt.Sprint(status))
			if ref, ok := at(response, "$ref").(string); ok {
				response = at(s, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
			if m := mismatch(s, at(response, "content", "application/json", "schema"), v, name); m != "" {
				t.Errorf("%s: %s", c.target, m)
			}
		}
	}
	if _, body := f.get(t, "flows?filter="+url.QueryEscape("Bytes > 1 && Nope == 1")); !strings.Contains(body, `"position":14}`) {
		t.Errorf("a name that does not exist: %s", body)
	}
	if status, body := f.get(t, "nothing"); status != http.StatusNotFound || !strings.Contains(body, `"error"`) {
		t.Errorf("a path that does not exist: %d, %s", status, body)
	}
}

// TestExamples: each path of the API has an example in docs/api.md, and all examples get an
// answer. Protocols are written as the API does.
func TestExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.send(1)
	asked := map[string]bool{}
	example := regexp.MustCompile(`(?m)^curl .*?127\.0\.0\.1:8082/api/v1/([a-z]+)(\?[^' ]*)?'?(?: --get --data-urlencode '([a-z]+)=(.*)')?$`)
	for _, m := range example.FindAllStringSubmatch(string(page), -1) {
		target := m[1] + m[2]
		if m[3] != "" {
			target += "&" + m[3] + "=" + url.QueryEscape(m[4])
		}
		asked[m[1]] = true
		if status, body := f.get(t, target); status != http.StatusOK {
			t.Errorf("%s: status %d, %s", m[0], status, body)
		}
	}
	if want := fmt.Sprintf(`"protocol": %q`, f.cfg.Store.About().Exporters[0].Protocol); !strings.Contains(string(page), want) {
		t.Errorf("docs/api.md does not have %s", want)
	}
	paths, _ := at(spec(t), "paths").(map[string]any)
	for path := range paths {
		if name := strings.TrimPrefix(path, "/api/v1/"); !asked[name] {
			t.Errorf("docs/api.md has no example of %s", path)
		}
	}
}

// TestGuard: a page of another site cannot read answers by a name of its own, and what is
// answered runs nothing.
func TestGuard(t *testing.T) {
	f := newFixture(t)
	for host, want := range map[string]int{
		"127.0.0.1:8082": 200, "[::1]:8082": 200, "10.0.0.1": 200, "localhost": 200, "LocalHost:1": 200, "page.example:8082": 200, "PAGE.example": 200,
		"evil.example": 403, "evil.example:8082": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "page.example.evil": 403, "127.0.0.1.nip.io:8082": 403,
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/summary", nil)
		r.Host = host
		w := httptest.NewRecorder()
		Guard("page.example:8082", f.Handler()).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %s: status %d, want %d", host, w.Code, want)
		}
		for name, value := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "",
		} {
			if got := w.Header().Get(name); got != value {
				t.Errorf("Host %s: %s is %q, want %q", host, name, got, value)
			}
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/api/v1/pairs", nil)
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", w.Code)
	}
}

// follow begins a stream and returns its lines.
func (f *fixture) follow(t *testing.T, query string) *bufio.Reader {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.base+"flows"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("status %d, type %q", answer.StatusCode, kind)
	}
	return bufio.NewReader(answer.Body)
}

// event returns the next event of a stream.
func event(t *testing.T, r *bufio.Reader) (name, data string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "event: "):
			name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			data = strings.TrimPrefix(line, "data: ")
		case line == "" && name != "":
			return name, data
		}
	}
}

// TestStream: who follows gets records as they come, and is told what was left out.
func TestStream(t *testing.T) {
	f := newFixture(t)
	f.send(3)
	r := f.follow(t, "?since=1h&limit=10")
	for range 3 {
		name, data := event(t, r)
		var record map[string]any
		if err := json.Unmarshal([]byte(data), &record); err != nil || name != "flow" || record["SrcPod"] != "local-path-provisioner-78776bfc44-p2xkl" {
			t.Fatalf("%s %s: %v", name, data, err)
		}
	}
	f.send(1000)
	flows, skipped := 0, 0
	for flows+skipped < 1000 {
		switch name, data := event(t, r); name {
		case "flow":
			flows++
		case "skipped":
			n := 0
			if _, err := fmt.Sscan(data, &n); err != nil {
				t.Fatal(err)
			}
			skipped += n
		}
	}
	if flows > 20 || flows+skipped != 1000 {
		t.Errorf("%d records and %d skipped", flows, skipped)
	}
	if n := testutil.ToFloat64(f.cfg.Store.Skipped(recent.ClientPage)); n != float64(skipped) {
		t.Errorf("the metric counts %v skipped, the client was told of %d", n, skipped)
	}
	if status, _ := f.get(t, "flows?limit=2001"); status != http.StatusBadRequest {
		t.Errorf("too high a limit: status %d", status)
	}
}

// TestSlowClient: who does not read has a bounded buffer, and what it has no room for is
// skipped and counted.
func TestSlowClient(t *testing.T) {
	f := newFixture(t)
	counter := f.cfg.Store.Skipped(recent.ClientPage)
	e := newEvents(counter)
	for range 1000 {
		e.flow(f.cfg.Encoder, flowtest.Reference())
	}
	b := e.take(nil)
	skipped := uint64(testutil.ToFloat64(counter))
	if len(b) > maxPending+maxPending/8 || skipped < 500 {
		t.Errorf("%d bytes are pending, %d records were skipped", len(b), skipped)
	}
	flows := strings.Count(string(b), "event: flow\n")
	if end := fmt.Sprintf("event: skipped\ndata: %d\n\n", skipped); !strings.HasSuffix(string(b), end) || flows+int(skipped) != 1000 {
		t.Errorf("%d records and %d skipped; the end is %q", flows, skipped, b[len(b)-40:])
	}
}

// TestStop: streams end with the server, and there are only so many.
func TestStop(t *testing.T) {
	f := newFixture(t)
	var streams []*bufio.Reader
	for range maxStreams {
		streams = append(streams, f.follow(t, ""))
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.base+"flows", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one stream more than there may be: status %d", answer.StatusCode)
	}
	f.Stop()
	for _, s := range streams {
		if _, err := io.ReadAll(s); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestBatch: records of a batch are sent at its end, or when they are many.
func TestBatch(t *testing.T) {
	f := newFixture(t)
	e := newEvents(f.cfg.Store.Skipped(recent.ClientPage))
	for range 5 {
		e.flow(f.cfg.Encoder, flowtest.Reference())
	}
	if len(e.more) != 0 {
		t.Error("some are sent before the end")
	}
	e.wake()
	if b := e.take(nil); len(e.more) != 1 || strings.Count(string(b), "event: flow\n") != 5 {
		t.Errorf("%d to send, %q", len(e.more), b)
	}
	<-e.more
	for range partPending / 100 {
		e.flow(f.cfg.Encoder, flowtest.Reference())
	}
	if len(e.more) != 1 {
		t.Error("many wait for the end")
	}
}

// TestFault: what no client causes is no mistake of the client.
func TestFault(t *testing.T) {
	s := unserved(t, recent.MinRoom)
	s.cfg.Ready = func() any { return func() {} } // nothing that JSON has
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/summary", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "cannot be made") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
