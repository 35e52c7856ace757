package enrich

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The sentences of the field PWarn. Users see them: they do not change.

// interruptedWarning begins the warning of an owner that another pod may have followed unseen.
const interruptedWarning = "Watch was interrupted, perhaps another pod than: "

// otherNetworkWarning begins the warning of a pod whose address is in another network than that of
// the record's other end, where nothing tells which of the two the record is of.
const otherNetworkWarning = "Networks of both ends differ, perhaps not: "

// maxNamed bounds the names in a warning. The others are counted.
const maxNamed = 3

// warnSeveralOwners returns the warning of a pod that has several owners and no controller.
func warnSeveralOwners(o *object) string {
	var b strings.Builder
	b.WriteString("Several owners found for pod ")
	b.WriteString(o.name)
	sep := ": "
	for i := range o.owners {
		b.WriteString(sep)
		b.WriteString(o.owners[i].kind)
		b.WriteByte('/')
		b.WriteString(o.owners[i].name)
		sep = ","
	}
	return b.String()
}

// asUncertain returns the end of an owner that another pod may have followed unseen.
func asUncertain(o *flow.Object) flow.End {
	if strings.Contains(o.Warn, interruptedWarning) {
		return flow.End{Object: o, Status: flow.StatusAmbiguous}
	}
	return flow.End{Object: warn(o, interruptedWarning, []*flow.Object{o}), Status: flow.StatusAmbiguous}
}

// ambiguous returns a copy of best with a warning that names the rivals. It sorts them.
func ambiguous(best *flow.Object, sentence string, rivals []*flow.Object) *flow.Object {
	slices.SortFunc(rivals, compareObjects)
	return warn(best, sentence, rivals)
}

// warn returns a copy of best with a warning, before the one that it has.
func warn(best *flow.Object, sentence string, rivals []*flow.Object) *flow.Object {
	var b strings.Builder
	b.WriteString(sentence)
	for i, o := range rivals {
		if i == maxNamed {
			fmt.Fprintf(&b, " and %d more", len(rivals)-maxNamed)
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(o.Name)
		if o.Namespace != "" { // Nodes have none
			b.WriteByte('.')
			b.WriteString(o.Namespace)
		}
	}
	if best.Warn != "" {
		b.WriteString("; ")
		b.WriteString(best.Warn)
	}
	c := best.Copy()
	c.Warn = b.String()
	return flow.NewObject(c)
}

// compareObjects orders objects by namespace, name and UID.
func compareObjects(a, b *flow.Object) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.UID, b.UID))
}
