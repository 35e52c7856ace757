package enrich

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

const (
	pageSize       = 500
	listTimeout    = 2 * time.Minute  // of a page
	pollInterval   = 30 * time.Second // without the right to watch
	accessRetry    = 30 * time.Second // for rights that were missing,
	maxAccessRetry = 5 * time.Minute  // at growing intervals up to this
	idleAfter      = time.Second      // a watch that tells nothing for so long has caught up,
	catchUpTimeout = 10 * time.Second // and so has one that was connected so long ago
	// What cannot be reached is tried again after a tenth of the time that it has
	// been away, about: while it is away, addresses change hands unseen.
	minRetry      = 500 * time.Millisecond
	retryGrowth   = 1.1
	retrySteps    = 40 // until lastRetry
	maxRetry      = 15 * time.Second
	stableSession = 2 * time.Minute // resets the time to the next retry
	relistDelay   = 50 * time.Millisecond
	shortSession  = 5 * time.Second // after this, a list is made again at once if it must be
	revokedAfter  = time.Minute     // that a right has been refused which was there
	fetchQPS      = 10
	fetchBurst    = 50
	fetchTimeout  = 10 * time.Second // how long the first sync waits for owners that are fetched
)

// Cluster is a [Source] that lists and watches at an API server. It asks for
// pods, services, nodes and ReplicaSets at once, for Jobs and
// ReplicationControllers when it sees a pod of one.
type Cluster struct {
	core     rest.Interface
	meta     metadata.Interface
	labels   []string // of pods, to be kept
	log      logrus.FieldLogger
	warnings limiter

	warnedNoWatch atomic.Bool // missing rights to watch were logged
}

// NewCluster makes a source of the cluster that config leads to. Nothing is sent
// before [Enricher.Run]. Objects get the values of the pods' labels of the given
// names.
func NewCluster(config *rest.Config, log logrus.FieldLogger, labels ...string) (*Cluster, error) {
	c := rest.CopyConfig(config)
	if c.QPS == 0 {
		c.QPS, c.Burst = 20, 40
	}
	if c.UserAgent == "" {
		c.UserAgent = "goflow2-kube-enricher"
	}
	c.Timeout = 0 // it would end watches; what needs a limit has its own
	c.WarningHandlerWithContext, c.WarningHandler = rest.NoWarnings{}, nil
	client, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to the cluster: %w", err)
	}
	metaClient, err := metadata.NewForConfigAndClient(c, client)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to the cluster: %w", err)
	}
	scheme := runtime.NewScheme()
	// A scheme of all groups would cost megabytes.
	if err := errors.Join(corev1.AddToScheme(scheme), authorizationv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register the types of the API: %w", err)
	}
	c.APIPath, c.GroupVersion = "/api", &corev1.SchemeGroupVersion
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	core, err := rest.RESTClientForConfigAndClient(c, client)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to the cluster: %w", err)
	}
	return &Cluster{core: core, meta: metaClient, labels: labels, log: log}, nil
}

func (c *Cluster) fixed() bool { return false }

func (c *Cluster) reload(*store) error { return nil }

func (c *Cluster) run(ctx context.Context, st *store) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	needed := make(chan struct{}, 1)
	fetch := func() {
		select {
		case needed <- struct{}{}:
		default:
		}
	}
	feed := func(k kind) {
		w := &watcher{c: c, kind: k, st: st}
		if k == kindReplicaSet {
			begin := sync.OnceFunc(func() { wg.Go(func() { c.fetchOwners(ctx, st, k, needed) }) })
			w.onForbidden = func() { begin(); fetch() }
		}
		wg.Go(func() { w.run(ctx) })
	}
	st.mu.Lock()
	st.fetchOwners = fetch
	st.startKind = func(k kind) {
		st.feeds[k].started = true
		feed(k)
	}
	for _, k := range []kind{kindPod, kindService, kindNode, kindReplicaSet} {
		st.startKind(k)
	}
	st.mu.Unlock()
	<-ctx.Done()
}

func (c *Cluster) metadata(k kind) metadata.Getter {
	return c.meta.Resource(schema.GroupVersionResource{Group: kinds[k].group, Version: "v1", Resource: k.resource()})
}
