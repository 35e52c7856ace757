package encode

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func TestLabels(t *testing.T) {
	labels, err := flow.ParseLabels("app=App,tier=TierName")
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	r := &flow.Record{}
	r.Ends[0] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Name: "p", Labels: flow.JoinLabels([]string{`a"b`, "back"})})}
	r.Ends[1] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Name: "q", Labels: flow.JoinLabels([]string{"", "front"})})}
	for _, c := range []struct {
		schema, fields, line string
		want                 map[string]any // nil: not there
	}{
		{"v1", "", "", map[string]any{"SrcApp": `a"b`, "SrcTierName": "back", "DstApp": nil, "DstTierName": "front"}},
		{"v1", "default,-PApp,-DstTierName", "", map[string]any{"SrcApp": nil, "SrcTierName": "back", "DstTierName": nil}},
		{"v1", "SrcPod,src_tier_name", "", map[string]any{"SrcPod": "p", "SrcTierName": "back", "SrcApp": nil}},
		{"v2", "", "", map[string]any{"src_app": `a"b`, "src_tier_name": "back", "dst_app": nil, "dst_tier_name": "front"}},
		{"v1", "", `{"x":1}`, map[string]any{"x": 1.0, "SrcApp": `a"b`, "DstTierName": "front"}},
		{"v1", "", `{"src_app":"mine"}`, map[string]any{"src_app": "mine", "src_tier_name": "back", "dst_tier_name": "front"}},
	} {
		e, err := NewJSON(JSONConfig{Schema: c.schema, Fields: c.fields, Mapping: mapping, Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		r.Line = nil
		if c.line != "" {
			r.Line = &flow.Line{Text: []byte(c.line), Close: len(c.line) - 1, Snake: strings.Contains(c.line, "src_"), Keys: []string{"src_app"}}
		}
		var got map[string]any
		if b := e.AppendRecord(nil, r); json.Unmarshal(b, &got) != nil {
			t.Fatalf("%s", b)
		}
		for k, v := range c.want {
			if got[k] != v {
				t.Errorf("%+v: %s is %v, want %v", c, k, got[k], v)
			}
		}
	}
	for _, s := range []string{"a=Addr", "a=Port"} {
		labels, err := flow.ParseLabels(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewJSON(JSONConfig{Schema: "v1", Mapping: mapping, Labels: labels}); err == nil || !strings.HasPrefix(err.Error(), "kube.labels: ") {
			t.Errorf("%s: %v", s, err)
		}
	}
}
