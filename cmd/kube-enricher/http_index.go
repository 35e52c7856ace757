package main

import (
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// route is a page of one of the HTTP addresses.
type route struct {
	path string
	// query is an example of what follows the path, empty for none.
	query string
	// what says what the page answers. It is empty for those that the page before it is about.
	what    string
	handler http.Handler
}

// handleAll serves the routes, and at / a list of them.
func handleAll(routes []route) http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle("GET "+r.path, r.handler)
	}
	text := routeList(routes)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text))
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "there is no such page; / lists what there is", http.StatusNotFound)
	})
	return mux
}

// routeList returns what / answers.
func routeList(routes []route) string {
	version, _, _ := versions()
	var b strings.Builder
	fmt.Fprintf(&b, "kube-enricher %s\n\n", version)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range routes {
		if r.what != "" {
			fmt.Fprintf(table, "%s\t%s\n", r.path+r.query, r.what)
		}
	}
	_ = table.Flush() // a strings.Builder takes everything
	fmt.Fprintf(&b, "\nSee %s\n", config.Page("http.md"))
	return b.String()
}
