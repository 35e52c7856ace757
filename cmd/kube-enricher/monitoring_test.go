package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

const (
	dashboardDir = "../../charts/goflow2-kube-enricher/dashboards"
	alertsFile   = "../../charts/goflow2-kube-enricher/rules/alerts.yaml"
	denialsFile  = "../../charts/goflow2-kube-enricher/rules/denials.yaml"
	alertTests   = "../../test/alerts/alerts.yaml"
)

// dashboard is what is checked of a Grafana dashboard.
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Time          struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"time"`
	Templating struct {
		List []struct {
			Name       string      `json:"name"`
			Type       string      `json:"type"`
			Definition string      `json:"definition"`
			Datasource *datasource `json:"datasource"`
		} `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	Datasource  *datasource `json:"datasource"`
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		RefID      string      `json:"refId"`
		Expr       string      `json:"expr"`
		Legend     string      `json:"legendFormat"`
		Datasource *datasource `json:"datasource"`
	} `json:"targets"`
}

func readDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(dashboardDir + "/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards %v, %v", files, err)
	}
	all := make(map[string]dashboard)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = d
	}
	return all
}

// alert is a rule of a Prometheus rule file.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readAlerts(t *testing.T) []alert {
	t.Helper()
	var all []alert
	for _, name := range []string{alertsFile, denialsFile} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []struct {
				Rules []alert `yaml:"rules"`
			} `yaml:"groups"`
		}
		if err := yaml.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		for _, g := range file.Groups {
			all = append(all, g.Rules...)
		}
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

// TestDashboards checks what Grafana needs, and that what is shown exists.
func TestDashboards(t *testing.T) {
	metrics := newCatalog(exportedMetrics(t))
	uids := make(map[string]string)
	for name, d := range readDashboards(t) {
		if d.UID == "" || len(d.UID) > 40 || uids[d.UID] != "" {
			t.Errorf("%s: uid %q is empty, too long or that of %q, too", name, d.UID, uids[d.UID])
		}
		uids[d.UID] = name
		if d.Title == "" || d.SchemaVersion < 36 || d.Time.From == "" {
			t.Errorf("%s: title %q, schemaVersion %d, time %+v", name, d.Title, d.SchemaVersion, d.Time)
		}
		known := []string{"__range"}
		for i, v := range d.Templating.List {
			known = append(known, v.Name)
			if (v.Type == "datasource") != (v.Name == "datasource") || (i == 0) != (v.Name == "datasource") {
				t.Errorf("%s: variable %d is %s of type %s; the first, and only that, is the data source", name, i, v.Name, v.Type)
			}
			if v.Type == "query" {
				// label_values(SERIES, LABEL) names a label as by (LABEL) does.
				m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition)
				if m == nil {
					t.Errorf("%s: variable %s is %q", name, v.Name, v.Definition)
					continue
				}
				metrics.check(t, name+", variable "+v.Name, "count by ("+m[2]+") ("+m[1]+")", "")
			}
		}
		ids := make(map[int]bool)
		for i, p := range d.Panels {
			where := fmt.Sprintf("%s, panel %q", name, p.Title)
			if p.ID <= 0 || ids[p.ID] {
				t.Errorf("%s: id %d is taken", where, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: at %+v", where, g)
			}
			for _, o := range d.Panels[:i] {
				o := o.GridPos
				if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
					t.Errorf("%s: overlaps the panel at %+v", where, o)
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
				t.Errorf("%s: no title, description or query", where)
			}
			if !slices.Contains([]string{"timeseries", "stat", "table", "bargauge"}, p.Type) {
				t.Errorf("%s: of type %s", where, p.Type)
			}
			refs := make(map[string]bool)
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] {
					t.Errorf("%s: refId %q", where, q.RefID)
				}
				refs[q.RefID] = true
				for _, s := range []*datasource{p.Datasource, q.Datasource} {
					if s == nil || s.UID != "${datasource}" || s.Type != "prometheus" {
						t.Errorf("%s: the data source is not the variable: %+v", where, s)
					}
				}
				for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
					if !slices.Contains(known, m[1]) {
						t.Errorf("%s: variable $%s is not defined", where, m[1])
					}
				}
				metrics.check(t, where, q.Expr, q.Legend)
				// Flow caches export once in a minute: a shorter window may have nothing of it.
				window := map[string]string{"timeseries": "[5m]", "stat": "[5m]", "table": "[$__range]", "bargauge": "[$__range]"}[p.Type]
				for _, r := range regexp.MustCompile(`\[[^\]]*\]`).FindAllString(q.Expr, -1) {
					if r != window {
						t.Errorf("%s: the window is %s, want %s", where, r, window)
					}
				}
			}
		}
	}
}

// TestAlerts checks that alerts are about what exists, and that each is
// documented and tested.
func TestAlerts(t *testing.T) {
	metrics := newCatalog(exportedMetrics(t))
	page, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(alertTests)
	if err != nil {
		t.Fatal(err)
	}
	var tests struct {
		Tests []struct {
			Rules []struct {
				Name string `yaml:"alertname"`
				Want []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal(b, &tests); err != nil {
		t.Fatal(err)
	}
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, tt := range tests.Tests {
		for _, r := range tt.Rules {
			fires[r.Name] = fires[r.Name] || len(r.Want) > 0
			quiet[r.Name] = quiet[r.Name] || len(r.Want) == 0
		}
	}
	seen := make(map[string]bool)
	for _, a := range readAlerts(t) {
		if a.Alert == "" || seen[a.Alert] {
			t.Errorf("alert %q has no name of its own", a.Alert)
		}
		seen[a.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s: severity %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: has no summary or description", a.Alert)
		}
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: test/alerts has no test in which it fires, or none in which it does not", a.Alert)
		}
		anchor := "#" + strings.ToLower(a.Alert)
		if !strings.HasSuffix(a.Annotations["runbook_url"], "/docs/monitoring.md"+anchor) || !strings.Contains(string(page), "\n### "+a.Alert+"\n") {
			t.Errorf("%s: docs/monitoring.md does not say what to do about it, or runbook_url %q does not lead there", a.Alert, a.Annotations["runbook_url"])
		}
		metrics.check(t, a.Alert, a.Expr, "")
		for _, text := range a.Annotations {
			for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !strings.Contains(a.Expr, m[1]) {
					t.Errorf("%s: label %s is not in the expression", a.Alert, m[1])
				}
			}
		}
	}
}

// TestPromtool has Prometheus' own tool parse all expressions and run the
// alerts' tests.
func TestPromtool(t *testing.T) {
	promtool := needs.Program(t, "promtool")
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, d := range readDashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				rules = append(rules, rule{fmt.Sprintf("panel:%d", len(rules)), withoutVariables(q.Expr)})
			}
		}
	}
	b, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboards", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", file, alertsFile, denialsFile}, {"test", "rules", alertTests}} {
		out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// withoutVariables puts into a dashboard's expression what Grafana would.
func withoutVariables(expr string) string {
	expr = strings.ReplaceAll(expr, "$__range", "1m")
	return regexp.MustCompile(`\$\w+`).ReplaceAllString(expr, ".*")
}

// catalog has the names of series that a scrape has, with the values of their
// labels.
type catalog map[string]series

type series struct {
	counter bool
	labels  map[string]map[string]bool
}

// targetLabels are those that Prometheus adds.
var targetLabels = []string{"job", "instance"}

// closedLabels have no other values than those that are exported from the
// start.
var closedLabels = []string{"result", "reason", "why", "protocol"}

func newCatalog(families []*dto.MetricFamily) catalog {
	c := make(catalog)
	add := func(name string, counter bool, m *dto.Metric, more ...string) {
		s, ok := c[name]
		if !ok {
			s = series{counter, make(map[string]map[string]bool)}
			c[name] = s
		}
		for _, l := range m.GetLabel() {
			if s.labels[l.GetName()] == nil {
				s.labels[l.GetName()] = make(map[string]bool)
			}
			s.labels[l.GetName()][l.GetValue()] = true
		}
		for _, l := range more {
			s.labels[l] = map[string]bool{}
		}
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				add(f.GetName()+"_bucket", true, m, "le")
				add(f.GetName()+"_sum", true, m)
				add(f.GetName()+"_count", true, m)
			default:
				add(f.GetName(), f.GetType() == dto.MetricType_COUNTER, m)
			}
		}
	}
	return c
}

// check holds the names of metrics and labels in an expression, and the labels
// of a legend, to what is exported. Syntax is promtool's business.
func (c catalog) check(t *testing.T, where, expr, legend string) {
	t.Helper()
	selectors, lists := names(expr)
	if len(selectors) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	labels := slices.Clone(targetLabels)
	for _, s := range selectors {
		m, ok := c[s.metric]
		if s.metric == "up" {
			continue // Prometheus' own
		}
		if !ok {
			t.Errorf("%s: there is no metric %s", where, s.metric)
			continue
		}
		// Gauges have no rate, but changes and largest values.
		if s.ranged && !m.counter && !regexp.MustCompile(`(changes|max_over_time)\(`+s.metric+`\[`).MatchString(expr) {
			t.Errorf("%s: %s is no counter, and so has no rate", where, s.metric)
		}
		for l := range m.labels {
			labels = append(labels, l)
		}
		for _, match := range s.matchers {
			values, ok := m.labels[match.label]
			if !ok && !slices.Contains(targetLabels, match.label) {
				t.Errorf("%s: %s has no label %s", where, s.metric, match.label)
			}
			if slices.Contains(closedLabels, match.label) {
				for v := range strings.SplitSeq(match.value, "|") {
					if !values[v] {
						t.Errorf("%s: label %s of %s is never %q", where, match.label, s.metric, v)
					}
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
		lists = append(lists, m[1])
	}
	for _, l := range lists {
		if !slices.Contains(labels, l) {
			t.Errorf("%s: no metric of the expression has a label %s", where, l)
		}
	}
}

type selector struct {
	metric   string
	matchers []matcher
	ranged   bool
}

type matcher struct{ label, value string }

var (
	promToken = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9.]+[a-z]*|[=!]~|!=|.`)
	promWords = []string{"and", "or", "unless", "bool", "offset"}
	promLists = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
)

// names returns the selectors of series in an expression, and the labels that
// its other parts name.
func names(expr string) (selectors []selector, labels []string) {
	var tokens []string
	for _, tok := range promToken.FindAllString(expr, -1) {
		if strings.TrimSpace(tok) != "" {
			tokens = append(tokens, tok)
		}
	}
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	word := func(s string) bool { return regexp.MustCompile(`^[a-zA-Z_:]`).MatchString(s) }
	for i := 0; i < len(tokens); i++ {
		tok := tokens[i]
		switch {
		case slices.Contains(promLists, tok):
			if at(i+1) == "(" {
				for i += 2; i < len(tokens) && tokens[i] != ")"; i++ {
					if word(tokens[i]) {
						labels = append(labels, tokens[i])
					}
				}
			}
		case !word(tok) || slices.Contains(promWords, tok) || at(i+1) == "(" || isAggregation(tok) && slices.Contains(promLists, at(i+1)):
		default:
			s := selector{metric: tok}
			if at(i+1) == "{" {
				for i += 2; i < len(tokens) && tokens[i] != "}"; i++ {
					if word(tokens[i]) {
						s.matchers = append(s.matchers, matcher{tokens[i], strings.Trim(at(i+2), `"`)})
						i += 2
					}
				}
			}
			s.ranged = strings.HasPrefix(at(i+1), "[")
			selectors = append(selectors, s)
		}
	}
	return selectors, labels
}

func isAggregation(s string) bool {
	return slices.Contains([]string{"sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"}, s)
}

// TestNames holds what the tests above rely on.
func TestNames(t *testing.T) {
	selectors, labels := names(`topk(3, 8 * sum by (a, b) (rate(m_total{x="y",z=~"v|w",q!="\"}"}[5m]))) > on (c) group_left () 0.01 * sum(n) and o{} or p offset 5m`)
	got := fmt.Sprint(selectors, labels)
	const want = `[{m_total [{x y} {z v|w} {q \"}}] true} {n [] false} {o [] false} {p [] false}] [a b c]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
