package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// params reads the parameters of a request. The first mistake is kept.
type params struct {
	s      *Server
	values url.Values
	known  []string
	err    error
}

func (s *Server) parse(r *http.Request) *params {
	p := &params{s: s}
	if p.values, p.err = url.ParseQuery(r.URL.RawQuery); p.err != nil {
		p.err = fmt.Errorf("the query cannot be read: %w", p.err)
	}
	return p
}

// failf notes a mistake.
func (p *params) failf(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// text returns a parameter, "" if it is not there.
func (p *params) text(name string) string {
	p.known = append(p.known, name)
	if v := p.values[name]; len(v) > 1 {
		p.failf("%s is given twice", name)
	}
	return p.values.Get(name)
}

// number returns a parameter that is a number from 1 on.
func (p *params) number(name string, otherwise, most int) int {
	v := p.text(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		p.failf("%s: %q is no number from 1 to %d", name, short(v), most)
		return otherwise
	}
	return n
}

// query reads what all answers about records have in common.
func (p *params) query() (q recent.Query) {
	newest := p.s.cfg.Store.Newest()
	q.Since, q.Until = p.time("since", newest), p.time("until", newest)
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Since.After(q.Until) {
		p.failf("since is after until")
	}
	if expression := p.text("filter"); strings.TrimSpace(expression) != "" {
		match, err := p.s.cfg.Compile(expression)
		if err != nil && p.err == nil {
			p.err = err
		}
		q.Match = match
	}
	return q
}

// time reads a duration before the newest record, or a time.
func (p *params) time(name string, newest time.Time) time.Time {
	v := p.text(name)
	if v == "" {
		return time.Time{}
	}
	if d, err := time.ParseDuration(v); err == nil && d >= 0 {
		if newest.IsZero() { // there are no records
			newest = time.Now()
		}
		return newest.Add(-d)
	}
	// A plus sign that was not escaped has become a space.
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(v, " ", "+"))
	if err != nil || t.Year() < 1970 || t.Year() > 2200 {
		p.failf("%s: %q is no duration such as 5m, and no time of RFC 3339 such as 2006-01-02T15:04:05Z from 1970 to 2200", name, short(v))
	}
	return t
}

// end returns the first mistake. Parameters that nobody asked for are one.
func (p *params) end() error {
	for name := range p.values {
		if p.err == nil && !slices.Contains(p.known, name) {
			if len(p.known) == 0 {
				return fmt.Errorf("there is no parameter %q", short(name))
			}
			return fmt.Errorf("there is no parameter %q; there are %s", short(name), strings.Join(p.known, ", "))
		}
	}
	return p.err
}

// short cuts what a client sent, for an error.
func short(s string) string { return cut(s, 100) }

// cut returns the beginning of a text, at most so many bytes of it, in whole characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}
