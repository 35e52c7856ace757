package gen

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// encoders returns internal/encode/fields_gen.go. The code is straight lines: a
// loop over a table takes twice the time.
func encoders(fields []field) string {
	b := new(bytes.Buffer)
	p := func(format string, args ...any) { fmt.Fprintf(b, format, args...) }
	p(header + `package encode

import (
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// numbers gathers the numbers of the default set, by FieldID. To ask for one
// after the other would take a quarter of the encoder's time. A field whose
// FieldID does not fit v does not compile.
func numbers(v *[numberSlots]uint64, r *flow.Record) {
	m, x := &r.Msg, &r.Extra
`)
	for i := range fields {
		if f := &fields[i]; f.Kind == flow.KindUint && f.Default {
			p("v[flow.%s] = %s\n", f.ident, f.jsonNumber())
		}
	}
	p("}\n")
	upstream := byNumber(fields, (*flow.Field).Upstream)
	first, last := lists(upstream)
	putUpstream(p, upstream, first, last)
	appendLists(p, upstream[first:last])
	putOwn(p, byNumber(fields, (*flow.Field).Own))
	return b.String()
}

type printf func(format string, args ...any)

// local returns the path of a value in the functions of encoders, which have
// names for the parts of a record.
func (f *field) local() string {
	return strings.NewReplacer("r.Msg.", "m.", "r.Extra.", "x.").Replace(f.path)
}

// jsonNumber returns an expression that reads a number of the default set.
func (f *field) jsonNumber() string {
	switch {
	case strings.HasPrefix(f.derived, "r.Msg."):
		return strings.Replace(f.derived, "r.Msg.", "m.", 1)
	case f.derived != "":
		return fmt.Sprintf("r.Uint(flow.%s)", f.ident)
	case f.typ.Kind() == reflect.Uint64:
		return f.local()
	}
	return "uint64(" + f.local() + ")"
}

// scalar reports whether a field has one value of bounded length in protobuf.
func (f *field) scalar() bool {
	return f.Kind == flow.KindUint || f.Kind == flow.KindMAC || f.Kind == flow.KindString
}

// list reports whether a field has any number of values.
func (f *field) list() bool {
	return f.Kind == flow.KindUints || f.Kind == flow.KindAddrs || f.Kind == flow.KindLayers
}

// lists returns where the lists among goflow2's fields begin and end. They are
// rare, so what is between their numbers is written by a function of its own.
func lists(upstream []field) (first, last int) {
	first = len(upstream)
	for i := range upstream {
		if upstream[i].list() {
			first, last = min(first, i), i+1
		}
	}
	return first, last
}

func putUpstream(p printf, upstream []field, first, last int) {
	var sizes, lengths []string
	for i := range upstream {
		f := &upstream[i]
		if f.typ == bytesType {
			sizes = append(sizes, "len("+f.local()+")")
		}
		if first <= i && i < last {
			lengths = append(lengths, "len("+f.local()+")")
		}
	}
	p(`
// upstreamSize returns how many bytes the values take up that [Protobuf.putUpstream]
// copies.
func upstreamSize(m *protoproducer.ProtoProducerMessage) int {
	return %s
}

// putUpstream writes goflow2's fields, in the order of their numbers. The caller
// has made room for all but the lists.
func (e *Protobuf) putUpstream(b []byte, n int, m *protoproducer.ProtoProducerMessage) ([]byte, int) {
	on := &e.on
`, strings.Join(sizes, " + "))
	for i := range upstream {
		f := &upstream[i]
		switch {
		case i == first:
			p("if %s != 0 {\nb = e.appendLists(b[:n], m)\nn = len(b)\nb = reserve(b, n, e.room)\n}\n", strings.Join(lengths, "|"))
		case first < i && i < last:
		default:
			f.put(p)
		}
	}
	p("return b, n\n}\n")
}

// put writes a field that there is room for.
func (f *field) put(p printf) {
	switch {
	case !f.scalar():
		p("if v := %s; len(v) != 0 && on[flow.%s] {\nn = putBytes(b, n, %d, v)\n}\n", f.local(), f.ident, f.Number)
	case f.typ.Kind() == reflect.Uint64:
		p("if v := %s; v != 0 && on[flow.%s] {\nn = putNumber(b, n, %d, v)\n}\n", f.local(), f.ident, f.Number)
	default:
		p("if v := %s; v != 0 && on[flow.%s] {\nn = putNumber(b, n, %d, uint64(v))\n}\n", f.local(), f.ident, f.Number)
	}
}

func appendLists(p printf, fields []field) {
	p(`
// appendLists appends the lists among goflow2's fields, and what is between them.
func (e *Protobuf) appendLists(b []byte, m *protoproducer.ProtoProducerMessage) []byte {
	on := &e.on
`)
	for i := range fields {
		f := &fields[i]
		switch f.Kind {
		case flow.KindAddr:
			p("if len(%[1]s) != 0 && on[flow.%[2]s] {\nb = protowire.AppendBytes(protowire.AppendTag(b, %[3]d, protowire.BytesType), %[1]s)\n}\n", f.local(), f.ident, f.Number)
		case flow.KindAddrs:
			p("if on[flow.%s] {\nb = appendEach(b, %d, %s)\n}\n", f.ident, f.Number, f.local())
		default:
			p("if on[flow.%s] {\nb = appendPacked(b, %d, %s)\n}\n", f.ident, f.Number, f.local())
		}
	}
	p("return b\n}\n")
}

func putOwn(p printf, fields []field) {
	p(`
// putOwn writes what goflow2's message has no fields for, in the order of the
// numbers. The caller has made room for the numbers.
func (e *Protobuf) putOwn(b []byte, n int, r *flow.Record) ([]byte, int) {
	on, x := &e.on, &r.Extra
`)
	for i := range fields {
		f := &fields[i]
		switch f.Kind {
		case flow.KindBool:
			p("if on[flow.%s] {\nn = putBool(b, n, %d, %s)\n}\n", f.ident, f.Number, f.derived)
		case flow.KindText:
			p("if v := %s; len(v) != 0 && on[flow.%s] {\nb = appendString(protowire.AppendTag(b[:n], %d, protowire.BytesType), v)\nn = len(b)\nb = reserve(b, n, e.room)\n}\n", f.local(), f.ident, f.Number)
		case flow.KindAddr:
			p("if v := %s; len(v) != 0 && on[flow.%s] {\nb = reserve(b, n, e.room+len(v))\nn = putBytes(b, n, %d, v)\n}\n", f.local(), f.ident, f.Number)
		default:
			f.put(p)
		}
	}
	p("return b, n\n}\n")
}
