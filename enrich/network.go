package enrich

import (
	"cmp"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// network is a network that addresses belong to: the cluster's own, one of a user's
// (UserDefinedNetwork, ClusterUserDefinedNetwork) or an attachment of Multus. It is immutable, and
// there is one for each.
type network struct {
	number uint32 // in order of their appearance; 0 for the cluster's own
	name   string // as records show it
	// primary reports whether pods have the network in place of the cluster's own. Its addresses
	// cannot be reached from another one.
	primary bool
}

// clusterNetwork is the cluster's own network, which pods are in unless they ask for another one.
var clusterNetwork = network{name: flow.ClusterNetwork, primary: true}

// attachment is the place of a span in a network other than the cluster's own. Its network and MAC
// are immutable.
type attachment struct {
	network *network
	key     string // of the network, as the pod's annotation has it
	mac     uint64
	object  *flow.Object // what records show of the pod in this network
}

// networkID identifies a network in the store.
type networkID struct {
	id      string // see networkIdentity
	primary bool
}

// networkSet knows which keys of networks in the annotations of pods mean the same network. One of
// a ClusterUserDefinedNetwork has another key in each namespace.
type networkSet struct {
	networks map[networkID]*network
	resolved map[networkID]*network // by key, with the role
	started  bool                   // the objects below are being asked for
	changed  bool                   // resolved was emptied: spans may have another network now
	// definitions has the objects that tell which network a key means, by kind and key.
	definitions [numKinds]map[string]networkDefinition
	ids         map[uint64]int  // numbers of networks, and how many definitions have them
	changedIDs  map[uint64]bool // of them, those whose masquerade addresses may be old ones
}

func newNetworkSet() networkSet {
	n := networkSet{networks: map[networkID]*network{}, resolved: map[networkID]*network{}, ids: map[uint64]int{}, changedIDs: map[uint64]bool{}}
	for k := range numKinds {
		if k.definesNetwork() {
			n.definitions[k] = map[string]networkDefinition{}
		}
	}
	return n
}

// The names that OVN-Kubernetes gives to networks of a ClusterUserDefinedNetwork begin so; before
// it had underscores, they began with the second one.
const (
	clusterUDN    = "cluster_udn_"
	oldClusterUDN = "cluster.udn."
)

// networkIdentity returns the name of a network in its configuration, which is one for all of its
// keys, and how records show the network. The argument config is the name as it was read, empty if
// it could not be.
func networkIdentity(namespace, name, config string) (id, shown string) {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	for _, prefix := range []string{clusterUDN, oldClusterUDN} {
		if rest, ok := strings.CutPrefix(config, prefix); ok && rest != "" {
			return clusterUDN + rest, rest
		}
	}
	own := namespace + "_" + name
	if namespace == "" {
		own = name
	}
	if config == "" || config == own || config == namespace+"."+name {
		return own, key
	}
	return config, config
}

// resolve returns the network of a key: the one that its NetworkAttachmentDefinition names, else
// the ClusterUserDefinedNetwork of the key's name, unless its namespace has a UserDefinedNetwork of
// that name.
func (n *networkSet) resolve(key string, primary bool) *network {
	if key == "" {
		return &clusterNetwork
	}
	if found := n.resolved[networkID{key, primary}]; found != nil {
		return found
	}
	namespace, name, ok := strings.Cut(key, "/")
	if !ok {
		namespace, name = "", key
	}
	config := n.definitions[kindNetworkAttachment][key].config
	if config == "" {
		_, user := n.definitions[kindUserNetwork][key]
		if _, cluster := n.definitions[kindClusterUserNetwork][name]; cluster && !user && namespace != "" {
			config = clusterUDN + name
		}
	}
	id, shown := networkIdentity(namespace, name, config)
	found := n.networks[networkID{id, primary}]
	if found == nil {
		found = &network{number: uint32(len(n.networks) + 1), name: shown, primary: primary}
		n.networks[networkID{id, primary}] = found
	}
	n.resolved[networkID{strings.Clone(key), primary}] = found
	return found
}

// newAttachment returns the place of a span in the network that its pod's annotations tell; nil
// for the cluster's own.
func (st *store) newAttachment(s *span, o *object) *attachment {
	a := o.attachment(s.addr)
	if a == nil || a.network == "" {
		return nil
	}
	st.startNetworkKinds()
	n := &attachment{network: st.networks.resolve(a.network, a.primary), key: st.intern(a.network), mac: a.mac}
	n.show(s.pod.obj)
	return n
}

// show makes what records show of a pod.
func (a *attachment) show(pod *flow.Object) {
	o := pod.Copy()
	o.Network, o.MAC = a.network.name, a.mac
	if a.object == nil || !a.object.Equal(&o) {
		a.object = flow.NewObject(o)
	}
}

// attach brings the network of a span up to date, and reports whether that changes what records
// show. The caller publishes the span then.
func (st *store) attach(s *span, o *object) (changed bool) {
	a := o.attachment(s.addr)
	if s.attached == nil && (a == nil || a.network == "") {
		return false
	}
	if s.attached != nil && a != nil && s.attached.mac == a.mac && s.attached.network == st.networks.resolve(a.network, a.primary) {
		return false
	}
	st.moveSpan(s, st.newAttachment(s, o))
	return true
}

// moveSpan puts a span into the timeline of another network. The caller publishes the span.
func (st *store) moveSpan(s *span, to *attachment) {
	old := s.network()
	if to == nil && old == &clusterNetwork || to != nil && to.network == old {
		s.attached = to
		return
	}
	e := st.timelineToChange(s.addr, old)
	e.unlink(s)
	st.publishEntry(e)
	s.attached = to
	e = st.timelineToChange(s.addr, s.network())
	s.next, e.spans = e.spans, s
	st.publishEntry(e)
}

// unlink removes a span from the entry.
func (e *entry) unlink(s *span) {
	for l := &e.spans; *l != nil; l = &(*l).next {
		if *l == s {
			*l = s.next
			return
		}
	}
}

// refreshNetworks moves the spans whose network is known by another identity now.
func (st *store) refreshNetworks() {
	if !st.networks.changed {
		return
	}
	st.networks.changed = false
	move := func(s *span) {
		if s.attached == nil || s.dropped {
			return
		}
		if n := st.networks.resolve(s.attached.key, s.attached.network.primary); n != s.attached.network {
			to := &attachment{network: n, key: s.attached.key, mac: s.attached.mac}
			to.show(s.pod.obj)
			st.moveSpan(s, to)
		}
	}
	for _, p := range st.pods {
		for s := p.spans; s != nil; s = s.sibling {
			move(s)
		}
	}
	for s := range st.endedSpans.all() { // also of pods that are gone
		move(s)
	}
}

// publishInNetwork replaces the timeline of an address in a network by one made of e's spans. Pods
// that had the address up to the time forgotten are not among them; 0 if all are.
func (st *store) publishInNetwork(e *entry, forgotten int64) {
	n := newEntry(e.addr, st.builder.buildTimeline(e.spans), forgotten)
	n.network, n.spans = e.network, e.spans
	old := st.index.find(e.addr)
	if old != nil {
		n.static = old.static
	}
	parent := &entry{addr: e.addr, past: &noPast}
	var list []networkEntry
	if old != nil {
		parent.static, parent.staticSpans = old.static, old.staticSpans
		list = slices.Clone(old.past.networks)
		if list == nil && old.spans != nil { // it has been in the cluster's own network alone
			own := newEntry(e.addr, st.builder.buildTimeline(old.spans), old.past.forgottenUntil)
			own.network, own.spans = &clusterNetwork, old.spans
			list = append(list, networkEntry{own, nodeOf(own.spans)})
		}
	}
	i, found := findNetwork(list, n.network)
	switch {
	case found && n.spans == nil:
		list = slices.Delete(list, i, i+1)
	case found:
		list[i] = networkEntry{n, nodeOf(n.spans)}
	case n.spans != nil:
		list = slices.Insert(list, i, networkEntry{n, nodeOf(n.spans)})
	}
	st.publishNetworks(parent, list)
}

// findNetwork returns where a network is, or belongs, among timelines in order of their networks'
// numbers.
func findNetwork(list []networkEntry, n *network) (i int, found bool) {
	return slices.BinarySearchFunc(list, n.number, func(e networkEntry, number uint32) int {
		return cmp.Compare(e.inNetwork().number, number)
	})
}

// publishNetworks replaces the entry of an address by one that has a timeline for each network. One
// that only the cluster's own network has is an entry like most others. The list is kept.
func (st *store) publishNetworks(parent *entry, list []networkEntry) {
	switch {
	case len(list) == 0 && parent.staticSpans == nil:
		st.index.remove(parent.addr)
		return
	case len(list) == 0:
		parent.past = &noPast
	case len(list) == 1 && list[0].network == &clusterNetwork:
		own := list[0]
		n := newEntry(parent.addr, st.builder.buildTimeline(own.spans), own.past.forgottenUntil)
		n.static, n.spans, n.staticSpans = parent.static, own.spans, parent.staticSpans
		parent = n
	default:
		for i := range list {
			if n := &list[i]; n.static != parent.static {
				c := newEntry(n.addr, st.builder.buildTimeline(n.spans), n.past.forgottenUntil)
				c.network, c.spans, c.static = n.network, n.spans, parent.static
				n.entry = c
			}
		}
		parent.past = &past{networks: list}
	}
	st.index.put(parent)
}
