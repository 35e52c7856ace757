// Package grafana holds the chart's dashboards to Grafana's own schemas.
package grafana

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func TestSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := filepath.Glob("../../charts/goflow2-kube-enricher/dashboards/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard.Dashboard
		// Strict: required fields that are missing are errors, too.
		if err := d.UnmarshalJSONStrict(b); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", f, err)
		}
		if err := d.Validate(); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", f, err)
		}
		if len(d.Panels) == 0 {
			t.Errorf("%s has no panels", f)
		}
	}
}
