package config

import (
	"strings"
	"testing"
)

// TestOrder holds errors to the first mistake in the user's order, each time.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		args, env []string
		want      string
	}{
		{[]string{"-loglevel", "x", "-addr", "y"}, nil, "-loglevel: "},
		{[]string{"-addr", "y", "-loglevel", "x"}, nil, "-addr: "},
		{[]string{"-addr", "y"}, []string{"KUBE_ENRICHER_LOGLEVEL=x"}, "-addr: "},
		{nil, []string{"KUBE_ENRICHER_LOGLEVEL=x", "KUBE_ENRICHER_ADDR=y"}, "-loglevel (from "},
		{nil, []string{"KUBE_ENRICHER_ADDR=y", "KUBE_ENRICHER_LOGLEVEL=x"}, "-addr (from "},
		{[]string{"-check.ready", "http://h/readyz", "-check.live"}, nil, "-check.ready: "},
		{[]string{"-check.live", "-check.ready", "http://h/readyz"}, nil, "-check.live: "},
		{[]string{"-ovn.nb", "tcp:h:1", "-ovn.tls.key", "/k", "-ovn.tls.ca", "/a", "-ovn.tls.cert", "/c"}, nil, "-ovn.tls.key: "},
		{[]string{"-ovn.nb", "tcp:h:1", "-ovn.tls.ca", "/a", "-ovn.tls.cert", "/c", "-ovn.tls.key", "/k"}, nil, "-ovn.tls.ca: "},
		{[]string{"-addr", ":1", "-debug.addr", ":2", "-ui.addr", ":2", "-hubble.addr", ":1"}, nil, "-ui.addr: "},
	} {
		for range 30 { // the order of a map would differ
			_, err := Parse(c.args, c.env, false)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v %v: %v, not of %s", c.args, c.env, err, c.want)
				break
			}
		}
	}
}
