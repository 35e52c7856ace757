package enrich

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	pageSize    = 500
	listTimeout = 2 * time.Minute // of a page
	// pollInterval is the time between lists without the permission to watch.
	pollInterval = 30 * time.Second
	// A permission that is missing is asked for again after accessRetry. The time doubles up to
	// maxAccessRetry.
	accessRetry    = 30 * time.Second
	maxAccessRetry = 5 * time.Minute
	// catchUpTimeout is how long a watch that was connected may go on reporting what happened
	// before.
	catchUpTimeout = 10 * time.Second
	// A server that cannot be reached is tried again after about a tenth of the time that it has
	// been away: addresses change hands unseen meanwhile.
	minRetry    = 500 * time.Millisecond
	retryGrowth = 1.1
	retrySteps  = 40 // from minRetry to maxRetry
	maxRetry    = 15 * time.Second
	// After a session of this length the next retry is quick again.
	stableSession = 2 * time.Minute
	// relistDelay is the time to the next list if the server, which is there, cannot resume a watch
	// and the last session was longer than shortSession.
	relistDelay  = 50 * time.Millisecond
	shortSession = 5 * time.Second
	// shortestWatch is the least time for which client-go asks: it asks for up to twice as much.
	shortestWatch = 5 * time.Minute
)

// watcher keeps one kind up to date by a reflector of client-go, which streams or pages lists and
// resumes watches. The watcher is the reflector's ListerWatcher. It adds what to do without
// permissions, and reports to the [store] how far the watch can be trusted. Its methods run in the
// reflector's goroutine.
type watcher struct {
	c           *Cluster
	kind        kind
	st          *store
	onForbidden func() // called whenever the kind may not be listed; may be nil

	streams sync.WaitGroup // of watches

	listErr, watchErr       error     // of this session
	synced                  time.Time // in this session; zero before
	watchForbiddenAt        time.Time // when only the permission to watch was missing
	listAccess, watchAccess access
	warned                  bool // missing permissions were logged
	absent                  bool // the server does not have the kind

	scopes []*scope // the namespaces, if there are several; see namespaces.go
}

// run lists and watches until ctx ends. A session of the reflector is a list and the watches after
// it; run decides how long to wait between two.
func (w *watcher) run(ctx context.Context) {
	log := w.c.log.WithField("resource", w.kind.resource())
	logger := logr.New(&klogSink{log, &w.c.warnings})
	ctx = klog.NewContext(ctx, logger)
	lw := &cache.ListWatch{ListWithContextFunc: w.list, WatchFuncWithContext: w.watch}
	to := &objectStore{w.toObject, w.st.update, w.st.remove, w.replace, func() { w.st.onBookmark(w.kind) }}
	r := cache.NewReflectorWithOptions(lw, nil, to, cache.ReflectorOptions{
		Logger: &logger, Name: "kube-enricher", TypeDescription: w.kind.resource(),
		// Backoff is for watches; run waits between sessions.
		Backoff: &wait.Backoff{Duration: minRetry, Factor: retryGrowth, Jitter: 0.5, Steps: retrySteps, Cap: maxRetry},
	})
	r.WatchListPageSize = pageSize
	delay, ask := minRetry, accessRetry
	defer w.streams.Wait()
	for {
		begin := time.Now()
		w.listErr, w.watchErr, w.synced = nil, nil, time.Time{}
		err := r.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return
		}
		if !w.synced.IsZero() {
			ask = accessRetry
			if time.Since(begin) > stableSession {
				delay = minRetry
			}
		}
		next := wait.Jitter(delay, 0.5)
		switch {
		case w.listAccess.refusedTemporarily(w.listErr) || w.listErr == nil && w.watchAccess.refusedTemporarily(w.watchErr):
			log.WithError(cmp.Or(w.listErr, w.watchErr)).Debug("refused what was granted before; retrying")
			w.st.markUnreachable(w.kind, cmp.Or(w.listErr, w.watchErr))
			delay = min(time.Duration(float64(delay)*retryGrowth), maxRetry)
		case noAccess(w.listErr) && w.kind.optional():
			w.st.markUnreachable(w.kind, w.listErr)
			w.st.setForbidden(w.kind, w.onForbidden != nil && !w.warned)
			if !w.warned && !w.absent {
				w.logMissing(log)
				w.warned = true
			}
			if w.onForbidden != nil {
				w.onForbidden()
			}
			next, ask = ask, min(2*ask, maxAccessRetry)
		case w.listErr == nil && noAccess(w.watchErr):
			w.c.warnNoWatch(log)
			if time.Since(w.watchForbiddenAt) >= maxAccessRetry {
				w.watchForbiddenAt = time.Now()
			}
			next = pollInterval
		default:
			if err == nil {
				w.st.metrics.failures[w.kind].Inc()
			}
			w.logFailure(log, cmp.Or(w.listErr, err, w.watchErr))
			if w.st.mustRelist(w.kind) && !w.synced.IsZero() && time.Since(w.synced) > shortSession {
				next = wait.Jitter(relistDelay, 1) // changes are missed until the list
			}
			delay = min(time.Duration(float64(delay)*retryGrowth), maxRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// warnNoWatch logs, once for all kinds, that the right to watch is missing.
func (c *Cluster) warnNoWatch(log *logrus.Entry) {
	if !c.warnedNoWatch.Swap(true) {
		log.Warn("no right to watch pods, services or others: they are listed every 30s instead; grant the verb watch to see changes at once")
	}
}

// logMissing logs that a kind may not be listed. Of what few clusters have it is no warning.
func (w *watcher) logMissing(log *logrus.Entry) {
	if w.kind.mayBeAbsent() {
		log.Info(withoutKind[w.kind])
		return
	}
	log.Warn(withoutKind[w.kind])
}

// logFailure notes and logs why a session ended, unless that is usual.
func (w *watcher) logFailure(log *logrus.Entry, err error) {
	if err == nil || isExpired(err) {
		log.Debug("the watch has ended: listing again")
		return
	}
	verb := "list"
	if w.listErr == nil && w.watchErr != nil {
		verb = "watch"
	}
	reason, message := "unreachable", trouble(err, verb+" "+w.kind.resource())
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("grant the verbs get, list and watch on %s: %w", w.kind.resource(), err)
		reason, message = w.kind.resource(), "no right to "+w.kind.resource()+", without which there are no names; retrying"
	}
	w.st.markUnreachable(w.kind, err)
	if log := w.c.warnings.Logger(log, reason); log != nil {
		log.WithError(plain(err)).Warn(message)
		w.c.troubled.Store(true)
	}
}

// noteReached logs that the API server answers again, if it was logged that it does not.
func (w *watcher) noteReached() {
	if w.c.troubled.Swap(false) {
		w.c.log.Info("the Kubernetes API answers again")
	}
}

// withoutKind is logged when a kind may not be listed: what is lost, and how to get it.
var withoutKind = [numKinds]string{
	kindNode:                  "no right to list nodes: addresses of nodes and zones are not named; grant it to the service account",
	kindReplicaSet:            "no right to list replicasets: they are fetched one by one if that is allowed, else they stand in for Deployments; grant it to the service account",
	kindJob:                   "no right to list jobs: they stand in for CronJobs; grant it to the service account",
	kindReplicationController: "no right to list replicationcontrollers: they stand in for DeploymentConfigs; grant it to the service account",
	kindEgressIP:              "no right to list egressips.k8s.ovn.org: egress IPs are not named; grant it to the service account",
	kindEndpointSlice:         "no right to list endpointslices.discovery.k8s.io: endpoints of services that are no pods are not named; grant it to the service account",
	kindNetworkAttachment:     "no right to list network-attachment-definitions.k8s.cni.cncf.io: networks are distinguished by userdefinednetworks and clusteruserdefinednetworks, or by namespace and name; grant it to the service account",
	kindUserNetwork:           "no right to list userdefinednetworks.k8s.ovn.org: networks are distinguished by network-attachment-definitions, or by namespace and name; grant it to the service account",
	kindClusterUserNetwork:    "no right to list clusteruserdefinednetworks.k8s.ovn.org: networks are distinguished by network-attachment-definitions, or by namespace and name; grant it to the service account",
}

// isExpired reports whether the server cannot resume a watch, because it no longer has the changes
// since the last watch (410 Gone).
func isExpired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// list gets a page of a list, as objects of this package. In several namespaces it is all of them.
func (w *watcher) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	if opts.Continue == "" {
		// The newest state: the server does not page the older one that a reflector would accept.
		opts.ResourceVersion, opts.ResourceVersionMatch = "", ""
		w.st.onListRequested(w.kind)
	}
	opts.LabelSelector = w.kind.selector()
	var l *objectList
	var err error
	if w.several() {
		l, err = w.listNamespaces(ctx, opts)
	} else {
		if opts.Continue == "" {
			err = w.permit(ctx, "list", w.namespace())
		}
		if err == nil {
			l, err = w.page(ctx, w.namespace(), opts)
		}
	}
	if err != nil {
		w.listErr = err
		w.countFailure("list", err)
		return nil, err
	}
	w.listErr, w.listAccess = nil, access{granted: true}
	return l, nil
}

// countFailure counts a request that failed or was not made. A right that is not granted is no
// failure, and nobody is to be alarmed by it, if the program is set to do without (a kind
// that is optional) or lists instead (the right to watch).
func (w *watcher) countFailure(verb string, err error) {
	if !noAccess(err) || verb == "list" && !w.kind.optional() {
		w.st.metrics.failures[w.kind].Inc()
	}
}

// permit returns the error that a request would get because the right to it is missing, or the kind
// is.
func (w *watcher) permit(ctx context.Context, verb, namespace string) error {
	w.absent = false
	if w.kind.mayBeAbsent() {
		if err := w.c.checkServed(ctx, w.kind); err != nil {
			w.absent = apierrors.IsNotFound(err)
			return err
		}
	}
	return w.c.checkAccess(ctx, verb, w.kind, namespace)
}

// page gets a page of the list of a namespace, or of all if it is empty.
func (w *watcher) page(ctx context.Context, namespace string, opts metav1.ListOptions) (*objectList, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var page runtime.Object
	var err error
	if w.kind.metadataOnly() {
		page, err = w.c.metadata(w.kind, namespace).List(ctx, opts)
	} else {
		page, err = w.c.request(w.kind, namespace, &opts).Do(ctx).Get()
	}
	if err != nil {
		return nil, err
	}
	m, err := meta.ListAccessor(page)
	if err != nil {
		return nil, err
	}
	l := &objectList{Items: make([]runtime.Object, 0, meta.LenList(page))}
	l.ResourceVersion, l.Continue = m.GetResourceVersion(), m.GetContinue()
	err = meta.EachListItem(page, func(o runtime.Object) error {
		obj, err := w.toObject(o)
		if err == nil {
			l.Items = append(l.Items, obj)
		}
		return err
	})
	return l, err
}

// watch begins a watch, or a streaming list: a watch that begins with all objects.
func (w *watcher) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	streaming := opts.SendInitialEvents != nil
	if streaming && w.several() {
		return nil, apierrors.NewBadRequest("lists of several namespaces do not stream") // the reflector will list
	}
	if time.Since(w.watchForbiddenAt) < maxAccessRetry {
		w.watchErr = apierrors.NewForbidden(schema.GroupResource{Resource: w.kind.resource()}, "", errors.New("no right to watch"))
		return nil, w.watchErr
	}
	if streaming {
		w.st.onListRequested(w.kind)
	}
	opts.LabelSelector = w.kind.selector()
	var i watch.Interface
	var err error
	if w.several() {
		i, err = w.watchNamespaces(ctx, opts)
	} else if err = w.permit(ctx, "watch", w.namespace()); err == nil {
		i, err = w.stream(ctx, w.namespace(), opts)
	}
	if err == nil {
		w.watchErr, w.watchAccess = nil, access{granted: true}
		w.noteReached()
		if streaming {
			w.listAccess = access{granted: true}
		} else {
			w.st.onConnected(w.kind)
		}
		return w.monitor(ctx, i, time.Duration(*opts.TimeoutSeconds)*time.Second), nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	if streaming && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) {
		return nil, err // an older server: the reflector will list
	}
	w.watchErr = err
	w.countFailure("watch", err)
	if noAccess(err) {
		return nil, err
	}
	w.st.markUnreachable(w.kind, err)
	if streaming {
		// The error's type is hidden from the reflector. For some types it sleeps by its own
		// backoff, even after ctx has ended.
		return nil, errors.New(err.Error())
	}
	return nil, err
}

func (w *watcher) stream(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	if w.kind.metadataOnly() {
		return w.c.metadata(w.kind, namespace).Watch(ctx, opts)
	}
	opts.Watch = true
	return w.c.request(w.kind, namespace, &opts).Timeout(time.Duration(*opts.TimeoutSeconds) * time.Second).Watch(ctx)
}

// monitor hands on the events of a watch, and reports how far it can be trusted: that it has ended,
// and that it has caught up because nothing comes any more. The end is reported before the
// reflector sees it, so before it can connect again. The server ends a watch after the timeout, and
// the reflector renews it at once.
func (w *watcher) monitor(ctx context.Context, from watch.Interface, timeout time.Duration) watch.Interface {
	events := make(chan watch.Event)
	to := watch.NewProxyWatcher(events)
	w.streams.Go(func() {
		defer close(events)
		defer from.Stop()
		ended := false
		end := func(expired bool) {
			if !ended {
				ended = true
				w.st.onDisconnected(w.kind, expired)
			}
		}
		defer end(false)
		opened := time.Now()
		idle, begin, caughtUp := time.NewTimer(idleAfter), time.Now(), false
		defer idle.Stop()
		for {
			select {
			case ev, ok := <-from.ResultChan():
				if !ok {
					if time.Since(opened) >= min(timeout, shortestWatch)-idleAfter {
						ended = true
						w.renew(ctx)
					}
					return
				}
				if ev.Type == watch.Error {
					end(isExpired(apierrors.FromObject(ev.Object)))
				}
				select {
				case events <- ev:
				case <-to.StopChan():
					return
				}
				if ev.Type == watch.Error {
					return
				}
				if !caughtUp && time.Since(begin) < catchUpTimeout {
					idle.Reset(idleAfter)
				}
			case <-idle.C:
				if caughtUp = w.st.onIdle(w.kind); !caughtUp {
					begin = time.Now()
					idle.Reset(idleAfter)
				}
			case <-to.StopChan():
				return
			}
		}
	})
	return to
}

// renew notes that a watch has ended in time.
func (w *watcher) renew(ctx context.Context) {
	w.st.onTimedOut(w.kind)
	w.streams.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(idleAfter):
			w.st.onRenewalLate(w.kind)
		}
	})
}

// toObject returns an object of the kind as the store needs it.
func (w *watcher) toObject(o any) (*object, error) { return toObject(w.kind, o, w.c.labels...) }

// replace hands a full list to the store.
func (w *watcher) replace(list []*object) {
	w.synced = time.Now()
	if w.warned {
		w.warned = false
		w.c.log.WithField("resource", w.kind.resource()).Infof("%s are known now", w.kind.resource())
	}
	w.st.replace(w.kind, list)
}
