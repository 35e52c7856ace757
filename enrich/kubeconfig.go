package enrich

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNoCluster says that nothing tells how to reach a cluster.
var ErrNoCluster = errors.New("no cluster is configured")

// ClusterConfig finds out how to reach the cluster: from the kubeconfig file
// named by the argument; else from those in the environment variable KUBECONFIG; else
// from the service account of the pod this runs in; else from ~/.kube/config.
// If there is none of them, the error is [ErrNoCluster]; one that is there and
// cannot be used is an error that names it.
func ClusterConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return fromFiles(kubeconfig, kubeconfig)
	}
	if list := os.Getenv(clientcmd.RecommendedConfigPathEnvVar); list != "" {
		return fromFiles("KUBECONFIG="+list, filepath.SplitList(list)...)
	}
	c, err := rest.InClusterConfig()
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, rest.ErrNotInCluster) {
		return nil, fmt.Errorf("read the service account of this pod: %w", err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, ErrNoCluster
	}
	file := filepath.Join(home, clientcmd.RecommendedHomeDir, clientcmd.RecommendedFileName)
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoCluster
	}
	return fromFiles(file, file)
}

// fromFiles merges kubeconfig files, like kubectl: those that don't exist are
// left out if at least one does.
func fromFiles(name string, files ...string) (*rest.Config, error) {
	var missing error
	found := false
	for _, f := range files {
		if f == "" {
			continue
		}
		if _, err := os.Stat(f); err != nil { //nolint:gosec // the user names these files
			missing = err
			continue
		}
		found = true
	}
	if !found {
		if missing == nil {
			missing = errors.New("it names no file")
		}
		return nil, fmt.Errorf("read kubeconfig %s: %w", name, missing)
	}
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: files}
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("read kubeconfig %s: it has no current context, or no cluster for it", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", name, err)
	}
	return c, nil
}
