// Package gen makes source files of the tables of package flow: the accessors of
// a record, flow.proto, and the parts of the encoders that have a line for each
// field. "go generate ./flow" writes them; TestGenerated of package flow compares
// them with what is there.
package gen

import (
	"bytes"
	"fmt"
	"go/format"
	"reflect"
	"slices"
	"strings"

	upstreampb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Files returns the content of all generated files, by their path below the
// root of the repository. The error names the row of a table that is wrong.
func Files() (map[string][]byte, error) {
	fields, err := resolve()
	if err != nil {
		return nil, err
	}
	if err := checkAttrs(); err != nil {
		return nil, err
	}
	pack, err := packed(fields)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"flow/flow.proto": protoFile(fields)}
	for name, source := range map[string]string{
		"flow/accessors_gen.go":         accessors(fields),
		"internal/encode/fields_gen.go": encoders(fields),
		"internal/recent/pack_gen.go":   pack,
	} {
		if files[name], err = format.Source([]byte(source)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return files, nil
}

// field is a row of the table with what it is called in the code.
type field struct {
	*flow.Field
	ident string       // FieldTunnelKey
	path  string       // where a record has the value: r.Extra.TunnelKey; empty if it is derived
	typ   reflect.Type // of the value at path
	// derived is how the accessors read a number that is no field of its own or is
	// not always valid.
	derived string
}

// derived has the numbers that are made of others by functions of flow/field.go.
// They cannot be set. The keys are names: the FieldIDs that this program was
// compiled with are those of the table before it changed.
var derived = map[string]string{
	"TimeFlowStart":   "r.startSeconds()",
	"TimeFlowStartNs": "r.startNs()",
	"TimeFlowEnd":     "r.endSeconds()",
	"TimeFlowEndNs":   "r.endNs()",
	"TimeReceived":    "r.Msg.TimeReceivedNs / 1e9",
	"TimeReceivedNs":  "r.Msg.TimeReceivedNs",
	"CountsOnce":      "r.CountsOnce()",
}

// uints are the types of the numbers of [flow.OwnFields], by width.
var uints = map[uint8]reflect.Type{
	8: reflect.TypeFor[uint8](), 16: reflect.TypeFor[uint16](), 32: reflect.TypeFor[uint32](), 64: reflect.TypeFor[uint64](),
}

var bytesType = reflect.TypeFor[[]byte]()

// resolve checks the rows and finds the place of each field's value in a record.
func resolve() ([]field, error) {
	upstream := make(map[int32]reflect.StructField)
	for in := range reflect.TypeFor[upstreampb.FlowMessage]().Fields() {
		var wire string
		var number int32
		tag := strings.Replace(in.Tag.Get("protobuf"), ",", " ", 2)
		if _, err := fmt.Sscan(tag, &wire, &number); err == nil {
			upstream[number] = in
		}
	}
	if err := checkRows(); err != nil {
		return nil, err
	}
	fields := make([]field, 0, len(flow.Fields))
	for i := range flow.Fields {
		f := field{Field: &flow.Fields[i]}
		f.ident, f.derived = "Field"+goName(f.Name), derived[f.Name]
		switch {
		case f.Upstream():
			in, ok := upstream[f.Number]
			if !ok {
				return nil, fmt.Errorf("%s: goflow2 has no field %d", f.Name, f.Number)
			}
			f.path, f.typ = "r.Msg."+in.Name, in.Type
		case f.Own() && f.Kind == flow.KindBool && f.derived != "":
			f.typ = reflect.TypeFor[bool]()
		case f.Own():
			f.path = "r.Extra." + goName(f.Name)
			switch f.Kind {
			case flow.KindUint:
				f.typ = uints[f.Bits]
			case flow.KindMAC:
				f.typ = uints[64]
			case flow.KindAddr, flow.KindText:
				f.typ = bytesType
			}
			if f.typ == nil {
				return nil, fmt.Errorf("%s: a field of its own has kind KindUint with 8, 16, 32 or 64 bits, KindMAC, KindAddr or KindText", f.Name)
			}
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// jsonSlots is numberSlots of internal/encode: JSON.AppendRecord gathers the numbers
// of the default set in an array of that size, by FieldID.
const jsonSlots = 64

// checkRows checks what rows of the table have to do with one another.
func checkRows() error {
	numbers := make(map[int32]string)
	elements := make(map[flow.Element]string)
	for i := range flow.Fields {
		f := &flow.Fields[i]
		if i > 0 {
			last := &flow.Fields[i-1]
			if f.Default && !last.Default || f.Default == last.Default && f.Name <= last.Name {
				return fmt.Errorf("%s: the row must not come after %s: rows are sorted by name, the default ones first", f.Name, last.Name)
			}
		}
		if other := numbers[f.Number]; f.Number != 0 && other != "" {
			return fmt.Errorf("%s and %s have the same number %d", other, f.Name, f.Number)
		}
		numbers[f.Number] = f.Name
		for _, e := range f.Elements {
			if other := elements[e]; other != "" {
				return fmt.Errorf("%s: element %s fills %s already", f.Name, e, other)
			}
			elements[e] = f.Name
		}
		if f.Kind == flow.KindUint && f.Default && i >= jsonSlots {
			return fmt.Errorf("%s: the numbers of the default set must be among the first %d fields", f.Name, jsonSlots)
		}
	}
	return nil
}

// checkAttrs checks the numbers of the generated fields.
func checkAttrs() error {
	seen := map[int32]string{flow.NumberLabels: "labels"}
	for _, a := range flow.Attrs {
		if other := seen[a.Number]; other != "" || a.Number < 0 || a.Number >= flow.NumberDst-flow.NumberGenerated {
			return fmt.Errorf("generated field %s has number %d, which is not free (%s)", a.Name, a.Number, other)
		}
		seen[a.Number] = a.Name
	}
	return nil
}

// goName returns the name of a field in Go: initialisms of schema v1 that Go
// writes in capitals are in capitals.
func goName(name string) string {
	for _, word := range []string{"As", "Id", "Ip", "Ttl"} {
		for i := strings.Index(name, word); i >= 0; {
			end := i + len(word)
			if end == len(name) || 'A' <= name[end] && name[end] <= 'Z' {
				name = name[:i] + strings.ToUpper(word) + name[end:]
			}
			next := strings.Index(name[end:], word)
			if next < 0 {
				break
			}
			i = end + next
		}
	}
	return name
}

// byNumber returns the fields that satisfy keep, in the order of flow.proto.
func byNumber(fields []field, keep func(*flow.Field) bool) []field {
	kept := slices.DeleteFunc(slices.Clone(fields), func(f field) bool { return !keep(f.Field) })
	slices.SortFunc(kept, func(a, b field) int { return int(a.Number - b.Number) })
	return kept
}

const header = "// Code generated by flow/internal/gen from the table in flow/field.go. DO NOT EDIT.\n\n"

// accessors returns flow/accessors_gen.go.
func accessors(fields []field) string {
	b := new(bytes.Buffer)
	b.WriteString(header + "package flow\n\n")
	fieldIDs(b, fields)
	ownFields(b, slices.DeleteFunc(byNumber(fields, (*flow.Field).Own), func(f field) bool { return f.path == "" }))
	numberAccessors(b, fields)
	bytesAccessors(b, fields)
	ofKind := func(kind flow.ValueKind) func(f *field) string {
		return func(f *field) string {
			if f.Kind != kind {
				return ""
			}
			return "return " + f.path
		}
	}
	accessor(b, fields, "// Uints returns the value of a field of kind KindUints, nil for others.", "Uints(id FieldID) []uint32", ofKind(flow.KindUints))
	b.WriteString("return nil\n}\n")
	accessor(b, fields, "// Addrs returns the value of a field of kind KindAddrs, nil for others.", "Addrs(id FieldID) [][]byte", ofKind(flow.KindAddrs))
	b.WriteString("return nil\n}\n")
	return b.String()
}

// fieldIDs writes the constants that name the rows of the table.
func fieldIDs(b *bytes.Buffer, fields []field) {
	b.WriteString("// The fields of a record.\nconst (\n")
	for i, f := range fields {
		typed := ""
		if i == 0 {
			typed = " FieldID = iota"
		}
		fmt.Fprintf(b, "%s%s\n", f.ident, typed)
	}
	b.WriteString(")\n")
}

// ownFields writes the type OwnFields, with its methods.
func ownFields(b *bytes.Buffer, own []field) {
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p(`
// OwnFields holds the fields that goflow2's message lacks, by their number in
// flow.proto. Zero and empty values are those that the exporter did not send.
// Slices alias the worker's buffers.
type OwnFields struct {
`)
	for _, f := range own {
		p("%s %s // %s\n", goName(f.Name), strings.Replace(f.typ.String(), "[]uint8", "[]byte", 1), f.Description())
	}
	p("}\n\n// clone makes the slices copies of their own.\nfunc (x *OwnFields) clone() {\n")
	var sizes []string
	for _, f := range own {
		if f.typ == bytesType {
			p("x.%[1]s = clone(x.%[1]s)\n", goName(f.Name))
			sizes = append(sizes, "len(x."+goName(f.Name)+")")
		}
	}
	p("}\n\n// Size returns how many bytes the slices hold.\nfunc (x *OwnFields) Size() int {\nreturn %s\n}\n", strings.Join(sizes, " +\n"))
}

// accessor writes a method of Record that switches over the fields. line returns what
// it does for a field, "" for nothing. The end of the method is left to the caller.
func accessor(b *bytes.Buffer, fields []field, doc, signature string, line func(f *field) string) {
	fmt.Fprintf(b, "\n%s\nfunc (r *Record) %s {\nswitch id {\n", doc, signature)
	for i := range fields {
		if s := line(&fields[i]); s != "" {
			fmt.Fprintf(b, "case %s:\n%s\n", fields[i].ident, s)
		}
	}
	b.WriteString("}\n")
}

// numberAccessors writes Uint and SetUint.
func numberAccessors(b *bytes.Buffer, fields []field) {
	isNumber := func(f *field) bool { return f.Kind == flow.KindUint || f.Kind == flow.KindMAC }
	accessor(b, fields, "// Uint returns the value of a field of kind KindUint or KindMAC, 0 for others.", "Uint(id FieldID) uint64", func(f *field) string {
		switch {
		case !isNumber(f):
			return ""
		case f.derived != "":
			return "return " + f.derived
		}
		return "return " + f.uint64()
	})
	b.WriteString("return 0\n}\n")
	accessor(b, fields, "// SetUint sets a field of kind KindUint or KindMAC, but none of the times. What the\n// field has no room for becomes the largest number that it can hold.", "SetUint(id FieldID, v uint64)", func(f *field) string {
		switch {
		case !isNumber(f) || f.derived != "":
			return ""
		case f.typ.Kind() == reflect.Uint64:
			return f.path + " = v"
		}
		return fmt.Sprintf("%s = narrow[%s](v)", f.path, f.typ)
	})
	b.WriteString("}\n")
}

// bytesAccessors writes Bytes, BytesAt, Bool and SetBytes.
func bytesAccessors(b *bytes.Buffer, fields []field) {
	isBytes := func(f *field) bool { return f.typ == bytesType }
	accessor(b, fields, "// Bytes returns the value of a field of kind KindAddr or KindText, nil for others.\n// The slice aliases the record.", "Bytes(id FieldID) []byte", func(f *field) string {
		if !isBytes(f) {
			return ""
		}
		return "return " + f.path
	})
	b.WriteString("return nil\n}\n")
	accessor(b, fields, "// BytesAt returns where the record holds a field of kind KindAddr or KindText, nil\n// for others.", "BytesAt(id FieldID) *[]byte", func(f *field) string {
		if !isBytes(f) {
			return ""
		}
		return "return &" + f.path
	})
	b.WriteString("return nil\n}\n")
	accessor(b, fields, "// Bool returns the value of a field of kind KindBool, false for others.", "Bool(id FieldID) bool", func(f *field) string {
		if f.Kind != flow.KindBool {
			return ""
		}
		return "return " + f.derived
	})
	b.WriteString("return false\n}\n")
	b.WriteString(`
// SetBytes sets a field of kind KindAddr or KindText; it does nothing for others.
// The record keeps v itself.
func (r *Record) SetBytes(id FieldID, v []byte) {
	if at := r.BytesAt(id); at != nil {
		*at = v
	}
}
`)
}

// uint64 returns an expression that reads a number.
func (f *field) uint64() string {
	if f.typ.Kind() == reflect.Uint64 {
		return f.path
	}
	return "uint64(" + f.path + ")"
}
