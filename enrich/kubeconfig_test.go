package enrich

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"k8s.io/klog/v2"
)

func kubeconfigText(server string) string {
	return `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + server + `"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`
}

func TestClusterConfig(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, b := file("a", kubeconfigText("https://a.test")), file("b", kubeconfigText("https://b.test"))
	empty, broken := file("empty", ""), file("broken", "a: [")
	dangling := file("dangling", strings.Replace(kubeconfigText("https://a.test"), "current-context: x", "current-context: y", 1))
	file("home/.kube/config", kubeconfigText("https://home.test"))
	file("brokenhome/.kube/config", "a: [")
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		name, flag, env, home string
		host                  string
		err                   string // in the error
	}{
		{"flag first", a, b, "home", "https://a.test", ""},
		{"then the environment", "", b, "home", "https://b.test", ""},
		{"several files", "", missing + string(filepath.ListSeparator) + b, "home", "https://b.test", ""},
		{"then home", "", "", "home", "https://home.test", ""},
		{"none", "", "", "nobody", "", ErrNoCluster.Error()},
		{"missing flag", missing, b, "home", "", missing},
		{"missing environment", "", missing, "home", "", missing},
		{"separators only", "", string(filepath.ListSeparator), "home", "", "KUBECONFIG"},
		{"empty", empty, "", "home", "", empty},
		{"broken", broken, "", "home", "", broken},
		{"no such context", dangling, "", "home", "", dangling},
		{"broken at home", "", "", "brokenhome", "", filepath.Join("brokenhome", ".kube", "config")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", c.env)
			t.Setenv("HOME", filepath.Join(dir, c.home))
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			cfg, err := ClusterConfig(c.flag)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want %q in it", err, c.err)
				}
				if (c.name == "none") != errors.Is(err, ErrNoCluster) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Host != c.host {
				t.Errorf("host %s, want %s", cfg.Host, c.host)
			}
			log, _ := logtest.NewNullLogger()
			if _, err := NewCluster(cfg, log); err != nil {
				t.Error(err)
			}
		})
	}
}

// A pod without a service account token cannot reach the cluster; the error says so.
func TestClusterConfigInCluster(t *testing.T) {
	if _, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount/token"); err == nil {
		t.Skip("needs a machine without a service account")
	}
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := ClusterConfig(""); err == nil || errors.Is(err, ErrNoCluster) || !strings.Contains(err.Error(), "service account") {
		t.Errorf("error %v", err)
	}
}

func TestRouteKlog(t *testing.T) {
	defer klog.ClearLogger()
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	RouteKlog(log)
	for range 3 {
		klog.ErrorS(errors.New("broken"), "cannot do", "what", 1)
		klog.InfoS("done", "what", 2)
		klog.V(2).InfoS("details")
	}
	entries := hook.AllEntries()
	if len(entries) != 2 {
		t.Fatalf("%d lines, want 2", len(entries))
	}
	if e := entries[0]; e.Level != logrus.WarnLevel || e.Message != "Kubernetes client: cannot do" || e.Data["what"] != 1 {
		t.Errorf("%v %q %v", e.Level, e.Message, e.Data)
	}
	if e := entries[1]; e.Level != logrus.DebugLevel || e.Message != "Kubernetes client: done" {
		t.Errorf("%v %q", e.Level, e.Message)
	}
}
