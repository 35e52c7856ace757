package encode

import (
	"math/rand/v2"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Encoders write the same of an object that records use, of which they may ask what it has, and
// of its attributes alone, each of which they have to read.
func TestMadeObjects(t *testing.T) {
	labels, mapping := []flow.Label{{Name: "app", Field: "App", Snake: "app"}}, defaultMapping
	encoders := map[string]interface {
		AppendRecord(dst []byte, r *flow.Record) []byte
	}{
		"v1":        newJSON(t, JSONConfig{Fields: "all", Labels: labels}),
		"v2":        newJSON(t, JSONConfig{Schema: "v2", Fields: "all", Labels: labels}),
		"netobserv": newJSON(t, JSONConfig{Schema: "netobserv", Fields: "all", Labels: labels}),
		"protobuf":  newProtobuf(t, ProtobufConfig{Fields: "all", Labels: labels, Mapping: mapping}),
		"otlp":      newOTLP(t, OTLPConfig{Fields: "all", Labels: labels, Mapping: mapping}),
		"text":      newText(t, TextConfig{Fields: "default,+SrcWarn,+SrcNode,+SrcPodUID,+SrcStatus,+SrcCountry,+SrcApp", Labels: labels, Mapping: mapping}),
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	text := func() string { return pick("", "", "web", "a \"b\"\\", "\xff", "caf\u00e9") }
	for range 2000 {
		var o flow.Object
		if rnd.IntN(4) == 0 {
			o.Place = &flow.Place{SubnetLabel: text(), Country: text(), ASName: text()}
		} else {
			o = flow.Object{
				Kind: pick("Pod", "Node", "Service", "EgressIP", "Other"), Namespace: text(), Name: text(), HostIP: text(),
				Workload: text(), WorkloadKind: text(), Warn: text(), Node: text(), Zone: text(), UID: text(),
				Labels: flow.JoinLabels([]string{text()}), Network: pick("", flow.ClusterNetwork, text()),
			}
		}
		made, alone := reference(), reference()
		made.Ends[0].Object, alone.Ends[0].Object = flow.NewObject(o), &o
		for name, e := range encoders {
			if got, want := string(e.AppendRecord(nil, made)), string(e.AppendRecord(nil, alone)); got != want {
				t.Fatalf("%s: %+v is\n%q, want\n%q", name, o, got, want)
			}
		}
	}
}
