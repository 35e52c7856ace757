package filter

import (
	"net/netip"
	"slices"
	"strconv"
	"unsafe"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// compiler makes functions out of a syntax tree. Its methods check the types of all
// parts, so that the functions cannot fail.
type compiler struct {
	cfg    Config
	names  map[string]name
	source file.Source // of the expression, for the places of errors

	fields []flow.FieldID // that the expression reads
	attrs  []flow.AttrRef // that the expression reads
	result func(*eval) bool
}

// node compiles a part of the expression.
func (c *compiler) node(n ast.Node) (*operand, *Error) {
	switch n := n.(type) {
	case *ast.BoolNode:
		v := n.Value
		return &operand{kind: kindBool, text: strconv.FormatBool(v), b: func(*eval) bool { return v }}, nil
	case *ast.IntegerNode:
		return wholeLiteral(signed(n.Value)), nil
	case *ast.FloatNode:
		return floatLiteral(n.Value), nil
	case *ast.StringNode:
		return &operand{
			kind: kindText, text: short(n.Value), literal: true, str: n.Value,
			s: func(*eval) string { return n.Value },
		}, nil
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(n, callee.Value, n.Arguments)
		}
	case *ast.BuiltinNode:
		return c.call(n, n.Name, n.Arguments)
	case *ast.ArrayNode:
		return nil, c.errorf(n, "a list can only be on the right of in")
	}
	return nil, c.errorf(n, "%s is not part of the language of filters", short(n.String()))
}

// short quotes what the user wrote, and cuts it if it is long.
func short(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(s)
}

// identifier compiles the name of a field.
func (c *compiler) identifier(n *ast.IdentifierNode) (*operand, *Error) {
	name, ok := c.names[n.Value]
	if !ok {
		err := c.errorf(n, "there is no field %s", n.Value)
		err.Unknown = n.Value
		return nil, err
	}
	if name.element > 0 {
		return c.element(n.Value, name.element-1), nil
	}
	if name.field == nil {
		return c.generated(n.Value, name.attr), nil
	}
	f := name.field
	c.reads(f.ID)
	o := &operand{text: n.Value, field: f}
	id := f.ID
	switch f.Kind {
	case flow.KindUint:
		o.kind = kindNumber
		o.u = c.uint(f)
		u := o.u
		o.i = func(e *eval) integer { return integer{mag: u(e)} }
	case flow.KindMAC:
		o.kind = kindMAC
		o.u = func(e *eval) uint64 { return e.r.Uint(id) & (1<<48 - 1) }
		o.s = macText(o.u)
	case flow.KindAddr:
		o.kind = kindAddr
		o.a = c.addr(f)
		o.s = addrText(o.a)
	case flow.KindText:
		o.kind = kindText
		o.s = c.bytes(f)
	case flow.KindBool:
		o.kind = kindBool
		o.b = c.bool(f)
	case flow.KindString:
		o.kind = kindText
		o.s = func(e *eval) string { return e.r.Name(id) }
	default:
		o.kind = kindList
	}
	return o, nil
}

// reads adds a field to those that the expression reads, and the fields from which it
// is derived.
func (c *compiler) reads(id flow.FieldID) {
	if slices.Contains(c.fields, id) {
		return
	}
	c.fields = append(c.fields, id)
	switch id {
	case flow.FieldEtypeName:
		c.reads(flow.FieldEtype)
	case flow.FieldProtoName:
		c.reads(flow.FieldProto)
		c.reads(flow.FieldEtype)
	case flow.FieldIcmpName:
		c.reads(flow.FieldProto)
		c.reads(flow.FieldIcmpType)
		c.reads(flow.FieldIcmpCode)
		c.reads(flow.FieldType)
	}
}

// uint returns a function that reads a field. A message that came over a pipe has the
// fields that goflow2's message does not have among its unknown fields. This is also
// true for addr and bytes.
func (c *compiler) uint(f *flow.Field) func(*eval) uint64 {
	switch id := f.ID; id {
	case flow.FieldBytes: // the most common ones are read without the switch of Record.Uint
		return func(e *eval) uint64 { return e.r.Msg.Bytes }
	case flow.FieldPackets:
		return func(e *eval) uint64 { return e.r.Msg.Packets }
	case flow.FieldProto:
		return func(e *eval) uint64 { return uint64(e.r.Msg.Proto) }
	case flow.FieldSrcPort:
		return func(e *eval) uint64 { return uint64(e.r.Msg.SrcPort) }
	case flow.FieldDstPort:
		return func(e *eval) uint64 { return uint64(e.r.Msg.DstPort) }
	default:
		if number := protowire.Number(f.Number); c.cfg.Piped && f.Number >= flow.NumberOwn {
			return func(e *eval) uint64 {
				if v := unknown(e.unknown, number, protowire.VarintType); v != nil {
					u, _ := protowire.ConsumeVarint(v)
					return u
				}
				return e.r.Uint(id)
			}
		}
		return func(e *eval) uint64 { return e.r.Uint(id) }
	}
}

// bool returns a function that reads a field that is true or false.
func (c *compiler) bool(f *flow.Field) func(*eval) bool {
	id := f.ID
	return func(e *eval) bool { return e.r.Bool(id) }
}

// addr returns a function that reads an address.
func (c *compiler) addr(f *flow.Field) func(*eval) netip.Addr {
	id := f.ID
	if number := protowire.Number(f.Number); c.cfg.Piped && f.Number >= flow.NumberOwn {
		return func(e *eval) netip.Addr {
			if v := unknown(e.unknown, number, protowire.BytesType); v != nil {
				a, _ := netip.AddrFromSlice(v)
				return a.Unmap()
			}
			a, _ := e.r.Addr(id)
			return a
		}
	}
	return func(e *eval) netip.Addr {
		a, _ := e.r.Addr(id)
		return a
	}
}

// bytes returns a function that reads a text. The string is valid as long as the record.
func (c *compiler) bytes(f *flow.Field) func(*eval) string {
	id, number := f.ID, protowire.Number(f.Number)
	if c.cfg.Piped {
		return func(e *eval) string {
			if v := unknown(e.unknown, number, protowire.BytesType); v != nil {
				return text(v)
			}
			return text(e.r.Bytes(id))
		}
	}
	return func(e *eval) string { return text(e.r.Bytes(id)) }
}

// text returns bytes as a string, without a copy. The bytes do not change while the
// record is evaluated, and nothing here keeps the string longer.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unknown returns the last value of a field among the unknown fields of a message, or
// nil if there is none. It is a part of b.
func unknown(b []byte, want protowire.Number, as protowire.Type) (value []byte) {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return value
		}
		m := protowire.ConsumeFieldValue(number, wire, b[n:])
		if m < 0 {
			return value
		}
		if number == want && wire == as {
			value = b[n : n+m : n+m]
			if wire == protowire.BytesType {
				value, _ = protowire.ConsumeBytes(value)
			}
		}
		b = b[n+m:]
	}
	return value
}

// generated compiles the name of a generated field.
func (c *compiler) generated(text string, ref flow.AttrRef) *operand {
	if !slices.Contains(c.attrs, ref) {
		c.attrs = append(c.attrs, ref)
	}
	var known func(*eval) string
	end := ref.End
	switch {
	case ref.End == flow.EndCluster:
		cluster := c.cfg.Cluster
		known = func(*eval) string { return cluster }
	default:
		known = func(e *eval) string { return e.r.Ends[end].Attr(ref.Attr) }
	}
	if c.cfg.Piped {
		known = preferReceived(ref, c.fieldNumber(ref), known)
	}
	return &operand{kind: kindText, text: text, s: known}
}

// fieldNumber returns the number of the field of goflow2's message that a generated
// field is written to, or 0 if it has none of its own.
func (c *compiler) fieldNumber(ref flow.AttrRef) protowire.Number {
	if ref.End == flow.EndCluster {
		return flow.NumberCluster
	}
	n, ok := flow.AttrNumber(ref.Attr)
	if !ok || ref.Attr >= flow.AttrLabel {
		return 0
	}
	switch c.cfg.Mapping[ref.End].Snake {
	case "src":
		return flow.NumberGenerated + protowire.Number(n)
	case "dst":
		return flow.NumberDst + protowire.Number(n)
	}
	return 0
}

// preferReceived returns a function that reads a generated field from the line or the
// message that came in. If it is not there, the function calls known.
func preferReceived(ref flow.AttrRef, number protowire.Number, known func(*eval) string) func(*eval) string {
	return func(e *eval) string {
		if e.r.Line != nil {
			for i := range e.r.Line.Attrs {
				if a := &e.r.Line.Attrs[i]; a.Ref == ref {
					return text(a.Text)
				}
			}
		}
		if len(e.unknown) > 0 && number != 0 {
			if v := unknown(e.unknown, number, protowire.BytesType); v != nil {
				return text(v)
			}
		}
		return known(e)
	}
}

// call compiles the call of a function.
func (c *compiler) call(n ast.Node, name string, args []ast.Node) (*operand, *Error) {
	switch name {
	case "cidr":
		return c.cidr(n, args)
	case "bitand":
		return c.bitand(n, args)
	}
	return nil, c.errorf(n, "there is no function %s; there are cidr(SrcAddr, \"10.0.0.0/8\") and bitand(TCPFlags, 2)", name)
}
