package gen

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// packedFirst has the numbers that the sums of package recent read without the others,
// in their order.
var packedFirst = []string{"Bytes", "Packets", "SamplingRate", "Type"}

// maxVariable is how many fields of package recent may have values of variable length,
// the elements of the user's list being one of them: they are bits of a number.
const maxVariable = 64

// packed returns internal/recent/pack_gen.go.
func packed(fields []field) (string, error) {
	numbers := slices.DeleteFunc(byNumber(fields, func(*flow.Field) bool { return true }), func(f field) bool {
		return !f.packedNumber()
	})
	slices.SortStableFunc(numbers, func(a, b field) int { return packedRank(a) - packedRank(b) })
	variable := slices.DeleteFunc(byNumber(fields, func(*flow.Field) bool { return true }), func(f field) bool {
		return f.path == "" || f.typ.Kind() != reflect.Slice
	})
	if len(variable) >= maxVariable {
		return "", fmt.Errorf("%s: package recent has no room for more than %d fields of variable length", variable[maxVariable-1].Name, maxVariable-1)
	}
	b := new(bytes.Buffer)
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p("%spackage recent\n\nimport (\n\"encoding/binary\"\n\nflowpb \"github.com/netsampler/goflow2/v2/pb\"\n\n\"github.com/netobserv/goflow2-kube-enricher/flow\"\n)\n\n", header)
	p("// numberControl is how many bytes the lengths of all numbers take, four bits each.\nconst numberControl = %d\n\n", (len(numbers)+1)/2)
	p("// The bits of the fields that a record may lack.\nconst (\n")
	for i, f := range variable {
		p("bit%s uint64 = 1 << %d\n", strings.TrimPrefix(f.ident, "Field"), i)
	}
	p("bitElements uint64 = 1 << %d\n)\n", len(variable))
	packNumbers(p, numbers)
	packVariable(p, variable)
	return b.String(), nil
}

// packedNumber reports whether the field is a number that is packed: it has a place of
// its own in a record, and is not the time of receipt, which a packed record begins with.
func (f *field) packedNumber() bool {
	if f.path == "" || f.Name == "TimeReceivedNs" {
		return false
	}
	switch f.typ.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Int32:
		return true
	}
	return false
}

func packedRank(f field) int {
	if i := slices.Index(packedFirst, f.Name); i >= 0 {
		return i
	}
	return len(packedFirst)
}

// packNumbers writes putNumbers and numbers. Times are differences from the time of
// receipt, and so most often short.
func packNumbers(p func(string, ...any), numbers []field) {
	p(`
// putNumbers packs the numbers of r at b, which must have room for %d bytes. It returns
// how many it has used.
func putNumbers(b []byte, r *flow.Record) (n int) {
n = numberControl
var v uint64
var l0, l1 byte
_, _ = l0, l1
`, (len(numbers)+1)/2+8*len(numbers)+8)
	for i, f := range numbers {
		value := f.uint64()
		switch {
		case strings.HasPrefix(f.Name, "TimeFlow"):
			value = "fold(" + f.path + " - r.Msg.TimeReceivedNs)"
		case f.typ.Kind() == reflect.Int32:
			value = "uint64(uint32(" + f.path + "))"
		}
		p("v = %s\nbinary.LittleEndian.PutUint64(b[n:], v)\nl%d = byteLen(v)\nn += int(l%d)\n", value, i%2, i%2)
		switch {
		case i%2 == 1:
			p("b[%d] = l0 | l1<<4\n", i/2)
		case i == len(numbers)-1:
			p("b[%d] = l0\n", i/2)
		}
	}
	p(`return n
}

// numbers unpacks the numbers at b into r, whose time of receipt is set. It returns
// their length. The bytes after them may be read, too.
func numbers(b []byte, r *flow.Record) (n int) {
n = numberControl
var v uint64
var l byte
`)
	for i, f := range numbers {
		if i%2 == 0 {
			p("l = b[%d] & 15\n", i/2)
		} else {
			p("l = b[%d] >> 4\n", i/2)
		}
		p("v = binary.LittleEndian.Uint64(b[n:]) & lowBytes[l]\nn += int(l)\n")
		switch {
		case strings.HasPrefix(f.Name, "TimeFlow"):
			p("%s = unfold(v) + r.Msg.TimeReceivedNs\n", f.path)
		case f.typ.Kind() == reflect.Uint64:
			p("%s = v\n", f.path)
		case f.typ.Kind() == reflect.Int32:
			p("%s = %s(uint32(v))\n", f.path, enumName(f.typ))
		default:
			p("%s = %s(v)\n", f.path, f.typ)
		}
	}
	p("return n\n}\n")
}

func enumName(t reflect.Type) string { return "flowpb." + t.Name() }

// packVariable writes what packs fields of variable length.
func packVariable(p func(string, ...any), variable []field) {
	p(`
// variable returns which fields of variable length r has, and an upper bound for their
// length when they are packed.
func variable(r *flow.Record) (mask uint64, size int) {
`)
	for _, f := range variable {
		bit := "bit" + strings.TrimPrefix(f.ident, "Field")
		p("if n := len(%s); n > 0 {\nmask |= %s\nsize += %s\n}\n", f.path, bit, packedSize(f))
	}
	p("if len(r.Extra.Elements) > 0 {\nmask |= bitElements\nsize += elementsSize(r.Extra.Elements)\n}\nreturn mask, size\n}\n")
	p(`
// appendVariable packs the fields of variable length that mask has.
func appendVariable(b []byte, mask uint64, r *flow.Record) []byte {
`)
	for _, f := range variable {
		p("if mask&bit%s != 0 {\nb = append%s(b, %s)\n}\n", strings.TrimPrefix(f.ident, "Field"), packedForm(f), f.path)
	}
	p("if mask&bitElements != 0 {\nb = appendElements(b, r.Extra.Elements)\n}\nreturn b\n}\n")
	p(`
// variable unpacks the fields of variable length that mask has, from b. Slices alias b
// and the lists of u.
func (u *unpacker) variable(b []byte, mask uint64, r *flow.Record) {
`)
	for _, f := range variable {
		form := packedForm(f)
		p("if mask&bit%s != 0 {\n%s, b = ", strings.TrimPrefix(f.ident, "Field"), f.path)
		if form == "Bytes" {
			p("takeBytes(b)\n}\n")
		} else {
			p("u.take%s(b)\n}\n", form)
		}
	}
	p("if mask&bitElements != 0 {\nr.Extra.Elements = u.takeElements(b)\n}\n}\n")
}

// packedForm returns the shape of a field of variable length.
func packedForm(f field) string {
	switch f.Kind {
	case flow.KindUints:
		return "Uints"
	case flow.KindAddrs:
		return "Addrs"
	case flow.KindLayers:
		return "Layers"
	}
	return "Bytes"
}

func packedSize(f field) string {
	switch f.Kind {
	case flow.KindUints, flow.KindLayers:
		return "maxUvarint + maxUvarint*n"
	case flow.KindAddrs:
		return "addrsSize(" + f.path + ")"
	}
	return "maxUvarint + n"
}
