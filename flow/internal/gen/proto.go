package gen

import (
	"bytes"
	"fmt"
	"strings"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// protoWidth is how long a line of flow.proto may be.
const protoWidth = 100

// protoFile returns flow/flow.proto. Names and types of goflow2's fields are those
// of its own message.
func protoFile(fields []field) []byte {
	b := new(bytes.Buffer)
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p(`// Generated from the tables in flow/field.go and flow/attr.go; "go generate ./flow"
// writes it anew.
//
// The records of kube-enricher -format protobuf, each with its length before it
// as a varint.
//
// Fields below %d are those of FlowMessage of goflow2 v2.2.6, with the same
// numbers, types and meanings: whatever reads goflow2's protobuf reads these
// records. Fields of this file are never renumbered or given other types.
//
// Addresses have 4 or 16 bytes. MAC addresses are in the low 48 bits. Times are
// Unix time; start and end are the export time if the exporter sends none.

syntax = "proto3";
package flowpb;
option go_package = "github.com/netobserv/goflow2-kube-enricher/flow/flowpb;flowpb";

message EnrichedFlow {
`, flow.NumberGenerated)
	message := (*upstreampb.FlowMessage)(nil).ProtoReflect().Descriptor()
	for i := range message.Enums().Len() {
		e := message.Enums().Get(i)
		p("\n  enum %s {\n", e.Name())
		for j := range e.Values().Len() {
			p("    %s = %d;\n", e.Values().Get(j).Name(), e.Values().Get(j).Number())
		}
		if e.FullName() == flow.TypeNetFlowV1.Descriptor().FullName() {
			for _, t := range flow.OwnTypes {
				p("    %s = %d;\n", flow.TypeName(t), t)
			}
		}
		p("  }\n")
	}
	p("\n")
	for _, f := range byNumber(fields, (*flow.Field).Upstream) {
		d := message.Fields().ByNumber(protowire.Number(f.Number))
		typ := d.Kind().String()
		if d.Enum() != nil {
			typ = string(d.Enum().Name())
		}
		if d.IsList() {
			typ = "repeated " + typ
		}
		protoField(p, typ, f.Snake, f.Number, f.Description())
	}
	for _, prefix := range []struct {
		name, snake string
		first       int32
	}{{"Src", "src_", flow.NumberGenerated}, {"Dst", "dst_", flow.NumberDst}} {
		p("\n  // The owner of the address that -mapping gives the prefix %s.\n", prefix.name)
		protoAttrs(p, prefix.snake, prefix.first)
	}
	p("\n")
	protoField(p, "repeated KubeObject", "other", flow.NumberOther, "owners of addresses with other prefixes")
	protoField(p, "string", "cluster", flow.NumberCluster, "value of -cluster")
	p("\n  // What exporters send and goflow2's message has no fields for.\n")
	for _, f := range byNumber(fields, (*flow.Field).Own) {
		protoField(p, ownType(&f), f.Snake, f.Number, f.Description())
	}
	protoField(p, "repeated ExtraField", "extra", flow.NumberElements, "the elements of -fields.elements")
	p(`}

// ExtraField is an element that -fields.elements has made a field of.
message ExtraField {
`)
	protoField(p, "string", "name", flow.NumberElementName, "as the file has it")
	protoField(p, "string", "value", flow.NumberElementValue, "as in JSON, without quotes")
	p(`}

// KubeObject is the owner of an address whose prefix is neither Src nor Dst.
message KubeObject {
`)
	protoField(p, "string", "prefix", flow.NumberPrefix, "as -mapping has it")
	protoAttrs(p, "", flow.NumberObject)
	p("}\n")
	return b.Bytes()
}

// ownType returns the type of a field that goflow2 does not have.
func ownType(f *field) string {
	switch {
	case f.Kind == flow.KindText:
		return "string"
	case f.Kind == flow.KindBool:
		return "optional bool" // false is not the same as none
	case f.Kind == flow.KindAddr:
		return "bytes"
	case f.Kind == flow.KindUint && f.Bits < 64:
		return "uint32"
	}
	return "uint64"
}

// protoAttrs writes the generated fields of a prefix, whose numbers begin with
// first.
func protoAttrs(p printf, prefix string, first int32) {
	for _, a := range flow.Attrs {
		if a.Number < flow.NumberLabels {
			protoField(p, "string", prefix+a.Snake, first+a.Number, a.Doc)
		}
	}
	protoField(p, "map<string, string>", prefix+"labels", first+flow.NumberLabels, "-kube.labels, by the name of the field")
	free := int32(flow.NumberLabels + 1)
	for _, a := range flow.Attrs {
		if a.Number > flow.NumberLabels {
			protoField(p, "string", prefix+a.Snake, first+a.Number, a.Doc)
			free = a.Number + 1
		}
	}
	p("  // %d to %d are reserved for further generated fields.\n", first+free, first+flow.NumberDst-flow.NumberGenerated-1)
}

// protoField writes a field with its comment. The comment is above the field if the
// line would be too long.
func protoField(p printf, typ, name string, number int32, doc string) {
	line := fmt.Sprintf("  %s %s = %d;", typ, name, number)
	if len(line)+len(" // ")+len(doc) <= protoWidth {
		p("%s // %s\n", line, doc)
		return
	}
	comment := "  //"
	for word := range strings.FieldsSeq(doc) {
		if len(comment)+1+len(word) > protoWidth {
			p("%s\n", comment)
			comment = "  //"
		}
		comment += " " + word
	}
	p("%s\n%s\n", comment, line)
}
