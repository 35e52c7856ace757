package enrich

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// ownerWatcher keeps the owners of one resource up to date, as [watcher] does for the kinds that are
// always followed. Only their own owners are of interest, so it does not matter when a change
// arrives.
type ownerWatcher struct {
	c         *Cluster
	st        *store
	source    *linkSource
	resource  schema.GroupVersionResource
	namespace string // empty for all
	log       *logrus.Entry
	listed    bool // the user named it: what is missing is a warning

	watchErr error // of this session
}

// followOwners begins to follow the listed resources, and makes the store begin with the others
// when it meets one. The caller holds the lock of the store.
func (c *Cluster) followOwners(ctx context.Context, st *store, wg *sync.WaitGroup) {
	owners := st.chains.owners
	if owners == nil {
		return
	}
	for _, gr := range owners.listed {
		if alwaysFollowed(gr) {
			continue
		}
		s := &linkSource{}
		st.addLinkSource(s)
		wg.Go(func() { c.followOwner(ctx, st, s, gr, "", true) })
	}
	started := map[schema.GroupKind]bool{}
	st.chains.start = func(ref *ownerRef) {
		gk := schema.GroupKind{Group: ref.group, Kind: ref.kind}
		if started[gk] || owners.lists(ref.group, ref.kind) {
			return
		}
		started[gk] = true
		s := &linkSource{}
		st.addLinkSource(s)
		gr, version := schema.GroupResource{Group: ref.group}, ref.version
		wg.Go(func() {
			name, err := c.resourceOfKind(ctx, gk, version)
			if err != nil {
				c.log.WithError(err).WithField("kind", gk.String()).Info("owners of this kind are not followed")
				st.mu.Lock()
				st.linksSynced(s)
				st.mu.Unlock()
				return
			}
			gr.Resource = name
			c.followOwner(ctx, st, s, gr, version, false)
		})
	}
}

// alwaysFollowed reports whether a resource is watched at any rate.
func alwaysFollowed(gr schema.GroupResource) bool {
	for k := range numKinds {
		if kinds[k].group == gr.Group && kinds[k].resource == gr.Resource {
			return true
		}
	}
	return false
}

// resourceOfKind returns the resource of a kind.
func (c *Cluster) resourceOfKind(ctx context.Context, gk schema.GroupKind, version string) (string, error) {
	list, err := c.resources(ctx, gk.Group, version)
	if err != nil {
		return "", err
	}
	for i := range list {
		if list[i].Kind == gk.Kind {
			return list[i].Name, nil
		}
	}
	return "", apierrors.NewNotFound(schema.GroupResource{Group: gk.Group, Resource: gk.Kind}, "")
}

// followOwner waits for a resource to be there, and then lists and watches it until ctx ends.
// Without a version it is the one that the server prefers.
func (c *Cluster) followOwner(ctx context.Context, st *store, s *linkSource, gr schema.GroupResource, version string, listed bool) {
	log := c.log.WithField("resource", gr.String())
	var namespaced bool
	for warned := false; ; {
		found, scoped, err := c.findResource(ctx, gr, version)
		if err == nil {
			version, namespaced = found, scoped
			break
		}
		if ctx.Err() != nil {
			return
		}
		st.mu.Lock()
		st.linksSynced(s)
		st.mu.Unlock()
		if !warned && listed {
			log.WithError(err).Warn("-kube.owners: there is no such resource in the cluster; owners are followed without it until it comes")
		}
		warned = true
		if !sleep(ctx, wait.Jitter(maxAccessRetry, 0.1)) {
			return
		}
	}
	namespaces := []string{""}
	if namespaced && len(c.namespaces) > 0 {
		namespaces = c.namespaces
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, n := range namespaces {
		source := s
		if i > 0 {
			source = &linkSource{}
			st.mu.Lock()
			st.addLinkSource(source)
			st.mu.Unlock()
		}
		w := &ownerWatcher{c: c, st: st, source: source, resource: gr.WithVersion(version), namespace: n, log: log, listed: listed}
		wg.Go(func() { w.run(ctx) })
	}
}

// findResource returns the version of a resource, and whether it is in namespaces. An error is one
// of [apierrors.IsNotFound] if the server does not have it.
func (c *Cluster) findResource(ctx context.Context, gr schema.GroupResource, version string) (found string, namespaced bool, err error) {
	if version == "" && gr.Group == "" {
		version = kindVersion
	}
	if version == "" {
		var group metav1.APIGroup
		if err := c.discover(ctx, &group, "/apis", gr.Group); err != nil {
			return "", false, fmt.Errorf("look for the API group %s: %w", gr.Group, err)
		}
		version = group.PreferredVersion.Version
	}
	list, err := c.resources(ctx, gr.Group, version)
	if err != nil {
		return "", false, fmt.Errorf("look for the resources of %s: %w", gr.Group, err)
	}
	for i := range list {
		if list[i].Name == gr.Resource {
			return version, list[i].Namespaced, nil
		}
	}
	return "", false, apierrors.NewNotFound(gr, "")
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// run lists and watches until ctx ends.
func (w *ownerWatcher) run(ctx context.Context) {
	logger := logr.New(&klogSink{w.log, &w.c.warnings})
	ctx = klog.NewContext(ctx, logger)
	lw := &cache.ListWatch{ListWithContextFunc: w.list, WatchFuncWithContext: w.watch}
	to := &objectStore{
		asLink, func(o *object) { w.st.updateLink(w.source, o) }, w.st.removeLink,
		func(list []*object) { w.st.replaceLinks(w.source, list) }, func() {},
	}
	r := cache.NewReflectorWithOptions(lw, nil, to, cache.ReflectorOptions{
		Logger: &logger, Name: "kube-enricher", TypeDescription: w.resource.Resource,
		Backoff: &wait.Backoff{Duration: minRetry, Factor: retryGrowth, Jitter: 0.5, Steps: retrySteps, Cap: maxRetry},
	})
	r.WatchListPageSize = pageSize
	for warned := false; ; {
		w.watchErr = nil
		err := w.c.checkAccessTo(ctx, "list", w.resource.GroupResource(), w.namespace)
		missing := err != nil
		next := wait.Jitter(maxAccessRetry, 0.5)
		if err == nil {
			next = wait.Jitter(maxRetry, 0.5)
			err = r.ListAndWatchWithContext(ctx)
			missing = apierrors.IsForbidden(err) && w.watchErr == nil
		}
		switch {
		case ctx.Err() != nil:
			return
		case missing:
			w.st.mu.Lock()
			w.st.linksSynced(w.source)
			w.st.mu.Unlock()
			if log := w.log.WithError(err); !warned && w.listed {
				log.Warn("-kube.owners: no right to list this resource; grant it to the service account")
			} else if !warned {
				log.Info("no right to list this resource, through which owners of -kube.owners are found")
			}
			warned = true
		case apierrors.IsForbidden(w.watchErr):
			w.c.warnNoWatch(w.log)
			next = pollInterval
		case err != nil:
			w.log.WithError(plain(err)).Debug(trouble(err, "follow owners"))
		}
		if !sleep(ctx, next) {
			return
		}
	}
}

func (w *ownerWatcher) client() metadata.ResourceInterface {
	r := w.c.meta.Resource(w.resource)
	if w.namespace == "" {
		return r
	}
	return r.Namespace(w.namespace)
}

func (w *ownerWatcher) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return w.client().List(ctx, opts)
}

func (w *ownerWatcher) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	var i watch.Interface
	w.watchErr = w.c.checkAccessTo(ctx, "watch", w.resource.GroupResource(), w.namespace)
	if w.watchErr == nil {
		i, w.watchErr = w.client().Watch(ctx, opts)
	}
	return i, w.watchErr
}

// asLink returns an object as the store needs it.
func asLink(o any) (*object, error) {
	switch o := o.(type) {
	case *object:
		return o, nil
	case metav1.Object:
		return newLink(o), nil
	}
	return nil, fmt.Errorf("unexpected object of type %T among owners", o)
}
