package enrich

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// api is an API server in memory: it lists in pages, streams, watches from any
// version that is not compacted, and refuses what a test forbids.
type api struct {
	mu        sync.Mutex
	version   int
	compacted int
	objects   map[string]map[string]map[string]any // by resource and key
	history   []change
	changed   chan struct{} // closed at each change
	cut       chan struct{} // closed to cut all watches

	forbidden map[string]bool // "list pods", "list pods in NAMESPACE", "all namespaces"
	// namespaces are given to [Cluster.Restrict].
	namespaces []string
	absent     map[string]bool // resources that the server does not have
	selectors  map[string]string
	noReviews  bool     // nobody may ask what is forbidden
	refused    []string // requests that were
	down       bool
	slow       time.Duration // of lists
	pace       time.Duration // of watch events
	hesitates  time.Duration // before it tells that a watch cannot resume
	old        bool          // no streaming lists
	requests   []string      // "list pods", without watches' ends
}

type change struct {
	version  int
	resource string
	event    map[string]any
}

func newAPI() *api {
	return &api{
		version: 10, objects: map[string]map[string]map[string]any{}, forbidden: map[string]bool{},
		absent: map[string]bool{
			"egressips": true, "network-attachment-definitions": true, "userdefinednetworks": true, "clusteruserdefinednetworks": true,
		}, selectors: map[string]string{},
		changed: make(chan struct{}), cut: make(chan struct{}),
	}
}

func (a *api) config() *rest.Config { return &rest.Config{Host: "http://api.test", Transport: a} }

// others are the resources of kinds that are read as owners of owners, by group and kind.
var others = map[string]string{
	"kubevirt.io/VirtualMachineInstance": "virtualmachineinstances", "kubevirt.io/VirtualMachine": "virtualmachines",
	"apps/Deployment": "deployments", "serving.knative.dev/Revision": "revisions", "serving.knative.dev/Configuration": "configurations",
	"serving.knative.dev/Service": "services.serving", "tekton.dev/TaskRun": "taskruns", "tekton.dev/PipelineRun": "pipelineruns",
	"gateway.networking.k8s.io/Gateway": "gateways", "sparkoperator.k8s.io/SparkApplication": "sparkapplications",
}

func resourceOf(o map[string]any) string {
	group, _, _ := strings.Cut(o["apiVersion"].(string), "/")
	if r := others[group+"/"+o["kind"].(string)]; r != "" {
		return r
	}
	for k := range numKinds {
		if kinds[k].name == o["kind"] {
			return kinds[k].resource
		}
	}
	panic(fmt.Sprint("no resource for ", o["kind"]))
}

func keyOf(o map[string]any) string {
	m := o["metadata"].(map[string]any)
	return fmt.Sprint(m["namespace"], "/", m["name"])
}

// put creates or replaces an object given as JSON or YAML.
func (a *api) put(t testing.TB, text string) {
	t.Helper()
	a.change(t, text, "")
}

func (a *api) remove(t testing.TB, text string) {
	t.Helper()
	a.change(t, text, "DELETED")
}

func (a *api) change(t testing.TB, text, kind string) {
	t.Helper()
	o := parseObject(t, text)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	o["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(a.version)
	resource, key := resourceOf(o), keyOf(o)
	if a.objects[resource] == nil {
		a.objects[resource] = map[string]map[string]any{}
	}
	_, there := a.objects[resource][key]
	switch {
	case kind == "DELETED":
		delete(a.objects[resource], key)
	case there:
		kind = "MODIFIED"
	default:
		kind = "ADDED"
	}
	if kind != "DELETED" {
		a.objects[resource][key] = o
	}
	a.history = append(a.history, change{a.version, resource, map[string]any{"type": kind, "object": o}})
	close(a.changed)
	a.changed = make(chan struct{})
}

// interrupt cuts all watches, and makes the server unreachable or reachable.
func (a *api) interrupt(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
	close(a.cut)
	a.cut = make(chan struct{})
}

// compact makes watches from before now impossible.
func (a *api) compact() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.compacted = a.version
}

// set changes how the server behaves.
func (a *api) set(change func(*api)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *api) forbid(what ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range what {
		a.forbidden[w] = true
	}
}

func (a *api) allow(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.forbidden, what)
}

// asked counts the requests so far that begin with what.
func (a *api) asked(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, r := range a.requests {
		if strings.HasPrefix(r, what) {
			n++
		}
	}
	return n
}

// RoundTrip implements [http.RoundTripper].
func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.answer(r)
	a.mu.Lock()
	slow := a.slow
	a.mu.Unlock()
	if q := r.URL.Query(); err == nil && resp.StatusCode == 200 && (q.Get("watch") == "" && r.Method == http.MethodGet || q.Get("sendInitialEvents") != "") {
		select { // the answer is what it was
		case <-time.After(slow):
		case <-r.Context().Done():
		}
	}
	return resp, err
}

func (a *api) answer(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Path == reviewPath && !a.down {
		return a.review(r), nil
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group, version := parts[1], parts[min(2, len(parts)-1)]
	if parts[0] == "apis" {
		parts = parts[1:]
	}
	if parts = parts[min(2, len(parts)):]; len(parts) == 0 {
		if a.down {
			return nil, fmt.Errorf("dial tcp: %w by test", syscall.ECONNREFUSED)
		}
		return a.discovery(group, version), nil
	}
	namespace, name := "", ""
	if parts[0] == "namespaces" {
		namespace, parts = parts[1], parts[2:]
	}
	resource, verb := parts[0], "list"
	if group == "serving.knative.dev" && resource == "services" {
		resource = "services.serving"
	}
	if len(parts) > 1 {
		name, verb = parts[1], "get"
	}
	q := r.URL.Query()
	if q.Get("watch") != "" {
		verb = "watch"
	}
	what := verb + " " + resource
	if name != "" {
		what += " " + name
	}
	if a.down {
		return nil, fmt.Errorf("dial tcp: %w by test", syscall.ECONNREFUSED)
	}
	a.requests = append(a.requests, what)
	if a.isForbidden(verb, resource, namespace) {
		a.refused = append(a.refused, what)
		return status(403, metav1.StatusReasonForbidden, what+" is forbidden"), nil
	}
	switch verb {
	case "get":
		if o, ok := a.objects[resource][namespace+"/"+name]; ok {
			return reply(200, stripped(o)), nil
		}
		return status(404, metav1.StatusReasonNotFound, name+" not found"), nil
	case "list":
		if a.absent[resource] {
			return status(404, metav1.StatusReasonNotFound, "the server could not find the requested resource"), nil
		}
		a.selectors[resource] = q.Get("labelSelector")
		return a.list(resource, namespace, q.Get("limit"), q.Get("continue")), nil
	}
	return a.watch(r.Context(), resource, namespace, q.Get("resourceVersion"), q.Get("timeoutSeconds"), q.Get("sendInitialEvents") == "true"), nil
}

// isForbidden reports whether a request is forbidden: everywhere, in its namespace, or because it is
// one of all namespaces and only some are allowed.
func (a *api) isForbidden(verb, resource, namespace string) bool {
	what := verb + " " + resource
	return a.forbidden[what] || a.forbidden[what+" in "+namespace] || namespace == "" && resource != "nodes" && a.forbidden["all namespaces"]
}

// discovery describes a group, or lists the resources of its version.
func (a *api) discovery(group, version string) *http.Response {
	var list []any
	for _, info := range kinds {
		if info.group == group && !a.absent[info.resource] {
			list = append(list, map[string]any{"name": info.resource, "kind": info.name, "namespaced": true})
		}
	}
	for kind, resource := range others {
		if g, name, _ := strings.Cut(kind, "/"); g == group {
			resource, _, _ = strings.Cut(resource, ".")
			list = append(list, map[string]any{"name": resource, "kind": name, "namespaced": true})
		}
	}
	if list == nil {
		return status(404, metav1.StatusReasonNotFound, "the server could not find the requested resource")
	}
	if version == group {
		preferred := "v1"
		if group == "sparkoperator.k8s.io" {
			preferred = "v1beta2"
		}
		return reply(200, map[string]any{"apiVersion": "v1", "kind": "APIGroup", "preferredVersion": map[string]any{"version": preferred}})
	}
	return reply(200, map[string]any{"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": group + "/" + version, "resources": list})
}

// review answers a SelfSubjectAccessReview.
func (a *api) review(r *http.Request) *http.Response {
	if a.noReviews {
		return status(403, metav1.StatusReasonForbidden, "reviews are forbidden")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	var envelope runtime.Unknown
	var review authorizationv1.SelfSubjectAccessReview
	if err := errors.Join(envelope.Unmarshal(bytes.TrimPrefix(body, []byte("k8s\x00"))), review.Unmarshal(envelope.Raw)); err != nil {
		panic(err)
	}
	review.APIVersion, review.Kind = envelope.APIVersion, envelope.Kind
	attributes := review.Spec.ResourceAttributes
	for _, info := range kinds {
		if info.resource == attributes.Resource && info.group != attributes.Group && attributes.Group != "serving.knative.dev" {
			panic(fmt.Sprint("review of ", attributes))
		}
	}
	review.Status.Allowed = !a.isForbidden(attributes.Verb, attributes.Resource, attributes.Namespace)
	return reply(201, review)
}

// stripped is what a server makes of kinds of which only metadata is asked for.
func stripped(o map[string]any) map[string]any {
	group, _, _ := strings.Cut(o["apiVersion"].(string), "/")
	_, other := others[group+"/"+o["kind"].(string)]
	switch o["kind"] {
	case "ReplicaSet", "Job", "ReplicationController", "UserDefinedNetwork", "ClusterUserDefinedNetwork":
		other = true
	}
	if other {
		return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]}
	}
	return o
}

func listKind(resource string) (apiVersion, kind string) {
	switch resource {
	case "pods":
		return "v1", "PodList"
	case "services":
		return "v1", "ServiceList"
	case "nodes":
		return "v1", "NodeList"
	case "egressips":
		return "k8s.ovn.org/v1", "EgressIPList"
	case "endpointslices":
		return "discovery.k8s.io/v1", "EndpointSliceList"
	case "network-attachment-definitions":
		return "k8s.cni.cncf.io/v1", "NetworkAttachmentDefinitionList"
	}
	return "meta.k8s.io/v1", "PartialObjectMetadataList"
}

func (a *api) sorted(resource, namespace string) []map[string]any {
	var list []map[string]any
	keys := make([]string, 0, len(a.objects[resource]))
	for k := range a.objects[resource] {
		if namespace == "" || strings.HasPrefix(k, namespace+"/") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		list = append(list, stripped(a.objects[resource][k]))
	}
	return list
}

func (a *api) list(resource, namespace, limit, from string) *http.Response {
	items := a.sorted(resource, namespace)
	first, _ := strconv.Atoi(from)
	n, _ := strconv.Atoi(limit)
	meta := map[string]any{"resourceVersion": strconv.Itoa(a.version)}
	items = items[first:]
	if n > 0 && len(items) > n {
		items = items[:n]
		meta["continue"] = strconv.Itoa(first + n)
	}
	apiVersion, kind := listKind(resource)
	return reply(200, map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta, "items": items})
}

func (a *api) watch(ctx context.Context, resource, namespace, from, timeout string, initial bool) *http.Response {
	if initial && a.old {
		return status(422, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden")
	}
	since, _ := strconv.Atoi(from)
	var first []map[string]any
	if initial {
		since = a.version
		for _, o := range a.sorted(resource, namespace) {
			first = append(first, map[string]any{"type": "ADDED", "object": o})
		}
		apiVersion, kind := listKind(resource)
		first = append(first, map[string]any{"type": "BOOKMARK", "object": map[string]any{
			"apiVersion": apiVersion, "kind": strings.TrimSuffix(kind, "List"), "metadata": map[string]any{
				"resourceVersion": strconv.Itoa(a.version), "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"},
			},
		}})
	} else if since < a.compacted {
		r := forgotten()
		r.Body = &slowBody{r.Body, a.hesitates}
		return r
	}
	body, w := io.Pipe()
	cut, pace := a.cut, a.pace
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	seconds, _ := strconv.Atoi(timeout)
	expired := time.After(time.Duration(seconds) * time.Second)
	go func() {
		defer stop()
		defer w.Close()
		e := json.NewEncoder(w)
		for _, event := range first {
			if e.Encode(event) != nil {
				return
			}
		}
		for {
			a.mu.Lock()
			changed := a.changed
			var events []map[string]any
			for _, c := range a.history {
				o := c.event["object"].(map[string]any)
				if in := namespace == "" || strings.HasPrefix(keyOf(o), namespace+"/"); in && c.resource == resource && c.version > since {
					events = append(events, map[string]any{"type": c.event["type"], "object": stripped(o)})
				}
			}
			since = a.version
			a.mu.Unlock()
			for _, event := range events {
				time.Sleep(pace)
				if e.Encode(event) != nil {
					return
				}
			}
			select {
			case <-changed:
			case <-cut:
				return
			case <-expired:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}
}

func reply(code int, v any) *http.Response {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(b))),
	}
}

// slowBody comes late.
type slowBody struct {
	io.ReadCloser
	wait time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	time.Sleep(b.wait)
	return b.ReadCloser.Read(p)
}

// forgotten is how a server tells that a watch cannot resume: in its first event.
func forgotten() *http.Response {
	return reply(200, map[string]any{"type": "ERROR", "object": expired})
}

var expired = metav1.Status{
	TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: 410,
	Reason: metav1.StatusReasonExpired, Message: "too old resource version",
}

func status(code int, reason metav1.StatusReason, message string) *http.Response {
	return reply(code, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: int32(code), Reason: reason, Message: message,
	})
}
