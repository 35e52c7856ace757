package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// chosen counts what a filter passes on.
type chosen int

func (n *chosen) HandleFlow(*flow.Record) { *n++ }
func (n *chosen) Skip()                   {}
func (n *chosen) Idle() bool              { return false }

// TestShortFilters gives the filters that are quick to type, and sees which records they
// want.
func TestShortFilters(t *testing.T) {
	record := func(srcNamespace, srcPod, src string, srcPort uint32, dst string, dstPort uint32) *flow.Record {
		r := &flow.Record{}
		r.Msg.SrcAddr, r.Msg.DstAddr = netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice()
		r.Msg.SrcPort, r.Msg.DstPort, r.Msg.Bytes = srcPort, dstPort, 1000
		if srcPod != "" {
			r.Ends[0].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: srcNamespace, Name: srcPod})
		}
		return r
	}
	shop := record("shop", "cart", "10.0.0.1", 5000, "fd00::1", 443)
	bank := record("bank", "cart", "10.0.0.2", 443, "192.0.2.1", 5001)
	none := record("", "", "10.9.0.1", 1, "192.0.2.2", 2)
	for _, tc := range []struct {
		args string
		want string // s, b, n: the records that are wanted
	}{
		{"-n shop", "s"},
		{"-pod cart", "sb"},
		{"-pod bank/cart", "b"},
		{"-port 443", "sb"},
		{"-ip 10.0.0.2", "b"},
		{"-ip 192.0.2.7/24", "bn"},
		{"-ip ::ffff:10.0.0.2", "b"},
		{"-ip fd00::/8", "s"},
		{"-n shop -port 443", "s"},
		{"-n shop -port 80", ""},
		{"-port 443 -filter DstPort==443||Bytes==1", "s"},
		{"-port 443 -filter Bytes==1000//all", "sb"},
		{"-pod shop/" + `x"||true||"`, ""},
		{"-n shop -mapping src_addr=A", "s"},
	} {
		c, err := Parse(strings.Fields(tc.args), nil, false)
		if err != nil {
			t.Errorf("%s: %v", tc.args, err)
			continue
		}
		got := ""
		for i, r := range []*flow.Record{shop, bank, none} {
			var n chosen
			c.Filter.NewStage(&n).HandleFlow(r)
			got += "sbn"[i : i+int(n)]
		}
		if got != tc.want {
			t.Errorf("%s wants %q, want %q", tc.args, got, tc.want)
		}
	}
	for _, tc := range []struct{ args, env, file, want string }{
		{"-pod a/b/c", "", "", `-pod: "a/b/c" is no pod; give NAME or NAMESPACE/NAME`},
		{"-pod /b", "", "", `-pod: "/b" is no pod`},
		{"-port 65536", "", "", `-port: "65536" is no port; give a number from 0 to 65535`},
		{"-port http", "", "", "give a number"},
		{"-ip 10.0.0.0/33", "", "", "-ip: "},
		{"-ip fe80::1%eth0", "", "", "-ip: "},
		{"-n a -mapping SamplerAddress=Sampler", "", "", "-n: neither SrcAddr nor DstAddr is in -mapping"},
		{"", "KUBE_ENRICHER_N=a", "", "sets no flag"},
		{"", "KUBE_ENRICHER_IP=10.0.0.1", "", "sets no flag"},
		{"", "", "pod: a\n", "key pod: is for the command line only"},
		{"-port 1 -filter Bytes==", "", "", "-filter: column"},
	} {
		args := strings.Fields(tc.args)
		if tc.file != "" {
			args = append(args, "-config", write(t, "c.yaml", tc.file))
		}
		if _, err := Parse(args, []string{tc.env}, false); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
