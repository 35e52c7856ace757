package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/api"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
	"github.com/netobserv/goflow2-kube-enricher/internal/places"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// httpServers serves probes and metrics on -addr, and pages that show the
// cluster's data on -debug.addr.
type httpServers struct {
	a        *app
	servers  []httpServer
	draining atomic.Bool // the program is stopping
}

// httpServer is one server and the address that it listens on.
type httpServer struct {
	*http.Server
	flag     string // that the address comes from
	listener net.Listener
}

// listenHTTP opens the addresses, so that a port in use is known at once.
func (a *app) listenHTTP() (*httpServers, error) {
	h := &httpServers{a: a}
	if a.cfg.DebugAddr != "" {
		runtime.SetMutexProfileFraction(mutexSamples)
	}
	public, debug, page := newConnections(maxConnections), newConnections(maxConnections), newConnections(maxPageConnections)
	var pages http.Handler
	var pageAPI *api.Server
	if a.cfg.UIAddr != "" {
		var err error
		if pageAPI, pages, err = h.page(); err != nil {
			return nil, err
		}
	}
	for _, s := range []struct {
		flag, addr  string
		handler     http.Handler
		connections *connections
	}{
		{"-addr", a.cfg.Addr, h.public(public), public},
		{"-debug.addr", a.cfg.DebugAddr, h.debug(debug), debug},
		{"-ui.addr", a.cfg.UIAddr, pages, page},
	} {
		if s.addr == "" {
			continue
		}
		l, err := listenTCP(s.flag, s.addr)
		if err != nil {
			h.close()
			return nil, err
		}
		server := newServer(s.handler, s.connections, a.log)
		if s.flag == "-ui.addr" {
			server.RegisterOnShutdown(pageAPI.Stop)
			server.MaxHeaderBytes = maxPageHeader
		}
		h.servers = append(h.servers, httpServer{server, s.flag, l})
	}
	return h, nil
}

// listenTCP opens an address for HTTP that a flag has.
func listenTCP(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err // the address is named already
		}
		return nil, fmt.Errorf("listen for HTTP on %s (%s): %w", addr, flag, err)
	}
	return l, nil
}

const (
	// maxHeader bounds a request without its body, in bytes; Go adds 4 KiB.
	maxHeader = 16 << 10
	// maxPageHeader is the same for the page. Each byte of a filter may take three there.
	maxPageHeader = 3*filter.MaxLength + maxHeader
)

// newServer returns a server whose clients can hang without holding up others.
func newServer(handler http.Handler, c *connections, log logrus.FieldLogger) *http.Server {
	return &http.Server{
		Handler:           withoutBody(handler),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          ratelog.Panics(log),
		ConnState:         c.note,
		ConnContext:       withConn,
	}
}

// address returns the address that is bound for a flag, "" if there is none.
func (h *httpServers) address(flag string) string {
	for _, s := range h.servers {
		if s.flag == flag {
			return s.listener.Addr().String()
		}
	}
	return ""
}

// close closes the addresses, if serve is not called.
func (h *httpServers) close() {
	for _, s := range h.servers {
		_ = s.listener.Close()
	}
}

// serve answers until ctx ends.
func (h *httpServers) serve(ctx context.Context) error {
	errs := make(chan error, len(h.servers))
	for _, s := range h.servers {
		go func() { errs <- s.Serve(s.listener) }()
	}
	<-ctx.Done()
	shutdown, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var all error
	for _, s := range h.servers {
		if err := s.Shutdown(shutdown); err != nil {
			_ = s.Close() // a scrape that takes longer has had its time
		}
	}
	for range h.servers {
		if err := <-errs; !errors.Is(err, http.ErrServerClosed) {
			all = errors.Join(all, fmt.Errorf("serve HTTP: %w", err))
		}
	}
	return all
}

// stopping makes /readyz report that the program is stopping.
func (h *httpServers) stopping() { h.draining.Store(true) }

func (h *httpServers) public(c *connections) http.Handler {
	live := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }
	return handleAll([]route{
		{"/livez", "", "200 while the process works", http.HandlerFunc(live)},
		{"/readyz", "", "200 when records are taken in; says what is missing or degraded", http.HandlerFunc(h.ready)},
		{"/metrics", "", "metrics for Prometheus", c.scarce(metricsOf(h.a.reg))},
	})
}

// readiness is the body of /readyz.
type readiness struct {
	Ready bool `json:"ready"`
	// State is "ready", "degraded" or "not ready".
	State string `json:"state"`
	// Missing has the parts that are not ready, and what each lacks.
	Missing map[string]string `json:"missing,omitempty"`
	// Degraded has the outputs that do not write, and why. Their buffers have room, so
	// nothing is lost yet: the program is ready.
	Degraded map[string]string `json:"degraded,omitempty"`
	// Stale has the parts that have been out of reach for a while. What they knew
	// before is still used.
	Stale map[string]string `json:"stale,omitempty"`
}

func (h *httpServers) ready(w http.ResponseWriter, _ *http.Request) {
	body := h.readiness()
	w.Header().Set("Content-Type", "application/json")
	if !body.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body)
}

// readiness returns what is ready and what is not.
func (h *httpServers) readiness() *readiness {
	missing := make(map[string]string)
	note := func(part string, err error) {
		if err != nil {
			missing[part] = err.Error()
		}
	}
	if h.draining.Load() || h.a.isSignalled() {
		missing["process"] = "stopping"
	}
	if h.a.cfg.Mode == config.Collect {
		note("sockets", h.a.collector.Ready())
	}
	if h.a.enricher != nil {
		note("kubernetes", h.a.enricher.Ready())
	}
	degraded := make(map[string]string)
	h.a.outputProblems(func(part string, err error, full bool) {
		// A Service drops the endpoint of a pod that is not ready. It must not do that in
		// the very outage that the buffer is for.
		if full {
			missing[part] = "the buffer is full: " + err.Error()
		} else {
			degraded[part] = err.Error()
		}
	})
	body := readiness{Ready: len(missing) == 0, Missing: missing, Degraded: degraded}
	switch {
	case !body.Ready:
		body.State = "not ready"
	case len(degraded) > 0:
		body.State = "degraded"
	default:
		body.State = "ready"
	}
	if h.a.enricher != nil {
		if s := h.a.enricher.Stale(); s != "" {
			body.Stale = map[string]string{"kubernetes": s}
		}
	}
	return &body
}

// mutexSamples is the rate of the mutex profile: one in so many events of
// contention is recorded.
const mutexSamples = 100

func (h *httpServers) debug(c *connections) http.Handler {
	page := func(f http.HandlerFunc) http.Handler { return c.scarce(unhurried(f)) }
	return handleAll([]route{
		{"/templates", "", "the templates of each exporter, as goflow2 shows them", page(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = h.a.collector.WriteTemplates(w)
		})},
		{"/exporters", "", "each exporter: last seen, templates, losses, sampling", page(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = h.a.collector.WriteExporters(w)
		})},
		{"/explain", "?addr=IP", "who has or had an address, and why; also &time=2006-01-02T15:04:05Z &port=443&proto=tcp", page(h.explain)},
		{"/debug/pprof/", "", "profiles of the Go runtime", page(pprof.Index)},
		{"/debug/pprof/cmdline", "", "", page(pprof.Cmdline)},
		{"/debug/pprof/symbol", "", "", page(pprof.Symbol)},
		// Of these, the runtime has one at a time.
		{"/debug/pprof/profile", "", "", unhurried(http.HandlerFunc(pprof.Profile))},
		{"/debug/pprof/trace", "", "", unhurried(http.HandlerFunc(pprof.Trace))},
	})
}

// explain answers who owned an address at a time, and why.
func (h *httpServers) explain(w http.ResponseWriter, r *http.Request) {
	explanation, err := h.explanation(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(explanation)
}

// reasons is the answer of /explain.
type reasons struct {
	enrich.Explanation
	// Place is what -networks and -geoip say of an address that nobody in the cluster has.
	Place *places.Explanation `json:"place,omitempty"`
}

// explanation returns what the query of /explain asks for.
func (h *httpServers) explanation(query string) (*reasons, error) {
	q, err := parseQuestion(query)
	if err == nil && h.a.enricher == nil && h.a.places == nil {
		err = errors.New("the program runs without names (-kube.off)")
	}
	if err != nil {
		return nil, err
	}
	x := &reasons{}
	if h.a.enricher != nil {
		x.Explanation = h.a.enricher.ExplainPort(q.addr, q.protocol, q.port, q.at)
	} else {
		none := flow.StatusNone.String()
		x.Explanation = enrich.Explanation{
			Addr: q.addr.Unmap().WithZone("").String(), Time: q.at.UTC(), Status: none, Rule: none,
			Why: "the program does not ask a cluster who owns addresses (-kube.off)", Owners: []enrich.Claimant{},
		}
	}
	if x.Chosen == nil {
		x.Place = h.a.places.Explain(q.addr)
	}
	return x, nil
}

// question is what /explain is asked. Port and protocol are 0 if they are not given.
type question struct {
	addr           netip.Addr
	protocol, port uint32
	at             time.Time
}

const explainUsage = "; ask /explain?addr=IP, and if you like &time=2006-01-02T15:04:05Z and &port=443 with &proto=tcp, udp or sctp"

// parseQuestion reads the query of /explain. Its error is a sentence.
func parseQuestion(query string) (q question, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return q, errors.New("the query cannot be read" + explainUsage)
	}
	for name, v := range values {
		if name != "addr" && name != "time" && name != "port" && name != "proto" {
			return q, fmt.Errorf("there is no parameter %s%s", config.Quote(name), explainUsage)
		}
		if len(v) > 1 {
			return q, fmt.Errorf("%s is given twice%s", name, explainUsage)
		}
	}
	if !values.Has("addr") {
		return q, errors.New("addr is missing" + explainUsage)
	}
	if q.addr, err = netip.ParseAddr(values.Get("addr")); err != nil {
		return q, fmt.Errorf("addr %s is no IP address%s", config.Quote(values.Get("addr")), explainUsage)
	}
	if err := q.parsePort(values); err != nil {
		return q, err
	}
	if !values.Has("time") {
		q.at = time.Now()
		return q, nil
	}
	// A plus sign that was not escaped has become a space.
	q.at, err = time.Parse(time.RFC3339, strings.ReplaceAll(values.Get("time"), " ", "+"))
	if err != nil || q.at.Year() < 1970 || q.at.Year() > 2200 {
		return q, fmt.Errorf("time %s is no time of RFC 3339 from 1970 to 2200%s", config.Quote(values.Get("time")), explainUsage)
	}
	return q, nil
}

// parsePort reads the parameters port and proto. The protocol is TCP if only a port is given.
func (q *question) parsePort(values url.Values) error {
	if !values.Has("port") {
		if values.Has("proto") {
			return errors.New("proto is given without port" + explainUsage)
		}
		return nil
	}
	n, err := strconv.ParseUint(values.Get("port"), 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %s is no number from 1 to 65535%s", config.Quote(values.Get("port")), explainUsage)
	}
	q.port = uint32(n)
	switch name := strings.ToLower(values.Get("proto")); name {
	case "", "tcp":
		q.protocol = 6
	case "udp":
		q.protocol = 17
	case "sctp":
		q.protocol = 132
	default:
		return fmt.Errorf("proto %s is not tcp, udp or sctp%s", config.Quote(name), explainUsage)
	}
	return nil
}
