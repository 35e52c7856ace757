package enrich

import (
	"context"
	"errors"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	reviewPath    = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	reviewTimeout = 10 * time.Second
)

// may asks the API server whether this program may do something with all
// objects of a kind, so that it does not try what is forbidden: who watches over
// the cluster would have to ask what it is up to. Everyone may ask that, unless
// an administrator has taken it away (system:basic-user); whatever keeps the
// answer from coming, the error is nil then, and the request itself will tell.
// A refusal is the error that the request would get.
func (c *Cluster) checkAccess(ctx context.Context, verb string, k kind) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	var answer authorizationv1.SelfSubjectAccessReview
	err := c.core.Post().AbsPath(reviewPath).Body(&authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: kinds[k].group, Resource: k.resource()},
		},
	}).Do(ctx).Into(&answer)
	if err != nil || answer.Status.Allowed {
		return nil
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: kinds[k].group, Resource: k.resource()}, "", errors.New("no right to "+verb))
}

// right is one that may have been there.
type access struct {
	granted      bool
	refusedSince time.Time // since when it has been refused
}

// refusedForNow says whether a right was refused that was there before. An API
// server that is starting does that, before it has read the rights; it is taken
// for an answer when it lasts.
func (r *access) refusedTemporarily(err error) bool {
	if !r.granted || !noAccess(err) {
		return false
	}
	if r.refusedSince.IsZero() {
		r.refusedSince = time.Now()
	}
	return time.Since(r.refusedSince) < revokedAfter
}

// missingRight also holds for kinds that the server does not have.
func noAccess(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) }
