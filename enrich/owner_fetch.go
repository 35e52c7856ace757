package enrich

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"
)

// fetchOwners gets those owners one by one, each once, that pods have and that
// may not be listed.
func (c *Cluster) fetchOwners(ctx context.Context, st *store, k kind, needed <-chan struct{}) {
	limit := flowcontrol.NewTokenBucketRateLimiter(fetchQPS, fetchBurst)
	var patience <-chan time.Time // of the first sync
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
		if len(owners) > 0 && c.checkAccess(ctx, "get", k) != nil {
			forbidden, owners = time.Now(), nil
		}
		for _, o := range owners {
			if patience == nil {
				patience = time.After(fetchTimeout)
			}
			select {
			case <-patience:
				st.ownersFetched(k)
			default:
			}
			if limit.Wait(ctx) != nil {
				return
			}
			m, err := c.metadata(k).Namespace(o.namespace).Get(ctx, o.name, metav1.GetOptions{})
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

// missingOwner is an owner that pods have and that has not been seen.
type missingOwner struct{ key, namespace, name string }

// missingOwners returns those that have not been asked for.
func (st *store) missingOwners(k kind) []missingOwner {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.feeds[k].synced { // the right to list was granted
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

// fetched applies an owner that was asked for, or notes that there is none.
func (st *store) applyFetchedOwner(k kind, key string, it *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if o := st.pendingOwners[k][key]; o != nil {
		o.requested = true
	}
	if it == nil || it.uid != key { // another one of the same name
		return
	}
	st.applyOwner(it)
	st.removeOwner(k, key, time.Now().UnixNano()) // nobody tells when it goes
}

// madeUp says that what can be had of a kind without rights is there.
func (st *store) ownersFetched(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.feeds[kindPod].synced {
		st.feeds[k].fetching = false
		st.checkSync()
	}
}
