package enrich

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	reviewPath    = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	reviewTimeout = 10 * time.Second
	// revokedAfter: a permission that was granted counts as revoked once it has been refused for
	// this long.
	revokedAfter = time.Minute
)

// checkAccess asks the API server whether this program may use a verb on all objects of a kind in a
// namespace, or in all if it is empty, by a SelfSubjectAccessReview (authorization.k8s.io/v1). The
// program does not try what is forbidden, because refused requests look like an attack in the
// cluster's audit log. The error is the one that the request would get. It is nil if access is
// allowed, and if the server gives no answer: then the request itself shows whether it is. The
// ClusterRole system:basic-user lets everyone ask, unless an administrator has changed it.
func (c *Cluster) checkAccess(ctx context.Context, verb string, k kind, namespace string) error {
	return c.checkAccessTo(ctx, verb, schema.GroupResource{Group: kinds[k].group, Resource: k.resource()}, namespace)
}

// checkAccessTo is checkAccess for a resource.
func (c *Cluster) checkAccessTo(ctx context.Context, verb string, gr schema.GroupResource, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	var answer authorizationv1.SelfSubjectAccessReview
	err := c.core.Post().AbsPath(reviewPath).Body(&authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: verb, Group: gr.Group, Resource: gr.Resource, Namespace: namespace,
			},
		},
	}).Do(ctx).Into(&answer)
	if err != nil || answer.Status.Allowed {
		return nil
	}
	why := "no right to " + verb
	if namespace != "" {
		why += " in namespace " + namespace
	}
	return apierrors.NewForbidden(gr, "", errors.New(why))
}

// checkServed asks the API server whether it has a kind, by its discovery document, which everybody
// may read. The error is that of a request for the kind, nil if it is there.
func (c *Cluster) checkServed(ctx context.Context, k kind) error {
	list, err := c.resources(ctx, kinds[k].group, kindVersion)
	if err != nil {
		if apierrors.IsForbidden(err) { // an administrator has closed it: the review decides
			return nil
		}
		return err
	}
	for i := range list {
		if list[i].Name == k.resource() {
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Group: kinds[k].group, Resource: k.resource()}, "")
}

// resources returns the resources of a version of an API group.
func (c *Cluster) resources(ctx context.Context, group, version string) ([]metav1.APIResource, error) {
	var list metav1.APIResourceList
	err := c.discover(ctx, &list, apiPath(group, version)...)
	return list.APIResources, err
}

// discover reads a discovery document.
func (c *Cluster) discover(ctx context.Context, to any, path ...string) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	b, err := c.core.Get().AbsPath(path...).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("read the discovery document %s: %w", strings.Join(path, "/"), err)
	}
	return nil
}

// apiPath returns the path of a version of an API group.
func apiPath(group, version string) []string {
	if group == "" {
		return []string{"/api", version}
	}
	return []string{"/apis", group, version}
}

// access is what is known of a permission.
type access struct {
	granted      bool
	refusedSince time.Time // zero if it has not been refused since it was granted
}

// refusedTemporarily reports whether an error refuses a permission that was granted before, and has
// not done so for long. An API server that starts refuses everything until it has read its roles.
func (a *access) refusedTemporarily(err error) bool {
	if !a.granted || !noAccess(err) {
		return false
	}
	if a.refusedSince.IsZero() {
		a.refusedSince = time.Now()
	}
	return time.Since(a.refusedSince) < revokedAfter
}

// noAccess reports whether an error refuses a permission, or the server does not have the kind.
func noAccess(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) }
