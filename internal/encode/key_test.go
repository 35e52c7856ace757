package encode

import (
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func TestKey(t *testing.T) {
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst,NextHop=Nxt")
	noError(t, err)
	labels, err := flow.ParseLabels("app=App")
	noError(t, err)
	record := func() *flow.Record {
		r := new(flow.Record)
		r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.NextHop = []byte{10, 0, 0, 9}, []byte{10, 0, 0, 10}, []byte{192, 0, 2, 1}
		r.Msg.SrcPort, r.Msg.DstPort, r.Msg.Proto, r.Msg.Etype = 40000, 443, 6, 0x800
		r.Msg.SrcMac, r.Msg.InIf = 0x0a580a800005, 7
		r.Ends[0] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Namespace: "shop", Name: "cart-1", Workload: "cart", Labels: flow.JoinLabels([]string{"cart"})}), Status: flow.StatusLive}
		r.Ends[1] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Service", Namespace: "pay", Name: "api", Workload: "api"}), Status: flow.StatusService}
		return r
	}
	reverse := func(r *flow.Record) *flow.Record {
		r.Msg.SrcAddr, r.Msg.DstAddr = r.Msg.DstAddr, r.Msg.SrcAddr
		r.Msg.SrcPort, r.Msg.DstPort = r.Msg.DstPort, r.Msg.SrcPort
		r.Msg.SrcMac, r.Msg.DstMac = r.Msg.DstMac, r.Msg.SrcMac
		r.Ends[0], r.Ends[1] = r.Ends[1], r.Ends[0]
		return r
	}
	for list, want := range map[string]struct {
		key     string
		ordered bool // the key of the other direction is another
	}{
		DefaultKey:                         {"10.0.0.10,10.0.0.9", false},
		"dst_addr, src_addr":               {"10.0.0.10,10.0.0.9", false},
		"SrcAddr,DstAddr,Proto":            {"10.0.0.10,10.0.0.9,6", false},
		"Proto,SrcAddr,SrcPort,DstPort":    {"40000,443,6,10.0.0.9", true},
		"SrcAddr,DstAddr,SrcPort,DstPort":  {"10.0.0.10,443,10.0.0.9,40000", false},
		"SrcAddr":                          {"10.0.0.9", true},
		"DstAddr":                          {"10.0.0.10", true},
		"SrcNamespace,DstNamespace":        {"pay,shop", false},
		"src_namespace,SrcWorkload,NxtPod": {"shop,cart,", true},
		"SrcApp,DstApp":                    {",cart", false},
		"SrcStatus,DstStatus":              {"live,service", false},
		"SrcMac,DstMac":                    {",0a:58:0a:80:00:05", false},
		"ProtoName,InIf,NextHop":           {"TCP,7,192.0.2.1", false},
		"InIfName":                         {"", false},
	} {
		k, err := ParseKey(list, mapping, labels...)
		if err != nil {
			t.Errorf("%s: %v", list, err)
			continue
		}
		if got := string(k.AppendKey([]byte("x"), record())); got != "x"+want.key {
			t.Errorf("%s: %q, want %q", list, got[1:], want.key)
		}
		if got := string(k.AppendKey(nil, reverse(record()))); (got != want.key) != want.ordered {
			t.Errorf("%s: %q in the other direction, and %q", list, got, want.key)
		}
	}
	k, err := ParseKey(DefaultKey, nil)
	noError(t, err)
	v6 := record()
	v6.Msg.SrcAddr, v6.Msg.DstAddr = []byte("\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"), []byte("\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")
	if got := string(k.AppendKey(nil, v6)); got != "fd00::1,fd00::2" {
		t.Errorf("IPv6: %q", got)
	}
	for name, r := range map[string]*flow.Record{
		"no addresses":    {},
		"line, no record": {Line: &flow.Line{Text: []byte("hello"), Close: -1}},
	} {
		if got := k.AppendKey(nil, r); len(got) > 0 {
			t.Errorf("%s: key %q", name, got)
		}
	}
	one := new(flow.Record)
	one.Msg.DstAddr = []byte{10, 0, 0, 1}
	if got := string(k.AppendKey(nil, one)); got != ",10.0.0.1" {
		t.Errorf("one address: %q", got)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
