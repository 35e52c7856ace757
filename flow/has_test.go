package flow_test

import (
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Has is never false where Attr has a value, and is false for what objects as records use them
// do not have.
func TestHas(t *testing.T) {
	all := flow.Object{
		Namespace: "shop", Name: "web-1", HostIP: "172.18.0.2", Workload: "web", WorkloadKind: "Deployment", Warn: "two", Node: "n1", Zone: "b",
		UID: "u", Labels: flow.JoinLabels([]string{"x"}), Network: "default",
	}
	objects := map[string]*flow.Object{
		"nobody": nil, "empty": flow.NewObject(flow.Object{}), "a place": flow.NewPlace(flow.Place{SubnetLabel: "office", Country: "NL"}),
	}
	for _, kind := range []string{"Pod", "Node", "Service", "EgressIP", "Other"} {
		o := all
		o.Kind = kind
		objects[kind] = flow.NewObject(o)
		objects[kind+", not made"] = &o
	}
	for name, o := range objects {
		for a := range flow.AttrLabel + 1 {
			e := flow.End{Object: o, Status: flow.StatusLive}
			has, v := e.Has(a), e.Attr(a)
			if v != "" && !has {
				t.Errorf("%s: attribute %d is %q, and there is none", name, a, v)
			}
			if v == "" && has && a < flow.AttrLabel && (o == nil || o.Copy() != flow.Object{} && objects[name+", not made"] != nil) {
				t.Errorf("%s: there is an attribute %d, and it is empty", name, a)
			}
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
