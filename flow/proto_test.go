package flow_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

var enriched = (*flowpb.EnrichedFlow)(nil).ProtoReflect().Descriptor()

// declarations lists what a file declares, a line each, as flow.proto has it:
// without comments, with the messages and enumerations around it.
func declarations(f protoreflect.FileDescriptor) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("syntax = %q", f.Syntax())
	add("package %s", f.Package())
	add("option go_package = %q", f.Options().(*descriptorpb.FileOptions).GetGoPackage())
	var message func(m protoreflect.MessageDescriptor, in string)
	message = func(m protoreflect.MessageDescriptor, in string) {
		in += "message " + string(m.Name())
		add("%s", in)
		for i := range m.Messages().Len() {
			if !m.Messages().Get(i).IsMapEntry() {
				message(m.Messages().Get(i), in+"/")
			}
		}
		for i := range m.Enums().Len() {
			e := m.Enums().Get(i)
			add("%s/enum %s", in, e.Name())
			for j := range e.Values().Len() {
				add("%s/enum %s/%s = %d", in, e.Name(), e.Values().Get(j).Name(), e.Values().Get(j).Number())
			}
		}
		for i := range m.Fields().Len() {
			fd := m.Fields().Get(i)
			typ := fd.Kind().String()
			switch {
			case fd.IsMap():
				typ = fmt.Sprintf("map<%v, %v>", fd.MapKey().Kind(), fd.MapValue().Kind())
			case fd.Message() != nil:
				typ = string(fd.Message().Name())
			case fd.Enum() != nil:
				typ = string(fd.Enum().Name())
			}
			if fd.IsList() {
				typ = "repeated " + typ
			}
			if fd.HasOptionalKeyword() {
				typ = "optional " + typ
			}
			add("%s/%s %s = %d", in, typ, fd.Name(), fd.Number())
		}
	}
	for i := range f.Messages().Len() {
		message(f.Messages().Get(i), "")
	}
	slices.Sort(lines)
	return lines
}

// parse reads the declarations of a file that is written as flow.proto is: one
// to a line.
func parse(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var (
		lines []string
		in    []string
		block = regexp.MustCompile(`^(message|enum) (\w+) \{$`)
		one   = regexp.MustCompile(`^[^{}]+;$`)
	)
	s := bufio.NewScanner(f)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "//")
		line = strings.TrimSpace(line)
		m := block.FindStringSubmatch(line)
		switch {
		case line == "":
		case m != nil:
			in = append(in, m[1]+" "+m[2])
			lines = append(lines, strings.Join(in, "/"))
		case line == "}" && len(in) > 0:
			in = in[:len(in)-1]
		case one.MatchString(line):
			lines = append(lines, strings.Join(append(slices.Clone(in), strings.TrimSuffix(line, ";")), "/"))
		default:
			t.Fatalf("%s has a line that this test cannot read: %s", name, line)
		}
	}
	if s.Err() != nil || len(in) > 0 {
		t.Fatalf("%v, open blocks: %v", s.Err(), in)
	}
	slices.Sort(lines)
	return lines
}

// TestProtoGenerated fails when flowpb is not what flow.proto says.
func TestProtoGenerated(t *testing.T) {
	want := parse(t, "flow.proto")
	got := declarations(enriched.ParentFile())
	if !slices.Equal(got, want) {
		for _, l := range got {
			if !slices.Contains(want, l) {
				t.Errorf("only in the generated code: %s", l)
			}
		}
		for _, l := range want {
			if !slices.Contains(got, l) {
				t.Errorf("only in flow.proto: %s", l)
			}
		}
		t.Error("with protoc installed, run: go generate ./flow")
	}
}

// TestProtoc compares the generated code with what protoc makes of flow.proto,
// if it is there.
func TestProtoc(t *testing.T) {
	protoc := needs.Program(t, "protoc")
	out := filepath.Join(t.TempDir(), "set")
	cmd := exec.CommandContext(t.Context(), protoc, "-Ikube-enricher=.", "--descriptor_set_out="+out, "kube-enricher/flow/flow.proto")
	cmd.Dir = ".."
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(b, want); err != nil {
		t.Fatal(err)
	}
	if got := protodesc.ToFileDescriptorProto(enriched.ParentFile()); !proto.Equal(got, want.File[0]) {
		t.Error("flowpb is out of date; run: go generate ./flow")
	}
}

// TestProtoUpstream checks that all of goflow2's fields are in flow.proto, with
// their numbers, types and enumerations, and no others below 2000 but the types of
// flows that goflow2 does not know.
func TestProtoUpstream(t *testing.T) {
	upstream := (*upstreampb.FlowMessage)(nil).ProtoReflect().Descriptor()
	describe := func(m protoreflect.MessageDescriptor) map[string]bool {
		set := make(map[string]bool)
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if f.Number() >= flow.NumberGenerated {
				continue
			}
			set[fmt.Sprint(f.Number(), f.Name(), f.Kind(), f.Cardinality(), f.IsPacked())] = true
			if e := f.Enum(); e != nil {
				for j := range e.Values().Len() {
					set[fmt.Sprint(e.Name(), e.Values().Get(j).Name(), e.Values().Get(j).Number())] = true
				}
			}
		}
		return set
	}
	got, want := describe(enriched), describe(upstream)
	for _, added := range []string{"FlowTypeNETFLOW_V1101", "FlowTypeNETFLOW_V7107"} {
		if !got[added] {
			t.Errorf("flow.proto lacks %s", added)
		}
		delete(got, added)
	}
	if !maps.Equal(got, want) {
		t.Errorf("flow.proto has %v\ngoflow2 has %v", got, want)
	}
}

// TestProtoFields checks flow.proto against the tables of fields.
func TestProtoFields(t *testing.T) {
	fields := make(map[protoreflect.FieldNumber]string)
	add := func(number int32, name string, kinds ...protoreflect.Kind) {
		f := enriched.Fields().ByNumber(protoreflect.FieldNumber(number))
		if f == nil || string(f.Name()) != name || !slices.Contains(kinds, f.Kind()) || fields[f.Number()] != "" {
			t.Errorf("%d is %v, want %s", number, f, name)
			return
		}
		fields[f.Number()] = name
	}
	numbers := []protoreflect.Kind{protoreflect.Uint32Kind, protoreflect.Uint64Kind}
	kinds := map[flow.ValueKind][]protoreflect.Kind{
		flow.KindUint: numbers, flow.KindUints: numbers, flow.KindMAC: numbers,
		flow.KindAddr: {protoreflect.BytesKind}, flow.KindAddrs: {protoreflect.BytesKind},
		flow.KindText: {protoreflect.StringKind}, flow.KindString: {protoreflect.EnumKind}, flow.KindLayers: {protoreflect.EnumKind},
		flow.KindBool: {protoreflect.BoolKind},
	}
	for i := range flow.Fields {
		if f := &flow.Fields[i]; f.Number != 0 {
			add(f.Number, f.Snake, kinds[f.Kind]...)
			if f.Upstream() != (f.Number < flow.NumberOwn) {
				t.Errorf("%s has number %d", f.Name, f.Number)
			}
		}
	}
	for _, a := range flow.Attrs {
		add(flow.NumberGenerated+a.Number, "src_"+a.Snake, protoreflect.StringKind)
		add(flow.NumberDst+a.Number, "dst_"+a.Snake, protoreflect.StringKind)
		object := (*flowpb.KubeObject)(nil).ProtoReflect().Descriptor().Fields()
		if f := object.ByName(protoreflect.Name(a.Snake)); f == nil || f.Number() != flow.NumberObject+protoreflect.FieldNumber(a.Number) || object.Len() != 2+len(flow.Attrs) {
			t.Errorf("KubeObject has %v for %s", f, a.Snake)
		}
	}
	add(flow.NumberGenerated+flow.NumberLabels, "src_labels", protoreflect.MessageKind)
	add(flow.NumberDst+flow.NumberLabels, "dst_labels", protoreflect.MessageKind)
	add(flow.NumberOther, "other", protoreflect.MessageKind)
	add(flow.NumberCluster, "cluster", protoreflect.StringKind)
	add(flow.NumberElements, "extra", protoreflect.MessageKind)
	if got, want := enriched.Fields().Len(), len(fields); got != want {
		t.Errorf("flow.proto has %d fields, the tables have %d", got, want)
	}
}
