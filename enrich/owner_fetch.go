package enrich

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	fetchQPS   = 10
	fetchBurst = 50
	// fetchTimeout is how long the first sync waits for owners that are fetched.
	fetchTimeout = 10 * time.Second
)

// fetchOwners gets pending owners of a kind that may not be listed, one by one and each once. It
// runs until ctx ends. Something is sent to needed when owners may have become pending.
func (c *Cluster) fetchOwners(ctx context.Context, st *store, k kind, needed <-chan struct{}) {
	limit := flowcontrol.NewTokenBucketRateLimiter(fetchQPS, fetchBurst)
	var timeout <-chan time.Time // of the first sync
	var forbidden time.Time
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-needed:
		case <-again.C:
		}
		if time.Since(forbidden) < accessRetry {
			st.ownersFetched(k)
			continue
		}
		owners := st.missingOwners(k)
		if owners = c.permittedOwners(ctx, k, owners); owners == nil {
			forbidden = time.Now()
		}
		for _, o := range owners {
			if timeout == nil {
				timeout = time.After(fetchTimeout)
			}
			select {
			case <-timeout:
				st.ownersFetched(k)
			default:
			}
			if limit.Wait(ctx) != nil {
				return
			}
			m, err := c.metadata(k, o.namespace).Get(ctx, o.name, metav1.GetOptions{})
			switch {
			case err == nil:
				st.applyFetchedOwner(k, o.key, newObject(k, m))
				continue
			case apierrors.IsNotFound(err):
				st.applyFetchedOwner(k, o.key, nil)
				continue
			case apierrors.IsForbidden(err):
				forbidden = time.Now()
			default:
				again.Reset(maxRetry)
			}
			break
		}
		st.ownersFetched(k)
	}
}

// permittedOwners returns the owners that the program may get, nil if it may get none of those that
// are given.
func (c *Cluster) permittedOwners(ctx context.Context, k kind, owners []missingOwner) []missingOwner {
	if len(owners) == 0 {
		return []missingOwner{}
	}
	if len(c.namespaces) == 0 {
		if c.checkAccess(ctx, "get", k, "") != nil {
			return nil
		}
		return owners
	}
	allowed := map[string]bool{}
	for _, n := range c.namespaces {
		allowed[n] = c.checkAccess(ctx, "get", k, n) == nil
	}
	var list []missingOwner
	for _, o := range owners {
		if allowed[o.namespace] {
			list = append(list, o)
		}
	}
	return list
}

// missingOwner is a pending owner that has not been fetched.
type missingOwner struct{ key, namespace, name string }

// missingOwners returns the pending owners of a kind that have not been fetched; none once the kind
// may be listed.
func (st *store) missingOwners(k kind) []missingOwner {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.feeds[k].watch.Listed() { // the permission to list was granted
		return nil
	}
	var list []missingOwner
	for key, o := range st.pendingOwners[k] {
		if !o.requested {
			list = append(list, missingOwner{key, o.namespace, o.name})
		}
	}
	return list
}

// applyFetchedOwner applies an owner that was fetched. It is nil if the server has none.
func (st *store) applyFetchedOwner(k kind, key string, o *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if w := st.pendingOwners[k][key]; w != nil {
		w.requested = true
	}
	if o == nil || o.uid != key { // gone, or another one of the same name
		return
	}
	st.applyOwner(o)
	st.removeOwner(k, key, time.Now().UnixNano()) // nothing will report its end
}

// ownersFetched ends the wait of the first sync for owners that are fetched: all are there that can
// be, or it took too long.
func (st *store) ownersFetched(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.feeds[kindPod].watch.Listed() {
		st.feeds[k].fetching = false
		st.checkSync()
	}
}
