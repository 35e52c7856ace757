package enrich

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// Cluster is a [Source] that lists and watches at an API server. It asks for Pods, Services, Nodes,
// ReplicaSets, EndpointSlices and EgressIPs at once, and for Jobs and ReplicationControllers when it
// sees a pod of one. When it sees a pod with another network than the cluster's own, it asks for the
// objects that define networks.
type Cluster struct {
	core       rest.Interface
	meta       metadata.Interface
	labels     []string // names of the pods' labels that records may show
	namespaces []string // those that are watched, in order; none if all are
	log        logrus.FieldLogger
	warnings   ratelog.Set

	warnedNoWatch atomic.Bool // missing permissions to watch were logged
	troubled      atomic.Bool // it was logged that requests fail, and not yet that they succeed again
}

// NewCluster returns a source for the cluster of a REST configuration, which it copies. It sends
// nothing before [Enricher.Run]. Labels are the names of the pods' labels that records may show, in
// the order of flow.AttrLabel. An error is one of the configuration, such as a certificate that
// cannot be read.
func NewCluster(config *rest.Config, log logrus.FieldLogger, labels ...string) (*Cluster, error) {
	c := rest.CopyConfig(config)
	if c.QPS == 0 {
		c.QPS, c.Burst = 20, 40
	}
	if c.UserAgent == "" {
		c.UserAgent = "goflow2-kube-enricher"
	}
	c.Timeout = 0 // it would end watches; requests that need a limit have their own
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
	if err := errors.Join(corev1.AddToScheme(scheme), authorizationv1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register the types of the API: %w", err)
	}
	addEgressIPs(scheme)
	addNetworkAttachments(scheme)
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

// Restrict makes the source list and watch in some namespaces alone, by Roles instead of a
// ClusterRole. It asks for no Nodes and no EgressIPs then, which are in no namespace. Call it before
// [Enricher.Run].
func (c *Cluster) Restrict(namespaces ...string) {
	c.namespaces = slices.Sorted(slices.Values(namespaces))
	c.namespaces = slices.Compact(c.namespaces)
}

func (c *Cluster) fixed() bool { return false }

func (c *Cluster) reload(*store) error { return nil } // it is always up to date

// run starts a watcher for each kind, and waits for the end of ctx and of all watchers.
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
	startWatcher := func(k kind) {
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
		if k.clusterScoped() && len(c.namespaces) > 0 {
			return
		}
		st.feeds[k].started = true
		startWatcher(k)
	}
	for _, k := range []kind{kindPod, kindService, kindNode, kindReplicaSet, kindEndpointSlice, kindEgressIP} {
		st.startKind(k)
	}
	c.followOwners(ctx, st, &wg)
	st.mu.Unlock()
	<-ctx.Done()
}

// kindVersion is the version of all kinds.
const kindVersion = "v1"

// metadata returns the client for the metadata of a kind in a namespace, or in all if it is empty.
func (c *Cluster) metadata(k kind, namespace string) metadata.ResourceInterface {
	r := c.meta.Resource(schema.GroupVersionResource{Group: kinds[k].group, Version: kindVersion, Resource: k.resource()})
	if namespace == "" {
		return r
	}
	return r.Namespace(namespace)
}

// request begins a request for the objects of a kind in a namespace, or in all if it is empty.
func (c *Cluster) request(k kind, namespace string, opts *metav1.ListOptions) *rest.Request {
	path := apiPath(kinds[k].group, kindVersion)
	if namespace != "" {
		path = append(path, "namespaces", namespace)
	}
	return c.core.Get().AbsPath(append(path, k.resource())...).VersionedParams(opts, metav1.ParameterCodec)
}
