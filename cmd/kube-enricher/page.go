package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/api"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
	"github.com/netobserv/goflow2-kube-enricher/internal/ui"
)

// buildPage makes the metric of the page, if there is to be one.
func (a *app) buildPage() error {
	if a.cfg.UIAddr == "" {
		return nil
	}
	a.pageCut = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kube_enricher_page_streams_cut_total",
		Help: "streams of the page's clients that were ended because the client read nothing for half a minute",
	})
	return a.reg.Register(a.pageCut)
}

// page returns the handler of -ui.addr: the page and its API.
func (h *httpServers) page() (*api.Server, http.Handler, error) {
	cfg := h.a.cfg
	enc, err := cfg.NewPageEncoder()
	if err != nil {
		return nil, nil, err
	}
	version, _, _ := versions()
	var fields []api.Field
	for _, f := range cfg.FilterFields() {
		fields = append(fields, api.Field(f))
	}
	listen := []string{}
	if cfg.Mode == config.Collect {
		for _, l := range cfg.Listen {
			listen = append(listen, l.URL())
		}
	}
	server := api.New(api.Config{
		Store: h.a.recent, Encoder: enc, Compile: h.a.compile,
		Explain: h.explainAPI, Ready: func() any { return h.readiness() },
		Version: version, Mode: cfg.Mode.String(), Listen: listen, Started: time.Now(), Fields: fields, Mapping: cfg.GivenMapping(), Cut: h.a.pageCut,
	})
	mux := http.NewServeMux()
	mux.Handle("/api/", server.Handler())
	mux.Handle("/", ui.Handler())
	return server, api.Guard(cfg.UIAddr, mux), nil
}

// compile compiles an expression of the page's filter.
func (a *app) compile(expression string) (func(*flow.Record) bool, error) {
	f, err := a.cfg.CompileFilter(expression)
	if mistake := (*filter.Error)(nil); errors.As(err, &mistake) {
		return nil, &api.Mistake{Text: mistake.Text, Position: position(expression, mistake.Line, mistake.Column)}
	}
	if err != nil {
		return nil, err
	}
	return f.Matcher(), nil
}

// position returns the number of the character at a line and a column, all from 1 on.
func position(expression string, line, column int) int {
	n := column
	for l := range strings.Lines(expression) {
		if line--; line <= 0 {
			break
		}
		n += utf8.RuneCountInString(l)
	}
	return n
}

// explainAPI answers as /explain does, and its errors as the API's.
func (h *httpServers) explainAPI(w http.ResponseWriter, r *http.Request) {
	explanation, err := h.explanation(r.URL.RawQuery)
	if err != nil {
		api.Fail(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(explanation) // the client has gone
}
