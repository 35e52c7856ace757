package recent

import (
	"cmp"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxWorkloads bounds the workloads that are listed.
const maxWorkloads = 5000

// names has the first of the workloads of sums by their names. To sort all of them takes longer
// than anything else that a summary is made of, and hardly any are new each time.
type names struct {
	of    *workloads
	known int   // how many of them were seen
	list  []End // at most maxWorkloads; what it has does not change, since others read it
}

// update takes notice of workloads that are new.
func (n *names) update(w *workloads) {
	if n.of != w {
		n.of, n.known, n.list = w, outsideNumber+1, []End{}
	}
	n.list = n.with(w.list[n.known:])
	n.known = len(w.list)
}

// with returns the names with those of further workloads.
func (n *names) with(further []handle) []End {
	if len(further) == 0 {
		return n.list
	}
	added := make([]End, len(further))
	for i, h := range further {
		added[i] = endOf(h)
	}
	slices.SortFunc(added, compareEnds)
	list := make([]End, 0, min(len(n.list)+len(added), maxWorkloads))
	for a, b := n.list, added; len(list) < cap(list); {
		if len(b) == 0 || len(a) > 0 && compareEnds(a[0], b[0]) <= 0 {
			list, a = append(list, a[0]), a[1:]
		} else {
			list, b = append(list, b[0]), b[1:]
		}
	}
	return list
}

func compareEnds(a, b End) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// addUnknown gives numbers to the workloads of objects that others do not have.
func (w *workloads) addUnknown(others *workloads, objects []*flow.Object) {
	for _, o := range objects {
		if h := others.handleOf(o); !others.knows(h) {
			w.number(h)
		}
	}
}
