package pipe

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// lastRecord keeps the ends of the last record.
type lastRecord struct{ ends [flow.MaxEnds]flow.End }

func (l *lastRecord) HandleFlow(r *flow.Record) { l.ends = r.Ends }
func (l *lastRecord) Idle() bool                { return true }

func textField(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func labelField(b []byte, number protowire.Number, key, value string) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), textField(textField(nil, 1, key), 2, value))
}

// TestNames merges what a message came with and what was found before.
func TestNames(t *testing.T) {
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst,NextHop=Nxt")
	if err != nil {
		t.Fatal(err)
	}
	labels, err := flow.ParseLabels("a=A,b=B")
	if err != nil {
		t.Fatal(err)
	}
	pod := flow.NewObject(flow.Object{Kind: "Pod", Namespace: "ns", Name: "p", HostIP: "192.0.2.9", Workload: "w", WorkloadKind: "Deployment", Zone: "z", UID: "u", Labels: "x\ny"})
	shown := func(e flow.End) string {
		s := e.Status.String()
		for _, a := range []flow.Attr{
			flow.AttrPod, flow.AttrNamespace, flow.AttrWorkload, flow.AttrWorkloadKind, flow.AttrHostIP, flow.AttrZone, flow.AttrPodUID, flow.AttrSubnetLabel,
			flow.AttrCountry, flow.AttrName, flow.AttrKind, flow.AttrLabel, flow.AttrLabel + 1,
		} {
			s += "|" + e.Attr(a)
		}
		return s
	}
	for _, tc := range []struct {
		name    string
		message []byte
		before  flow.End
		end     int
		want    string
	}{
		{"nothing", nil, flow.End{Object: pod, Status: flow.StatusLive}, 0, "live|p|ns|w|Deployment|192.0.2.9|z|u|||p|Pod|x|y"},
		{"a pod", textField(textField(textField(nil, 2000, "q"), 2001, "m"), 2009, "retained"), flow.End{}, 0, "retained|q|m|||||||" + "|q|Pod||"},
		{"of another end", textField(nil, 2020, "q"), flow.End{}, 0, "none|||||||||||||"},
		{"the other end", textField(nil, 2020, "q"), flow.End{}, 1, "none|q|||||||||q|Pod||"},
		{"over what was found", textField(nil, 2000, "q"), flow.End{Object: pod, Status: flow.StatusLive}, 0, "live|q|ns|w|Deployment|192.0.2.9|z|u|||q|Pod|x|y"},
		{"a label of a network", textField(nil, 2012, "home"), flow.End{}, 0, "none||||||||home|||||"},
		{"a node", textField(textField(nil, 2003, "n1"), 2004, "Node"), flow.End{}, 0, "none|||n1|Node||||||n1|Node||"},
		{"a status alone", textField(nil, 2009, "service"), flow.End{Object: pod}, 0, "service|p|ns|w|Deployment|192.0.2.9|z|u|||p|Pod|x|y"},
		{"an unknown status", textField(nil, 2009, "best"), flow.End{}, 0, "none|||||||||||||"},
		{"empty", textField(textField(nil, 2000, ""), 2001, ""), flow.End{Object: pod, Status: flow.StatusLive}, 0, "live|p|ns|w|Deployment|192.0.2.9|z|u|||p|Pod|x|y"},
		{"labels", labelField(labelField(nil, 2010, "B", "b\"\xff"), 2010, "C", "c"), flow.End{Object: pod}, 0, "none|p|ns|w|Deployment|192.0.2.9|z|u|||p|Pod|x|b\"\xff"},
		{"reserved numbers", textField(textField(nil, 2015, "q"), 2019, "q"), flow.End{}, 0, "none|||||||||||||"},
		{"another wire type", protowire.AppendVarint(protowire.AppendTag(nil, 2000, protowire.VarintType), 7), flow.End{}, 0, "none|||||||||||||"},
		{"cut", textField(nil, 2000, "q")[:3], flow.End{}, 0, "none|||||||||||||"},
		{"another prefix", protowire.AppendBytes(protowire.AppendTag(nil, 2040, protowire.BytesType), textField(textField(textField(nil, 1, "Nxt"), 5, "svc"), 6, "Service")), flow.End{}, 2, "none|||svc|Service||||||svc|Service||"},
		{"an unknown prefix", protowire.AppendBytes(protowire.AppendTag(nil, 2040, protowire.BytesType), textField(textField(nil, 1, "Xyz"), 5, "svc")), flow.End{}, 2, "none|||||||||||||"},
	} {
		last := new(lastRecord)
		s := NewNames(NamesConfig{Mapping: mapping, Labels: labels}, last)
		r := new(flow.Record)
		for range 2 { // the second time it is remembered
			r.Ends[tc.end] = tc.before
			r.Msg.ProtoReflect().SetUnknown(tc.message)
			s.HandleFlow(r)
			if got := shown(last.ends[tc.end]); got != tc.want {
				t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
			}
		}
	}
	if !NewNames(NamesConfig{}, new(lastRecord)).Idle() {
		t.Error("Idle is not that of the next one")
	}
	last := new(lastRecord)
	r := new(flow.Record)
	r.Ends[0].Object = pod
	NewNames(NamesConfig{Mapping: mapping, Alone: true}, last).HandleFlow(r)
	if last.ends[0] != (flow.End{}) {
		t.Errorf("an end of the record before: %+v", last.ends[0])
	}
}

// TestNamesBounds has more ends than are remembered, larger ones than that, and those that are.
func TestNamesBounds(t *testing.T) {
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	last := new(lastRecord)
	s := NewNames(NamesConfig{Mapping: mapping}, last)
	r := new(flow.Record)
	handle := func(name string) {
		r.Msg.ProtoReflect().SetUnknown(textField(nil, 2000, name))
		r.Ends[0] = flow.End{}
		s.HandleFlow(r)
		if got := last.ends[0].Attr(flow.AttrPod); got != name {
			t.Fatalf("%.20q, want %.20q", got, name)
		}
	}
	for i := range 2*maxNames + 10 {
		handle(fmt.Sprint("pod-", i))
		if len(s.known) > maxNames {
			t.Fatalf("%d ends are remembered", len(s.known))
		}
	}
	n := len(s.known)
	handle(string(make([]byte, maxNamesSize)))
	if len(s.known) != n {
		t.Error("a large end is remembered")
	}
	r.Msg.ProtoReflect().SetUnknown(textField(textField(nil, 2000, "pod"), 2020, "other"))
	if n := testing.AllocsPerRun(100, func() {
		r.Ends = [flow.MaxEnds]flow.End{}
		s.HandleFlow(r)
	}); n != 0 && !race.Enabled {
		t.Errorf("%v allocations for ends that are remembered", n)
	}
}
