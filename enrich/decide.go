package enrich

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// networkEntry is the timeline of an address in one network.
type networkEntry struct {
	*entry
	// node is the hash of the Node that all pods of the timeline are on, 0 if there are several:
	// most networks can be ruled out by it, without reading the entry.
	node uint64
}

// side is one end of a record, as far as it decides in which network its address is.
type side struct {
	entry *entry // of the address; nil if nothing is known of it
	mac   uint64 // 0 if the record has none
	// node is the Node that the record shows the end to be on, if that is a pod; empty if it shows
	// none.
	node   string
	port   port     // 0 if it is not known
	static flow.End // who has the address where no pod has; none without one

	single [1]networkEntry // what networks returns for an address of the cluster's own network
}

// decider decides which network a record is of, and so who owns its addresses. A record is of one
// network. What decides, best first: the Node that an end must be on, that both ends are in one
// network, the MACs, and that a pod owned the address for certain.
//
// It belongs to a stage, which sets src and dst and calls decide, and then owner for each end.
type decider struct {
	ix       *index
	from, to int64 // of the flow
	src, dst side

	best    int            // the most that speaks for a network; negative if no end is in any
	winners int            // so many networks have it
	primary bool           // one of them is a primary network, and so the record's
	own     bool           // the cluster's own is one of them
	doubt   bool           // several primary networks have it, each for another end
	winner  [4]*network    // the first of them
	objects []*flow.Object // see only
}

// What speaks for a network, as bits: more than all that follow it together.
const (
	speaksTime = 1 << iota // a pod owned the address for certain, not within the tolerance
	speaksMAC              // twice, if both ends have it
	_
	speaksBothEnds
	speaksNode // twice, if both ends have it
)

// networks returns the timelines of the side's address, in order of their networks' numbers. That of
// an address that only the cluster's own network has is returned in s.single.
func (s *side) networks() []networkEntry {
	e := s.entry
	switch {
	case e == nil:
		return nil
	case e.past.networks != nil:
		return e.past.networks
	case e.last.end.Object == nil && len(e.past.older) == 0:
		return nil
	}
	s.single[0] = networkEntry{entry: e}
	return s.single[:]
}

// in returns the timeline of the side's address in a network, nil if there is none.
func (s *side) in(n *network) *entry {
	list := s.networks()
	if i, ok := findNetwork(list, n); ok {
		return list[i].entry
	}
	return nil
}

// inNetwork returns the network of an entry that has a timeline.
func (e *entry) inNetwork() *network {
	if e.network == nil {
		return &clusterNetwork
	}
	return e.network
}

// weigh returns what speaks for the side being in the network of one of its timelines, -1 if no pod
// is known to have owned the address there.
func (d *decider) weigh(s *side, e *entry) int {
	if e == nil {
		return -1
	}
	found, rule := d.ix.findOwner(e, d.from, d.to)
	if found == nil {
		return -1
	}
	w := 0
	o := found.end.Object
	if rule == ruleOverlap && !found.inTolerance {
		w |= speaksTime
	}
	if s.mac != 0 && o.MAC == s.mac {
		w += speaksMAC
	}
	if s.node != "" && o.Node == s.node {
		w += speaksNode
	}
	return w
}

// weighBoth returns what speaks for a network, -1 if no end is in it.
func (d *decider) weighBoth(src, dst *entry) int {
	a, b := d.weigh(&d.src, src), d.weigh(&d.dst, dst)
	switch {
	case a < 0:
		return b
	case b < 0:
		return a
	}
	return a&^speaksTime + b&^speaksTime + a&b&speaksTime + speaksBothEnds
}

// decide finds the networks that the record may be of.
func (d *decider) decide() {
	if d.byNode(&d.src, &d.dst, true) || d.byNode(&d.dst, &d.src, false) {
		return
	}
	d.reset()
	a, b := d.src.networks(), d.dst.networks()
	for len(a) > 0 || len(b) > 0 {
		var src, dst *entry
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].inNetwork().number < b[0].inNetwork().number:
			src, a = a[0].entry, a[1:]
		case len(a) == 0 || b[0].inNetwork().number < a[0].inNetwork().number:
			dst, b = b[0].entry, b[1:]
		default:
			src, dst, a, b = a[0].entry, b[0].entry, a[1:], b[1:]
		}
		d.consider(src, dst)
	}
	d.settle()
}

// byNode decides among the networks in which one end is on the Node that the record shows, if there
// is one, and reports whether that is so. Where many networks share an address this saves reading
// most of them.
func (d *decider) byNode(s, other *side, isSrc bool) bool {
	if s.node == "" || len(s.networks()) < 2 || other.node != "" {
		return false
	}
	d.reset()
	hash := nodeHash(s.node)
	for _, n := range s.networks() {
		if n.node != hash && n.node != 0 {
			continue
		}
		if isSrc {
			d.consider(n.entry, other.in(n.inNetwork()))
		} else {
			d.consider(other.in(n.inNetwork()), n.entry)
		}
	}
	d.settle()
	return d.best >= speaksNode
}

func (d *decider) reset() {
	d.best, d.winners, d.primary, d.own, d.doubt = -1, 0, false, false, false
}

// consider weighs a network.
func (d *decider) consider(src, dst *entry) {
	w := d.weighBoth(src, dst)
	if w < 0 || w < d.best {
		return
	}
	n := cmp.Or(src, dst).inNetwork()
	if w > d.best {
		d.reset()
		d.best = w
	}
	if d.winners < len(d.winner) {
		d.winner[d.winners] = n
	}
	d.winners++
	d.primary = d.primary || n.primary
	d.own = d.own || n == &clusterNetwork
}

// settle decides between primary networks of which each has another end: the cluster's own, because
// an address of it is used more often than one of another network is met outside of it.
func (d *decider) settle() {
	if !d.primary || d.best >= speaksBothEnds || d.winners < 2 {
		return
	}
	src, dst := d.contenders(&d.src), d.contenders(&d.dst)
	switch {
	case src == 0 || dst == 0:
	case d.own:
		d.winners, d.winner[0] = 1, &clusterNetwork
	default:
		d.doubt = true
	}
}

// contenders counts the primary networks that have won and that the end is in.
func (d *decider) contenders(s *side) (n int) {
	for _, e := range s.networks() {
		if e.inNetwork().primary && d.hasWon(e.entry) {
			n++
		}
	}
	return n
}

// hasWon reports whether a timeline is in one of the networks that have won.
func (d *decider) hasWon(e *entry) bool {
	n := e.inNetwork()
	if slices.Contains(d.winner[:min(d.winners, len(d.winner))], n) {
		return true
	}
	return d.winners > len(d.winner) && d.weighBoth(d.src.in(n), d.dst.in(n)) == d.best
}

// admits reports whether an end may be in a network that has not won. Primary networks cannot be
// reached from each other.
func (d *decider) admits(n *network) bool {
	return !n.primary || n == &clusterNetwork && !d.primary
}

// owner returns who owns the address of an end, and whether that is settled, as [index.lookup] does.
func (d *decider) owner(s *side) (end flow.End, settled bool) {
	won, n := d.only(s, d.hasWon)
	if n == 0 {
		won, n = d.only(s, func(e *entry) bool { return d.admits(e.inNetwork()) && d.weigh(s, e) >= 0 })
	}
	switch {
	case n == 0:
		// Of a primary network other than the cluster's own, pods may still be announced.
		return s.static, s.static.Object != nil || d.winners == 1 && d.winner[0] == &clusterNetwork
	case s.static.Object != nil && d.best&^speaksTime == 0 && won.inNetwork().primary && won.network != nil && won.network != &clusterNetwork:
		return s.static, true // nothing ties the record to that network
	case n > 1:
		return d.ambiguous(s, "Several pods found for same IP: "), true
	case d.doubt && won.inNetwork().primary:
		return d.ambiguous(s, otherNetworkWarning), true
	}
	return d.ix.at(won, d.from, d.to, s.port)
}

// only collects the pods of the networks for which test is true. It returns the network of the best
// one, which is one that still has the address, and of these the one that has it since last; and
// how many they are.
func (d *decider) only(s *side, test func(*entry) bool) (best *entry, n int) {
	d.objects = d.objects[:0]
	var chosen *segment
	for _, e := range s.networks() {
		if !test(e.entry) {
			continue
		}
		found, _ := d.ix.findOwner(e.entry, d.from, d.to)
		if found == nil {
			continue
		}
		d.objects = append(d.objects, found.end.Object)
		if chosen == nil || compareSegments(found, chosen) < 0 {
			best, chosen = e.entry, found
			last := len(d.objects) - 1
			d.objects[0], d.objects[last] = d.objects[last], d.objects[0]
		}
	}
	return best, len(d.objects)
}

// compareSegments orders the owners of an address in several networks.
func compareSegments(a, b *segment) int {
	live := func(s *segment) int {
		if s.end.Status == flow.StatusRetained {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(live(a), live(b)), cmp.Compare(b.from, a.from), compareObjects(a.end.Object, b.end.Object))
}

// severalOwners is a choice among pods in several networks, and how records show it.
type severalOwners struct {
	sentence string
	objects  []*flow.Object
	end      flow.End
}

// ambiguous returns the first of d.objects, which is the best, with a warning that names them. That
// is made once for the same ones, not for each record.
func (d *decider) ambiguous(s *side, sentence string) flow.End {
	cache := &s.entry.past.several
	if c := cache.Load(); c != nil && c.sentence == sentence && slices.Equal(c.objects, d.objects) {
		return c.end
	}
	c := &severalOwners{sentence: sentence, objects: slices.Clone(d.objects)}
	c.end = flow.End{Object: ambiguous(d.objects[0], sentence, slices.Clone(d.objects)), Status: flow.StatusAmbiguous}
	if s.entry.past != &noPast {
		cache.Store(c)
	}
	return c.end
}

var nodeSeed = maphash.MakeSeed()

// nodeHash returns the hash of a Node's name, never 0; 0 for an empty name.
func nodeHash(node string) uint64 {
	if node == "" {
		return 0
	}
	return max(1, maphash.String(nodeSeed, node))
}

// nodeOf returns the hash of the Node that all pods of some spans are on, 0 if there are several or
// one is not known.
func nodeOf(first *span) uint64 {
	if first == nil {
		return 0
	}
	node := first.pod.obj.Node
	for s := first.next; s != nil; s = s.next {
		if s.pod.obj.Node != node {
			return 0
		}
	}
	return nodeHash(node)
}

// inSeveralNetworks reports whether an address is, or was, in another network than the cluster's
// own. It may be called for nil.
func (e *entry) inSeveralNetworks() bool {
	return e != nil && e.last.end.Object == nil && e.past.networks != nil
}
