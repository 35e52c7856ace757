package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// TestCheckLive asks a real API server for the rights of a service account that lacks some, and
// for a server that is not there.
func TestCheckLive(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	out, err := command(t, "-kubeconfig", serviceAccount(t, ns, exampleRules(t, "nodes", "services")), "-check", "-check.live", "-listen", "flow://127.0.0.1:0", "-addr", "").Output()
	if err == nil {
		t.Error("services cannot be listed, and that is no failure")
	}
	for _, want := range []string{
		`cluster +ok +Kubernetes v1\.`, `right to pods +ok +get, list, watch`, `right to services +failed +no right to get, list, watch`,
		`right to nodes +warning +no right to get, list, watch; fewer names are found`, `right to replicasets\.apps +ok`,
		`right to egressips\.k8s\.ovn\.org +(ok|warning)`, `output file +ok`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "not contacted") {
		t.Errorf("%s", out)
	}
}
