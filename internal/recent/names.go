package recent

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxWorkloads bounds the workloads that are listed.
const maxWorkloads = 5000

// names has the workloads of sums in the order of their names. To sort all of them takes longer
// than anything else that a summary is made of, and hardly any are new each time.
type names struct {
	of     *workloads // nil as long as nobody has asked
	known  int        // how many of them were seen
	sorted []handle   // these
	list   []End      // the first of these; what it has does not change, since others read it
}

// update takes notice of workloads that are new.
func (n *names) update(w *workloads) {
	if n.of != w {
		*n = names{of: w, known: outsideNumber + 1, list: []End{}}
	}
	if further := w.list[n.known:]; len(further) > 0 {
		n.sorted = n.merged(further)
		n.list = firstEnds(n.sorted)
		n.known = len(w.list)
	}
}

// forget takes notice of workloads that have left. Others have them no more, in a table of their
// own.
func (n *names) forget(others *workloads) {
	if n.of == nil {
		return
	}
	n.update(n.of)
	n.sorted = slices.DeleteFunc(n.sorted, func(h handle) bool { return !others.knows(h) })
	n.list = firstEnds(n.sorted)
	n.of, n.known = others, len(others.list)
}

// with returns the names with those of further workloads.
func (n *names) with(further []handle) []End {
	if len(further) == 0 {
		return n.list
	}
	return firstEnds(n.merged(further))
}

// merged returns all workloads and further ones by their names.
func (n *names) merged(further []handle) []handle {
	further = slices.Clone(further)
	slices.SortFunc(further, compareNames)
	all := make([]handle, 0, len(n.sorted)+len(further))
	for _, h := range n.sorted {
		for len(further) > 0 && compareNames(further[0], h) < 0 {
			all, further = append(all, further[0]), further[1:]
		}
		all = append(all, h)
	}
	return append(all, further...)
}

// size is what the names take in memory, in bytes.
func (n *names) size() int64 {
	return int64(cap(n.sorted))*int64(unsafe.Sizeof(handle{})) + int64(cap(n.list))*int64(unsafe.Sizeof(End{}))
}

// firstEnds returns the ends of the first workloads, as many as are listed.
func firstEnds(all []handle) []End {
	list := make([]End, min(len(all), maxWorkloads))
	for i := range list {
		list[i] = endOf(all[i])
	}
	return list
}

// compareNames compares workloads by their names. Most differ in the first two.
func compareNames(a, b handle) int {
	v, w := a.Value(), b.Value()
	if c := strings.Compare(v.Namespace, w.Namespace); c != 0 {
		return c
	}
	if c := strings.Compare(v.Name, w.Name); c != 0 {
		return c
	}
	return strings.Compare(v.Kind, w.Kind)
}

// addUnknown gives numbers to the workloads of objects that others do not have.
func (w *workloads) addUnknown(others *workloads, objects []*flow.Object) {
	for _, o := range objects {
		if h := others.handleOf(o); !others.knows(h) {
			w.number(h)
		}
	}
}
