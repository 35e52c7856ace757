package enrich

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxDepth bounds lists within lists. In YAML, a list may contain itself.
const maxDepth = 5

// Snapshot is a [Source] that reads a file of Kubernetes objects. It changes only by
// [Enricher.Reload].
type Snapshot struct {
	path   string
	owners *Owners  // see Config.Owners
	labels []string // names of the pods' labels that records may show
	links  linkSource

	mu   sync.Mutex
	read *snapshotObjects // not applied yet; nil if all is
}

// snapshotObjects is the content of a file.
type snapshotObjects struct {
	items   [numKinds][]*object
	links   []*object      // owners that are read for the sake of their owners
	skipped map[string]int // objects of other kinds, by kind
	owners  *Owners
	labels  []string
}

// LoadSnapshot reads a file with the objects of a cluster, as kubectl get -o yaml or -o json prints
// them: a List, or several documents. It skips objects of other kinds than those that names are
// made of. Labels are the names of the pods' labels that records may show, in the order of
// flow.AttrLabel. An error names the file and, for its content, the line.
func LoadSnapshot(path string, labels ...string) (*Snapshot, error) {
	return LoadSnapshotWithOwners(path, nil, labels...)
}

// LoadSnapshotWithOwners is LoadSnapshot for an Enricher with the same [Config].Owners.
func LoadSnapshotWithOwners(path string, owners *Owners, labels ...string) (*Snapshot, error) {
	o, err := readSnapshot(path, owners, labels...)
	if err != nil {
		return nil, err
	}
	return &Snapshot{path: path, owners: owners, labels: labels, read: o}, nil
}

func (s *Snapshot) fixed() bool { return true }

func (s *Snapshot) run(ctx context.Context, st *store) {
	for k := range numKinds {
		st.markStarted(k)
	}
	s.apply(st)
	st.mu.Lock()
	st.checkSync() // Reload may have applied it before the kinds were started
	st.mu.Unlock()
	<-ctx.Done()
}

func (s *Snapshot) reload(st *store) error {
	o, err := readSnapshot(s.path, s.owners, s.labels...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.read = o
	s.mu.Unlock()
	s.apply(st)
	return nil
}

// apply applies what was read last, once.
func (s *Snapshot) apply(st *store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil {
		return
	}
	// Owners and Nodes come first, so that each Pod is rendered once.
	st.replaceLinks(&s.links, s.read.links)
	for _, k := range []kind{
		kindNetworkAttachment, kindUserNetwork, kindClusterUserNetwork,
		kindReplicaSet, kindJob, kindReplicationController, kindNode, kindEgressIP, kindEndpointSlice, kindService, kindPod,
	} {
		st.replace(k, s.read.items[k])
	}
	total := 0
	for _, n := range s.read.skipped {
		total += n
	}
	log := st.log.WithFields(logrus.Fields{
		"file": s.path, "pods": len(s.read.items[kindPod]), "services": len(s.read.items[kindService]),
		"nodes": len(s.read.items[kindNode]), "skipped": total,
	})
	if total > 0 {
		log = log.WithField("skipped_kinds", strings.Join(slices.Sorted(maps.Keys(s.read.skipped)), ","))
	}
	if len(s.read.items[kindPod]) == 0 {
		log.Warn("snapshot read; it has no pods, so hardly any record will have names")
	} else {
		log.Info("snapshot read")
	}
	s.read = nil
	st.freeGarbage()
}

func readSnapshot(path string, owners *Owners, labels ...string) (*snapshotObjects, error) {
	if path == "-" {
		return nil, errors.New("a snapshot is a file; standard input cannot be one")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		if o := streamObjects(f, owners, labels...); o != nil {
			return o, nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("read snapshot %s: %w", path, err)
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	o, err := parseObjects(b, owners, labels...)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	return o, nil
}

func parseObjects(b []byte, owners *Owners, labels ...string) (*snapshotObjects, error) {
	o := &snapshotObjects{skipped: map[string]int{}, owners: owners, labels: labels}
	if t := bytes.TrimLeft(b, " \t\r\n\ufeff"); len(t) == 0 || t[0] != '{' {
		err := o.parseYAML(b)
		return o, err
	}
	err := o.parseJSON(b)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) { // or YAML with a brace
		o = &snapshotObjects{skipped: map[string]int{}, owners: owners, labels: labels}
		if o.parseYAML(b) == nil {
			return o, nil
		}
	}
	return o, err
}

// typeHead is the part of an object that identifies its type.
type typeHead struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// itemType reports whether the object is a list, and returns the type of its items. Those of a
// typed list, such as a PodList, may lack it.
func (h typeHead) itemType() (item typeHead, ok bool) {
	name, ok := strings.CutSuffix(h.Kind, "List")
	return typeHead{APIVersion: h.APIVersion, Kind: name}, ok
}

// recognizedKind returns the kind, noKind for those that names are not made of. Other API groups
// have kinds of the same names: a Service of Knative is not a core Service.
func (h typeHead) recognizedKind() kind {
	gv, err := schema.ParseGroupVersion(h.APIVersion)
	if err != nil {
		return noKind
	}
	for k := range numKinds {
		if kinds[k].name == h.Kind && (kinds[k].group == gv.Group || h.APIVersion == "") {
			return k
		}
	}
	return noKind
}

// parseJSON reads objects one after another. Of a List it only holds one item at a time beside the
// input, because big snapshots are written in JSON.
func (o *snapshotObjects) parseJSON(b []byte) error {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	line := func(offset int) int { return 1 + bytes.Count(b[:min(offset, len(b))], []byte("\n")) }
	for begin := 0; ; {
		begin += len(b[begin:]) - len(bytes.TrimLeft(b[begin:], " \t\r\n"))
		if begin == len(b) && begin > 0 {
			return nil
		}
		h, end, err := readHead(b[begin:])
		if err != nil {
			at := len(b)
			if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
				at = begin + int(syntax.Offset)
			}
			return fmt.Errorf("line %d: %w", line(at), err)
		}
		if err := o.addJSON(h, b[begin:begin+end], 0); err != nil {
			return fmt.Errorf("line %d: %w", line(begin), err)
		}
		begin += end
	}
}

// walkJSON calls a function for each member of an object, which reads the value from the decoder. It
// returns where the object ends.
func walkJSON(b []byte, member func(name string, d *json.Decoder) error) (end int, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	t, err := d.Token()
	if err == nil && t != json.Delim('{') {
		err = errors.New("not a Kubernetes object")
	}
	for err == nil && d.More() {
		if t, err = d.Token(); err == nil {
			name, _ := t.(string)
			err = member(name, d)
		}
	}
	if err == nil {
		_, err = d.Token()
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return int(d.InputOffset()), err
}

// walkItems calls a function for each item of a list, which the decoder is before. The item is valid
// until the function returns.
func walkItems(d *json.Decoder, item func(i int, raw []byte) error) error {
	t, err := d.Token()
	if err != nil || t == nil { // null
		return err
	}
	if t != json.Delim('[') {
		return errors.New("they are not a list")
	}
	var raw json.RawMessage
	for i := 0; d.More(); i++ {
		if err := d.Decode(&raw); err != nil {
			return err
		}
		if err := item(i, raw); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// readHead reads the type of an object, and returns where the object ends.
func readHead(b []byte) (h typeHead, end int, err error) {
	var raw json.RawMessage
	end, err = walkJSON(b, func(name string, d *json.Decoder) error {
		switch name {
		case "apiVersion":
			return d.Decode(&h.APIVersion)
		case "kind":
			return d.Decode(&h.Kind)
		}
		if rest := bytes.TrimLeft(b[d.InputOffset():], " \t\r\n:"); bytes.HasPrefix(rest, []byte("[")) {
			return walkItems(d, func(int, []byte) error { return nil })
		}
		return d.Decode(&raw)
	})
	return h, end, err
}

// addJSON adds an object, or the items of a list.
func (o *snapshotObjects) addJSON(h typeHead, raw []byte, depth int) error {
	if depth > maxDepth {
		return errors.New("lists within lists")
	}
	byDefault, ok := h.itemType()
	if !ok {
		return o.addObject(h, raw)
	}
	var skipped json.RawMessage
	_, err := walkJSON(raw, func(name string, d *json.Decoder) error {
		if name != "items" {
			return d.Decode(&skipped)
		}
		return walkItems(d, func(i int, raw []byte) error {
			var h typeHead
			err := json.Unmarshal(raw, &h)
			if err == nil {
				if h.Kind == "" {
					h = byDefault
				}
				err = o.addJSON(h, raw, depth+1)
			}
			if err != nil {
				return fmt.Errorf("item %d: %w", i, err)
			}
			return nil
		})
	})
	return err
}

// addObject adds an object, which is given as JSON.
func (o *snapshotObjects) addObject(h typeHead, raw []byte) error {
	if h.Kind == "" {
		return errors.New("not a Kubernetes object: it has no kind")
	}
	k := h.recognizedKind()
	var v any
	switch k {
	case kindPod:
		v = new(corev1.Pod)
	case kindService:
		v = new(corev1.Service)
	case kindNode:
		v = new(corev1.Node)
	case kindEgressIP:
		v = new(egressIP)
	case kindNetworkAttachment:
		v = new(networkAttachment)
	case kindEndpointSlice:
		v = new(discoveryv1.EndpointSlice)
	case noKind:
		if o.followed(h) {
			return o.addLink(h, raw)
		}
		o.skipped[h.Kind]++
		return nil
	default:
		v = new(metav1.PartialObjectMetadata)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", h.Kind, err)
	}
	obj, err := toObject(k, v, o.labels...)
	if err != nil {
		return err
	}
	if obj.name == "" {
		return fmt.Errorf("%s: it has no metadata.name", h.Kind)
	}
	o.items[k] = append(o.items[k], obj)
	return nil
}

// followed reports whether objects of a type are read for the sake of their owners.
func (o *snapshotObjects) followed(h typeHead) bool {
	gv, err := schema.ParseGroupVersion(h.APIVersion)
	return err == nil && (o.owners.lists(gv.Group, h.Kind) || o.owners.follows(gv.Group, h.Kind))
}

// addLink adds an owner, which is given as JSON.
func (o *snapshotObjects) addLink(h typeHead, raw []byte) error {
	var m metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w", h.Kind, err)
	}
	o.links = append(o.links, newLink(&m))
	return nil
}
