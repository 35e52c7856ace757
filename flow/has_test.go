package flow_test

import (
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Of an object that records use, Has is true where Attr has a value and false where it has none.
// It may be true of labels without a value, and of all that an object has that was not made.
func TestHas(t *testing.T) {
	type object struct {
		name string
		*flow.Object
		made bool
	}
	objects := []object{
		{"empty", flow.NewObject(flow.Object{}), true},
		{"a place", flow.NewPlace(flow.Place{SubnetLabel: "office", Country: "NL"}), true},
		{"a place without a label", flow.NewPlace(flow.Place{ASName: "Example"}), true},
	}
	for _, kind := range []string{"Pod", "Node", "Service", "EgressIP", "Other"} {
		o := flow.Object{
			Kind: kind, Namespace: "shop", Name: "web-1", HostIP: "172.18.0.2", Workload: "web", WorkloadKind: "Deployment",
			Warn: "two", Node: "n1", Zone: "b", UID: "u", Labels: flow.JoinLabels([]string{"x"}), Network: "default",
		}
		objects = append(objects, object{kind, flow.NewObject(o), true}, object{kind + ", not made", &o, false})
		short := flow.Object{Kind: kind, Name: "web-2"}
		objects = append(objects, object{kind + " with a name alone", flow.NewObject(short), true})
	}
	const labels = 31 // no attribute has this number; its bit is that of all labels
	for _, o := range objects {
		e := flow.End{Object: o.Object}
		for a := range flow.AttrLabel + 1 {
			has, v := e.Has(a), e.Attr(a)
			if v != "" && !has {
				t.Errorf("%s: attribute %d is %q, and there is none", o.name, a, v)
			}
			if v == "" && has && o.made && a != flow.AttrStatus && a != labels && a < flow.AttrLabel {
				t.Errorf("%s: there is an attribute %d, and it is empty", o.name, a)
			}
		}
	}
	nobody := flow.End{}
	for a := range flow.AttrLabel + 1 {
		if nobody.Has(a) != (nobody.Attr(a) != "") {
			t.Errorf("nobody: attribute %d is %q, and Has says %v", a, nobody.Attr(a), nobody.Has(a))
		}
	}
}

// The texts of a place are those that it was made of.
func TestNewPlace(t *testing.T) {
	for _, p := range []flow.Place{{}, {SubnetLabel: "office", ASNumber: 64500}, {Country: "NL"}, {"a\xff", "NL", "Example \"Net\"", 7}} {
		o := flow.NewPlace(p)
		if *o.Place != p {
			t.Errorf("%+v of %+v", *o.Place, p)
		}
		e := flow.End{Object: o}
		if e.Attr(flow.AttrSubnetLabel) != p.SubnetLabel || e.Attr(flow.AttrCountry) != p.Country || e.Attr(flow.AttrASName) != p.ASName {
			t.Errorf("%+v shows %q, %q, %q", p, e.Attr(flow.AttrSubnetLabel), e.Attr(flow.AttrCountry), e.Attr(flow.AttrASName))
		}
	}
}
