package enrich

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
)

// Right is what this program may do with the objects of one kind.
type Right struct {
	// Resource is the name in a Role, with its group: replicasets.apps.
	Resource string
	// Namespace is where, empty for all namespaces.
	Namespace string
	// Missing has the verbs of get, list and watch that are not granted.
	Missing []string
	// Absent reports whether the server does not have the kind, which is no fault.
	Absent bool
	// Optional reports whether the program works without, and finds fewer names.
	Optional bool
}

// Probe contacts the API server and asks which of the rights that the program can use it has. It
// lists and watches nothing, and tries nothing that is forbidden. It returns the server's version.
// An error says why the server cannot be reached.
func (c *Cluster) Probe(ctx context.Context) (serverVersion string, rights []Right, err error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	b, err := c.core.Get().AbsPath("/version").SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil && !apierrors.IsForbidden(err) {
		return "", nil, fmt.Errorf("reach the Kubernetes API: %w", plain(err))
	}
	var v version.Info
	if err == nil {
		if err := json.Unmarshal(b, &v); err != nil {
			return "", nil, fmt.Errorf("the Kubernetes API answers with something else: %w", err)
		}
	}
	namespaces := c.namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	for k := range numKinds {
		for _, ns := range namespaces {
			if k.clusterScoped() && ns != "" {
				continue
			}
			r := Right{Resource: k.resource(), Namespace: ns, Optional: k.optional()}
			if group := kinds[k].group; group != "" {
				r.Resource += "." + group
			}
			if k.mayBeAbsent() {
				if err := c.checkServed(ctx, k); apierrors.IsNotFound(err) {
					r.Absent = true
					rights = append(rights, r)
					continue
				}
			}
			for _, verb := range []string{"get", "list", "watch"} {
				if err := c.checkAccess(ctx, verb, k, ns); err != nil {
					r.Missing = append(r.Missing, verb)
				}
			}
			rights = append(rights, r)
		}
	}
	if err := ctx.Err(); err != nil {
		return "", nil, errors.New("the Kubernetes API is too slow: ten seconds were not enough to ask for rights")
	}
	return v.GitVersion, rights, nil
}

// String returns what is missing, in words.
func (r Right) String() string {
	switch {
	case r.Absent:
		return "the cluster does not have it"
	case len(r.Missing) == 0:
		return "get, list, watch"
	}
	return "no right to " + strings.Join(r.Missing, ", ")
}
