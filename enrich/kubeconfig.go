package enrich

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNoCluster is the error of [ClusterConfig] if there is no configuration of a cluster.
var ErrNoCluster = errors.New("no cluster is configured")

// ClusterConfig returns how to reach the cluster. It takes the first of these that is given: the
// kubeconfig file that the argument names, the files in the environment variable KUBECONFIG, the
// service account of the pod that this program runs in, and ~/.kube/config. Without any the error
// is [ErrNoCluster]. If the first one cannot be used, the error names it.
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

// fromFiles merges kubeconfig files as kubectl does. Files that do not exist are left out if at
// least one does. The name is for errors.
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
