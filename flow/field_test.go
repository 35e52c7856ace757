package flow_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/flow/internal/gen"
)

var update = flag.Bool("update", false, "write the generated files anew, but for flowpb")

// TestGenerated fails when a generated file is not what the tables of fields say.
// TestProtoGenerated and TestProtoc do the same for flowpb.
func TestGenerated(t *testing.T) {
	files, err := gen.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		file := filepath.Join("..", filepath.FromSlash(name))
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date; run: go generate ./flow", name)
		}
	}
	// The comments of flow.proto are in flowpb, too, and no descriptor has them.
	code, err := os.ReadFile("flowpb/flow.pb.go")
	if err != nil {
		t.Fatal(err)
	}
	_, message, _ := bytes.Cut(files["flow/flow.proto"], []byte("\nmessage EnrichedFlow"))
	for line := range strings.SplitSeq(string(message), "\n") {
		if _, comment, ok := strings.Cut(line, "; // "); ok && !bytes.Contains(code, []byte("// "+comment)) {
			t.Errorf("flowpb does not have the comment %q; with protoc installed, run: go generate ./flow", comment)
		}
	}
}

// elements has a row for each element that fills one field.
var elements = []struct {
	element flow.Element
	field   string
}{
	{flow.Element{ID: 61}, "FlowDirection"},
	{flow.Element{ID: 96}, "ApplicationName"},
	{flow.Element{ID: 136}, "FlowEndReason"},
	{flow.Element{ID: 192}, "IPTTL"},
	{flow.Element{ID: 225}, "PostNATSrcAddr"},
	{flow.Element{ID: 226}, "PostNATDstAddr"},
	{flow.Element{ID: 227}, "PostNATSrcPort"},
	{flow.Element{ID: 228}, "PostNATDstPort"},
	{flow.Element{ID: 230}, "NatEvent"},
	{flow.Element{ID: 233}, "FirewallEvent"},
	{flow.Element{ID: 234}, "IngressVrfID"},
	{flow.Element{ID: 235}, "EgressVrfID"},
	{flow.Element{ID: 239}, "BiFlowDirection"},
	{flow.Element{ID: 281}, "PostNATSrcAddr"},
	{flow.Element{ID: 282}, "PostNATDstAddr"},
	{flow.Element{ID: 40001}, "PostNATSrcAddr"},
	{flow.Element{ID: 40002}, "PostNATDstAddr"},
	{flow.Element{ID: 40003}, "PostNATSrcPort"},
	{flow.Element{ID: 40004}, "PostNATDstPort"},
	{flow.Element{ID: 40005}, "FirewallEvent"},
	{flow.Element{PEN: flow.PENVMware, ID: 891}, "TunnelType"},
	{flow.Element{PEN: flow.PENVMware, ID: 892}, "TunnelKey"},
	{flow.Element{PEN: flow.PENVMware, ID: 893}, "TunnelSrcAddr"},
	{flow.Element{PEN: flow.PENVMware, ID: 894}, "TunnelDstAddr"},
	{flow.Element{PEN: flow.PENVMware, ID: 895}, "TunnelProto"},
	{flow.Element{PEN: flow.PENVMware, ID: 896}, "TunnelSrcPort"},
	{flow.Element{PEN: flow.PENVMware, ID: 897}, "TunnelDstPort"},
}

func TestFieldByElement(t *testing.T) {
	for _, tc := range elements {
		if f, ok := flow.FieldByElement(tc.element); !ok || f.Name != tc.field {
			t.Errorf("%s fills %v, want %s", tc.element, f, tc.field)
		}
	}
	count := 0
	for i := range flow.Fields {
		count += len(flow.Fields[i].Elements)
	}
	if count != len(elements) {
		t.Errorf("the table has %d elements, this test has %d", count, len(elements))
	}
	for _, e := range []flow.Element{{}, {ID: 1}, {ID: 82}, {ID: 892}, {PEN: flow.PENVMware, ID: 61}} {
		if f, ok := flow.FieldByElement(e); ok {
			t.Errorf("%s fills %s", e, f.Name)
		}
	}
}

// TestFieldIDs checks that the generated constants are the indices of the table.
func TestFieldIDs(t *testing.T) {
	for id, name := range map[flow.FieldID]string{
		flow.FieldBiFlowDirection: "BiFlowDirection", flow.FieldVlanID: "VlanId", flow.FieldASPath: "AsPath",
		flow.FieldMplsTTL: "MplsTtl", flow.FieldNextHopAS: "NextHopAS", flow.FieldTunnelType: "TunnelType",
	} {
		if f := &flow.Fields[id]; f.Name != name || f.ID != id {
			t.Errorf("%d is %s, want %s", id, f.Name, name)
		}
	}
	for _, name := range []string{"IPTTL", "ip_ttl"} {
		if f, ok := flow.FieldByName(name); !ok || f.ID != flow.FieldIPTTL {
			t.Errorf("%s is %v", name, f)
		}
	}
}

// TestAccessors sets each field alone, and looks at all of them.
func TestAccessors(t *testing.T) {
	value := func(r *flow.Record, id flow.FieldID) string {
		return fmt.Sprint(r.Uint(id), r.Bytes(id), len(r.Uints(id)), len(r.Addrs(id)))
	}
	empty := value(new(flow.Record), 0)
	times := []string{"TimeFlowEnd", "TimeFlowEndNs", "TimeFlowStart", "TimeFlowStartNs", "TimeReceived", "TimeReceivedNs"}
	for i := range flow.Fields {
		f := &flow.Fields[i]
		r := new(flow.Record)
		want := empty
		r.SetUint(f.ID, math.MaxUint64)
		r.SetBytes(f.ID, []byte{1, 2, 3, 4})
		switch f.Kind {
		case flow.KindUint, flow.KindMAC:
			if !slices.Contains(times, f.Name) {
				want = strings.Replace(empty, "0", fmt.Sprint(r.Uint(f.ID)), 1)
				if n := r.Uint(f.ID); f.Bits != 0 && n != math.MaxUint64>>(64-f.Bits) || n < math.MaxUint8 {
					t.Errorf("%s: the largest number is %d", f.Name, n)
				}
			}
		case flow.KindAddr, flow.KindText:
			want = strings.Replace(empty, "[]", "[1 2 3 4]", 1)
		}
		for j := range flow.Fields {
			if got := value(r, flow.FieldID(j)); j != i && got != empty || j == i && got != want {
				t.Errorf("with %s set, %s is %s", f.Name, flow.Fields[j].Name, got)
			}
		}
	}
}

// TestCloneFields checks that a copy shares no bytes with the record.
func TestCloneFields(t *testing.T) {
	r := new(flow.Record)
	size := 0
	for i := range flow.Fields {
		f := &flow.Fields[i]
		r.SetUint(f.ID, uint64(i))
		r.SetBytes(f.ID, []byte{byte(i), 1})
		if f.Own() {
			size += len(r.Bytes(f.ID))
		}
	}
	c := r.Clone()
	for i := range flow.Fields {
		f := &flow.Fields[i]
		if r.Uint(f.ID) != c.Uint(f.ID) || !bytes.Equal(r.Bytes(f.ID), c.Bytes(f.ID)) {
			t.Errorf("%s differs", f.Name)
		}
		if b := r.Bytes(f.ID); len(b) > 0 {
			if b[1] = 2; c.Bytes(f.ID)[1] != 1 {
				t.Errorf("%s is shared", f.Name)
			}
		}
	}
	if got := c.Extra.Size(); got != size || size == 0 {
		t.Errorf("size %d, want %d", got, size)
	}
	if r.Reset(); r.Extra.Size() != 0 {
		t.Error("a record that was reset has bytes")
	}
}

// TestCloneElements checks that a copy of further elements shares no bytes with the
// record.
func TestCloneElements(t *testing.T) {
	r := new(flow.Record)
	r.Extra.Elements = []flow.ElementValue{{Index: 3, Value: []byte("abc")}, {Index: 1, Value: nil}}
	c := r.Clone()
	r.Extra.Elements[0].Value[0] = 'x'
	r.Extra.Elements[1].Index = 7
	v, ok := c.Extra.Element(3)
	if _, other := c.Extra.Element(7); !ok || string(v) != "abc" || other {
		t.Errorf("%q %v", v, c.Extra.Elements)
	}
	if got := c.Extra.Size(); got < 3 {
		t.Errorf("size %d", got)
	}
	if r.Reset(); r.Extra.Size() != 0 {
		t.Error("a record that was reset has elements")
	}
}
