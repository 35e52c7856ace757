package filter

import (
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// eval is what a compiled expression works with: the record, and room for an
// address in letters.
type eval struct {
	r       *flow.Record
	unknown []byte // of a message that came over a pipe
	buf     [64]byte
}

// kind is what values of an operand are.
type kind uint8

const (
	kindBool kind = iota
	kindNumber
	kindText
	kindAddr // an address, which compares with text in any of its spellings
	kindMAC
	kindList // several values, for the right side of in
)

var kindNames = [...]string{"a condition", "a number", "text", "an address", "a MAC address", "a list"}

func (k kind) String() string { return kindNames[k] }

// operand is a part of the expression that has a value.
type operand struct {
	kind kind
	text string // as the user wrote it, in short
	// literal says that the value is the same for all records: integer, float
	// or str.
	literal bool
	field   *flow.Field

	b func(*eval) bool       // kindBool
	u func(*eval) uint64     // a number that is whole and not negative; kindMAC
	i func(*eval) integer    // a number that is whole, also if it has u
	f func(*eval) float64    // a number that may be none of these
	s func(*eval) string     // kindText; kindAddr and kindMAC in letters
	a func(*eval) netip.Addr // kindAddr; the zero Addr if it is not set

	integer integer
	float   float64
	str     string
}

func (o *operand) String() string { return o.text }

// whole says that a number is never a fraction.
func (o *operand) whole() bool { return o.i != nil }

// asFloat returns a number as what / works with.
func (o *operand) asFloat() func(*eval) float64 {
	switch {
	case o.f != nil:
		return o.f
	case o.u != nil:
		u := o.u
		return func(e *eval) float64 { return float64(u(e)) }
	}
	i := o.i
	return func(e *eval) float64 { return i(e).float() }
}

// compiler makes functions out of a syntax tree.
type compiler struct {
	cfg    Config
	names  map[string]name
	source file.Source
	fields []flow.FieldID
	attrs  []flow.AttrRef
	result func(*eval) bool
}

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

// short shows what the user wrote.
func short(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(s)
}

func wholeLiteral(v integer) *operand {
	o := &operand{kind: kindNumber, literal: true, integer: v, float: v.float(), i: func(*eval) integer { return v }}
	o.text = strconv.FormatUint(v.mag, 10)
	if v.neg {
		o.text = "-" + o.text
	} else {
		o.u = func(*eval) uint64 { return v.mag }
	}
	return o
}

func floatLiteral(v float64) *operand {
	return &operand{
		kind: kindNumber, literal: true, float: v, text: strconv.FormatFloat(v, 'g', -1, 64),
		f: func(*eval) float64 { return v },
	}
}

// identifier compiles the name of a field.
func (c *compiler) identifier(n *ast.IdentifierNode) (*operand, *Error) {
	name, ok := c.names[n.Value]
	if !ok {
		err := c.errorf(n, "there is no field %s", n.Value)
		err.Unknown = n.Value
		return nil, err
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
	case flow.KindString:
		o.kind = kindText
		o.s = func(e *eval) string { return e.r.Name(id) }
	default:
		o.kind = kindList
	}
	return o, nil
}

// reads notes that the expression reads a field.
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

// The functions uint, addr and bytes read a field. What goflow2 has no field
// for is among the unknown fields of a message that came over a pipe.

func (c *compiler) uint(f *flow.Field) func(*eval) uint64 {
	switch id := f.ID; id {
	case flow.FieldBytes: // the most usual ones, without going through a table
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

// text shows bytes as a string without a copy. The bytes stay as they are as
// long as the record is looked at, and nothing here keeps the string.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unknown returns the last value that a message has for a field that
// goflow2's message has not, nil if it has none.
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
	case ref.Attr == flow.AttrStatus:
		known = func(e *eval) string { return e.r.Ends[end].Status.String() }
	case ref.Attr == flow.AttrNamespace: // the most usual one, without going through a table
		known = func(e *eval) string {
			if o := e.r.Ends[end].Object; o != nil {
				return o.Namespace
			}
			return ""
		}
	default:
		known = func(e *eval) string {
			if o := e.r.Ends[end].Object; o != nil {
				return o.Attr(ref.Attr)
			}
			return ""
		}
	}
	if c.cfg.Piped {
		known = given(ref, c.number(ref), known)
	}
	return &operand{kind: kindText, text: text, s: known}
}

// number returns which field of a message a generated field is, 0 if it has
// none of its own there.
func (c *compiler) number(ref flow.AttrRef) protowire.Number {
	if ref.End == flow.EndCluster {
		return flow.NumberCluster
	}
	if ref.Attr > flow.AttrStatus {
		return 0
	}
	switch c.cfg.Mapping[ref.End].Snake {
	case "src":
		return flow.NumberGenerated + protowire.Number(ref.Attr)
	case "dst":
		return flow.NumberDst + protowire.Number(ref.Attr)
	}
	return 0
}

// given prefers what a line or message came with.
func given(ref flow.AttrRef, number protowire.Number, known func(*eval) string) func(*eval) string {
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

func addrText(a func(*eval) netip.Addr) func(*eval) string {
	return func(e *eval) string {
		addr := a(e)
		if !addr.IsValid() {
			return ""
		}
		return text(addr.AppendTo(e.buf[:0]))
	}
}

func macText(u func(*eval) uint64) func(*eval) string {
	return func(e *eval) string {
		mac := u(e)
		if mac == 0 {
			return ""
		}
		const digits = "0123456789abcdef"
		for i := range 6 {
			c := byte(mac >> (40 - 8*i))
			e.buf[3*i], e.buf[3*i+1], e.buf[3*i+2] = digits[c>>4], digits[c&15], ':'
		}
		return text(e.buf[:17])
	}
}

func (c *compiler) unary(n *ast.UnaryNode) (*operand, *Error) {
	o, err := c.node(n.Node)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "!", "not":
		if o.kind != kindBool {
			return nil, c.errorf(n, "%s needs a condition, and %s is %s", n.Operator, o, o.kind)
		}
		return &operand{kind: kindBool, text: "not ...", b: not(o.b)}, nil
	case "-", "+":
		if o.kind != kindNumber {
			return nil, c.errorf(n, "%s needs a number, and %s is %s", n.Operator, o, o.kind)
		}
		switch {
		case n.Operator == "+":
			return o, nil
		case o.literal && o.whole():
			return wholeLiteral(o.integer.negated()), nil
		case o.literal:
			return floatLiteral(-o.float), nil
		case o.whole():
			i := o.i
			return &operand{kind: kindNumber, text: "-" + o.text, i: func(e *eval) integer { return i(e).negated() }}, nil
		}
		f := o.f
		return &operand{kind: kindNumber, text: "-" + o.text, f: func(e *eval) float64 { return -f(e) }}, nil
	}
	return nil, c.errorf(n, "the operator %s is not part of the language of filters", n.Operator)
}

func not(b func(*eval) bool) func(*eval) bool { return func(e *eval) bool { return !b(e) } }

func (c *compiler) conditional(n *ast.ConditionalNode) (*operand, *Error) {
	var parts [3]*operand
	for i, p := range []ast.Node{n.Cond, n.Exp1, n.Exp2} {
		o, err := c.node(p)
		if err != nil {
			return nil, err
		}
		if o.kind != kindBool {
			return nil, c.errorf(p, "? : needs three conditions, and %s is %s", o, o.kind)
		}
		parts[i] = o
	}
	cond, yes, no := parts[0].b, parts[1].b, parts[2].b
	return &operand{kind: kindBool, text: "... ? ... : ...", b: func(e *eval) bool {
		if cond(e) {
			return yes(e)
		}
		return no(e)
	}}, nil
}

func (c *compiler) binary(n *ast.BinaryNode) (*operand, *Error) {
	if n.Operator == "in" {
		return c.in(n)
	}
	left, err := c.node(n.Left)
	if err != nil {
		return nil, err
	}
	if n.Operator == ".." {
		return nil, c.errorf(n, "a range can only be on the right of in")
	}
	right, err := c.node(n.Right)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "&&", "and", "||", "or":
		for _, o := range []*operand{left, right} {
			if o.kind != kindBool {
				return nil, c.errorf(n, "%s needs conditions on both sides, and %s is %s", n.Operator, o, o.kind)
			}
		}
		l, r := left.b, right.b
		both := &operand{kind: kindBool, text: "... " + n.Operator + " ...", b: func(e *eval) bool { return l(e) && r(e) }}
		if n.Operator == "||" || n.Operator == "or" {
			both.b = func(e *eval) bool { return l(e) || r(e) }
		}
		return both, nil
	case "==", "!=":
		b, err := c.equal(n, left, right)
		if err != nil {
			return nil, err
		}
		if n.Operator == "!=" {
			b = not(b)
		}
		return &operand{kind: kindBool, text: "... " + n.Operator + " ...", b: b}, nil
	case "<", "<=", ">", ">=":
		return c.ordered(n, left, right)
	case "+", "-", "*", "/", "%":
		return c.arithmetic(n, left, right)
	case "contains", "startsWith", "endsWith", "matches":
		return c.textual(n, left, right)
	}
	return nil, c.errorf(n, "the operator %s is not part of the language of filters", n.Operator)
}

// equal compiles left == right.
func (c *compiler) equal(n ast.Node, left, right *operand) (func(*eval) bool, *Error) {
	if left.literal && !right.literal {
		left, right = right, left
	}
	switch {
	case left.kind == kindBool && right.kind == kindBool:
		l, r := left.b, right.b
		return func(e *eval) bool { return l(e) == r(e) }, nil
	case left.kind == kindNumber && right.kind == kindNumber:
		return compareNumbers("==", left, right), nil
	case left.kind == kindText && right.kind == kindText:
		l, r := left.s, right.s
		if right.literal {
			v := right.str
			return func(e *eval) bool { return l(e) == v }, nil
		}
		return func(e *eval) bool { return l(e) == r(e) }, nil
	case left.kind == kindAddr && right.kind == kindAddr:
		l, r := left.a, right.a
		return func(e *eval) bool { return l(e) == r(e) }, nil
	case left.kind == kindAddr && right.literal && right.kind == kindText:
		want, err := c.address(n, left, right.str)
		if err != nil {
			return nil, err
		}
		l := left.a
		return func(e *eval) bool { return l(e) == want }, nil
	case left.kind == kindMAC && right.kind == kindMAC:
		l, r := left.u, right.u
		return func(e *eval) bool { return l(e) == r(e) }, nil
	case left.kind == kindMAC && right.literal && right.kind == kindText:
		want, err := c.mac(n, right.str)
		if err != nil {
			return nil, err
		}
		l := left.u
		return func(e *eval) bool { return l(e) == want }, nil
	case (left.kind == kindAddr || left.kind == kindMAC) && right.kind == kindText,
		(right.kind == kindAddr || right.kind == kindMAC) && left.kind == kindText:
		l, r := left.s, right.s
		return func(e *eval) bool { return l(e) == r(e) }, nil
	}
	return nil, c.mismatch(n, left, right)
}

// mismatch says that two operands cannot be compared.
func (c *compiler) mismatch(n ast.Node, left, right *operand) *Error {
	advice := ""
	for _, o := range []*operand{left, right} {
		if o.field == nil || left.kind != kindText && right.kind != kindText {
			continue
		}
		switch o.field.ID {
		case flow.FieldProto:
			advice = "; ProtoName is text"
		case flow.FieldEtype:
			advice = "; EtypeName is text"
		case flow.FieldIcmpType:
			advice = "; IcmpName is text"
		}
	}
	return c.errorf(n, "%s is %s and %s is %s: they cannot be compared%s", left, left.kind, right, right.kind, advice)
}

// address reads an address that a field is compared with. It is the zero Addr
// for "": the field is not set.
func (c *compiler) address(n ast.Node, field *operand, s string) (netip.Addr, *Error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() == "" {
		return a.Unmap(), nil
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return a, c.errorf(n, "%s is a network; write cidr(%s, %q)", short(s), field, s)
	}
	return a, c.errorf(n, "%s is no IP address, which %s is", short(s), field)
}

func (c *compiler) mac(n ast.Node, s string) (uint64, *Error) {
	if s == "" {
		return 0, nil
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return 0, c.errorf(n, "%s is no MAC address, such as 0a:58:0a:f4:00:05", short(s))
	}
	var mac uint64
	for _, b := range hw {
		mac = mac<<8 | uint64(b)
	}
	return mac, nil
}

// ordered compiles <, <=, > and >=.
func (c *compiler) ordered(n *ast.BinaryNode, left, right *operand) (*operand, *Error) {
	o := &operand{kind: kindBool, text: "... " + n.Operator + " ..."}
	switch {
	case left.kind == kindNumber && right.kind == kindNumber:
		o.b = compareNumbers(n.Operator, left, right)
	case left.kind == kindText && right.kind == kindText:
		l, r, op := left.s, right.s, n.Operator
		o.b = func(e *eval) bool { return holds(op, strings.Compare(l(e), r(e))) }
	case left.kind == right.kind || left.kind == kindText || right.kind == kindText:
		return nil, c.errorf(n, "%s needs numbers or text on both sides; %s is %s and %s is %s", n.Operator, left, left.kind, right, right.kind)
	default:
		return nil, c.mismatch(n, left, right)
	}
	return o, nil
}

// holds says whether an operator holds for what a comparison gave.
func holds(op string, c int) bool {
	switch op {
	case "==":
		return c == 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// compareNumbers compiles a comparison, which is exact.
func compareNumbers(op string, left, right *operand) func(*eval) bool {
	if left.literal && !right.literal {
		mirrored := map[string]string{"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
		return compareNumbers(mirrored[op], right, left)
	}
	switch {
	case left.u != nil && right.literal && right.whole() && !right.integer.neg:
		l, v := left.u, right.integer.mag
		switch op {
		case "==":
			return func(e *eval) bool { return l(e) == v }
		case "<":
			return func(e *eval) bool { return l(e) < v }
		case "<=":
			return func(e *eval) bool { return l(e) <= v }
		case ">":
			return func(e *eval) bool { return l(e) > v }
		}
		return func(e *eval) bool { return l(e) >= v }
	case left.whole() && right.whole():
		l, r := left.i, right.i
		return func(e *eval) bool { return holds(op, l(e).compare(r(e))) }
	case left.whole():
		l, r := left.i, right.f
		return func(e *eval) bool {
			c, ok := l(e).compareFloat(r(e))
			return ok && holds(op, c)
		}
	case right.whole():
		l, r := left.f, right.i
		return func(e *eval) bool {
			c, ok := r(e).compareFloat(l(e))
			return ok && holds(op, -c)
		}
	}
	l, r := left.f, right.f
	switch op {
	case "==":
		return func(e *eval) bool { return l(e) == r(e) }
	case "<":
		return func(e *eval) bool { return l(e) < r(e) }
	case "<=":
		return func(e *eval) bool { return l(e) <= r(e) }
	case ">":
		return func(e *eval) bool { return l(e) > r(e) }
	}
	return func(e *eval) bool { return l(e) >= r(e) }
}

// arithmetic compiles + - * / and %. Whole numbers stay whole, but for /.
func (c *compiler) arithmetic(n *ast.BinaryNode, left, right *operand) (*operand, *Error) {
	for _, o := range []*operand{left, right} {
		if o.kind != kindNumber {
			return nil, c.errorf(n, "%s needs numbers on both sides, and %s is %s", n.Operator, o, o.kind)
		}
	}
	o := &operand{kind: kindNumber, text: left.text + " " + n.Operator + " " + right.text}
	if r := []rune(o.text); len(r) > 40 {
		o.text = string(r[:40]) + "..."
	}
	switch {
	case n.Operator == "%":
		if !left.whole() || !right.whole() {
			return nil, c.errorf(n, "%% needs whole numbers on both sides")
		}
		if !right.literal || right.integer.mag == 0 {
			return nil, c.errorf(n, "%% needs a number other than 0 on its right, and %s is not", right)
		}
		l, v := left.i, right.integer
		o.i = func(e *eval) integer { return l(e).mod(v) }
		if u := left.u; u != nil {
			o.u = func(e *eval) uint64 { return u(e) % v.mag }
		}
	case n.Operator == "/":
		l, r := left.asFloat(), right.asFloat()
		o.f = func(e *eval) float64 { return l(e) / r(e) }
	case left.whole() && right.whole():
		l, r := left.i, right.i
		switch n.Operator {
		case "+":
			o.i = func(e *eval) integer { return l(e).add(r(e)) }
		case "-":
			o.i = func(e *eval) integer { return l(e).sub(r(e)) }
		case "*":
			o.i = func(e *eval) integer { return l(e).mul(r(e)) }
		}
	default:
		l, r := left.asFloat(), right.asFloat()
		switch n.Operator {
		case "+":
			o.f = func(e *eval) float64 { return l(e) + r(e) }
		case "-":
			o.f = func(e *eval) float64 { return l(e) - r(e) }
		case "*":
			o.f = func(e *eval) float64 { return l(e) * r(e) }
		}
	}
	if left.literal && right.literal {
		if o.whole() {
			return wholeLiteral(o.i(nil)), nil
		}
		v := o.f(nil)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, c.errorf(n, "%s is no number", o)
		}
		return floatLiteral(v), nil
	}
	return o, nil
}

// textual compiles contains, startsWith, endsWith and matches.
func (c *compiler) textual(n *ast.BinaryNode, left, right *operand) (*operand, *Error) {
	if left.s == nil {
		return nil, c.errorf(n, "%s needs text on its left, and %s is %s", n.Operator, left, left.kind)
	}
	if right.kind != kindText {
		return nil, c.errorf(n, "%s needs text on its right, and %s is %s", n.Operator, right, right.kind)
	}
	o := &operand{kind: kindBool, text: "... " + n.Operator + " ..."}
	l, r := left.s, right.s
	switch n.Operator {
	case "contains":
		o.b = func(e *eval) bool { return strings.Contains(l(e), r(e)) }
	case "startsWith":
		o.b = func(e *eval) bool { return strings.HasPrefix(l(e), r(e)) }
	case "endsWith":
		o.b = func(e *eval) bool { return strings.HasSuffix(l(e), r(e)) }
	case "matches":
		if !right.literal {
			return nil, c.errorf(n.Right, "matches needs a regular expression in quotes on its right, and %s is a field", right)
		}
		re, err := regexp.Compile(right.str)
		if err != nil {
			return nil, c.errorf(n.Right, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		o.b = func(e *eval) bool { return re.MatchString(l(e)) }
	}
	return o, nil
}

// in compiles left in right.
func (c *compiler) in(n *ast.BinaryNode) (*operand, *Error) {
	left, err := c.node(n.Left)
	if err != nil {
		return nil, err
	}
	o := &operand{kind: kindBool, text: "... in ..."}
	switch right := n.Right.(type) {
	case *ast.ArrayNode:
		o.b, err = c.inList(n, left, right)
	case *ast.BinaryNode:
		if right.Operator != ".." {
			return nil, c.errorf(n.Right, "in needs a list or a range on its right")
		}
		o.b, err = c.inRange(left, right)
	case *ast.IdentifierNode:
		var list *operand
		if list, err = c.node(right); err != nil {
			return nil, err
		}
		o.b, err = c.inField(n, left, list)
	default:
		return nil, c.errorf(n.Right, `in needs a list or a range on its right, such as ["a", "b"] or 1..1023`)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// inList compiles left in [...].
func (c *compiler) inList(n *ast.BinaryNode, left *operand, list *ast.ArrayNode) (func(*eval) bool, *Error) {
	elements := make([]*operand, len(list.Nodes))
	literals := true
	var equals []func(*eval) bool
	for i, node := range list.Nodes {
		o, err := c.node(node)
		if err != nil {
			return nil, err
		}
		// The same rules, and the same complaints, as for ==.
		equal, err := c.equal(node, left, o)
		if err != nil {
			return nil, err
		}
		elements[i] = o
		equals = append(equals, equal)
		literals = literals && o.literal && (o.kind != kindNumber || o.whole())
	}
	switch {
	case literals && !left.literal && len(elements) > 0:
		return c.inSet(n, left, elements)
	case len(equals) == 1:
		return equals[0], nil
	}
	return func(e *eval) bool {
		for _, b := range equals {
			if b(e) {
				return true
			}
		}
		return false
	}, nil
}

// inSet compiles a search for one of many values that don't change.
func (c *compiler) inSet(n ast.Node, left *operand, elements []*operand) (func(*eval) bool, *Error) {
	switch left.kind {
	case kindNumber:
		if left.u == nil {
			break
		}
		var values []uint64
		for _, o := range elements {
			if !o.integer.neg {
				values = append(values, o.integer.mag)
			}
		}
		return member(left.u, values), nil
	case kindText:
		var values []string
		for _, o := range elements {
			values = append(values, o.str)
		}
		return member(left.s, values), nil
	case kindAddr:
		var values []netip.Addr
		for _, o := range elements {
			a, err := c.address(n, left, o.str)
			if err != nil {
				return nil, err
			}
			values = append(values, a)
		}
		return member(left.a, values), nil
	case kindMAC:
		var values []uint64
		for _, o := range elements {
			mac, err := c.mac(n, o.str)
			if err != nil {
				return nil, err
			}
			values = append(values, mac)
		}
		return member(left.u, values), nil
	}
	var equals []func(*eval) bool
	for _, o := range elements {
		b, err := c.equal(n, left, o)
		if err != nil {
			return nil, err
		}
		equals = append(equals, b)
	}
	return func(e *eval) bool { return slices.ContainsFunc(equals, func(b func(*eval) bool) bool { return b(e) }) }, nil
}

// member says whether a value is one of several.
func member[T comparable](value func(*eval) T, values []T) func(*eval) bool {
	const few = 8 // up to which a search beats a table
	if len(values) <= few {
		return func(e *eval) bool { return slices.Contains(values, value(e)) }
	}
	set := make(map[T]struct{}, len(values))
	for _, v := range values {
		set[v] = struct{}{}
	}
	return func(e *eval) bool {
		_, ok := set[value(e)]
		return ok
	}
}

// inRange compiles left in from..to, both included.
func (c *compiler) inRange(left *operand, n *ast.BinaryNode) (func(*eval) bool, *Error) {
	if left.kind != kindNumber {
		return nil, c.errorf(n, "a range is of numbers, and %s is %s", left, left.kind)
	}
	var ends [2]*operand
	for i, node := range []ast.Node{n.Left, n.Right} {
		o, err := c.node(node)
		if err != nil {
			return nil, err
		}
		if o.kind != kindNumber || !o.whole() || !o.literal {
			return nil, c.errorf(node, "a range needs whole numbers, such as 1..1023")
		}
		ends[i] = o
	}
	from, to := ends[0].integer, ends[1].integer
	if from.compare(to) > 0 {
		return nil, c.errorf(n, "nothing is in %s..%s; write the smaller number first", ends[0], ends[1])
	}
	switch {
	case left.u != nil && !from.neg:
		u, from, to := left.u, from.mag, to.mag
		return func(e *eval) bool {
			v := u(e)
			return from <= v && v <= to
		}, nil
	case left.whole():
		i := left.i
		return func(e *eval) bool {
			v := i(e)
			return from.compare(v) <= 0 && v.compare(to) <= 0
		}, nil
	}
	f, low, high := left.f, ends[0].float, ends[1].float
	return func(e *eval) bool {
		v := f(e)
		return low <= v && v <= high
	}, nil
}

// inField compiles left in a field that is a list.
func (c *compiler) inField(n *ast.BinaryNode, left, list *operand) (func(*eval) bool, *Error) {
	if list.kind != kindList {
		return nil, c.errorf(n.Right, `in needs a list or a range on its right, such as ["a", "b"] or 1..1023, and %s is %s`, list, list.kind)
	}
	id := list.field.ID
	switch list.field.Kind {
	case flow.KindUints:
		if left.u == nil || left.kind != kindNumber {
			return nil, c.errorf(n, "%s has numbers that are whole and not negative, and %s is none", list, left)
		}
		u := left.u
		return func(e *eval) bool {
			v := u(e)
			for _, x := range e.r.Uints(id) {
				if uint64(x) == v {
					return true
				}
			}
			return false
		}, nil
	case flow.KindAddrs:
		want, err := c.addressOf(n, left, list)
		if err != nil {
			return nil, err
		}
		return func(e *eval) bool {
			v := want(e)
			for _, x := range e.r.Addrs(id) {
				if a, ok := netip.AddrFromSlice(x); ok && a.Unmap() == v {
					return true
				}
			}
			return false
		}, nil
	}
	if !left.literal || left.kind != kindText {
		return nil, c.errorf(n, "%s has names of layers; write one of them in quotes on the left of in", list)
	}
	layer, ok := flowpb.FlowMessage_LayerStack_value[left.str]
	if !ok {
		return nil, c.errorf(n, "%s is no name of a layer, such as Ethernet, IPv4 or TCP", left)
	}
	return func(e *eval) bool {
		return slices.Contains(e.r.Msg.LayerStack, flowpb.FlowMessage_LayerStack(layer))
	}, nil
}

// addressOf returns the address that an operand is.
func (c *compiler) addressOf(n ast.Node, o, field *operand) (func(*eval) netip.Addr, *Error) {
	switch {
	case o.kind == kindAddr:
		return o.a, nil
	case o.literal && o.kind == kindText && o.str != "":
		a, err := c.address(n, field, o.str)
		if err != nil {
			return nil, err
		}
		return func(*eval) netip.Addr { return a }, nil
	}
	return nil, c.errorf(n, "%s has addresses, and %s is %s", field, o, o.kind)
}

// call compiles the functions.
func (c *compiler) call(n ast.Node, name string, args []ast.Node) (*operand, *Error) {
	switch name {
	case "cidr":
		return c.cidr(n, args)
	case "bitand":
		return c.bitand(n, args)
	}
	return nil, c.errorf(n, "there is no function %s; there are cidr(SrcAddr, \"10.0.0.0/8\") and bitand(TCPFlags, 2)", name)
}

// cidr compiles cidr(address, network, ...), which says whether the address is
// in one of the networks.
func (c *compiler) cidr(n ast.Node, args []ast.Node) (*operand, *Error) {
	if len(args) < 2 {
		return nil, c.errorf(n, `cidr needs an address and networks, such as cidr(SrcAddr, "10.0.0.0/8")`)
	}
	of, err := c.node(args[0])
	if err != nil {
		return nil, err
	}
	if of.kind != kindAddr {
		return nil, c.errorf(args[0], "cidr needs an address first, and %s is %s", of, of.kind)
	}
	args = args[1:]
	if list, ok := args[0].(*ast.ArrayNode); ok && len(args) == 1 {
		args = list.Nodes
	}
	var networks []netip.Prefix
	for _, arg := range args {
		s, ok := arg.(*ast.StringNode)
		if !ok {
			return nil, c.errorf(arg, `cidr needs networks in quotes, such as "10.0.0.0/8"`)
		}
		p, perr := netip.ParsePrefix(s.Value)
		if perr == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		switch {
		case perr != nil:
			return nil, c.errorf(arg, "%s is no network, such as 10.0.0.0/8 or fd00::/8", short(s.Value))
		case p != p.Masked():
			return nil, c.errorf(arg, "%s is no network; that would be %s", short(s.Value), p.Masked())
		}
		networks = append(networks, p)
	}
	a := of.a
	o := &operand{kind: kindBool, text: "cidr(...)"}
	if len(networks) == 1 {
		p := networks[0]
		o.b = func(e *eval) bool { return p.Contains(a(e)) }
		return o, nil
	}
	o.b = func(e *eval) bool {
		addr := a(e)
		for _, p := range networks {
			if p.Contains(addr) {
				return true
			}
		}
		return false
	}
	return o, nil
}

// bitand compiles bitand(number, number), for flags.
func (c *compiler) bitand(n ast.Node, args []ast.Node) (*operand, *Error) {
	if len(args) != 2 {
		return nil, c.errorf(n, "bitand needs two numbers, such as bitand(TCPFlags, 2) != 0")
	}
	var u [2]func(*eval) uint64
	for i, arg := range args {
		o, err := c.node(arg)
		if err != nil {
			return nil, err
		}
		if o.kind != kindNumber || o.u == nil {
			return nil, c.errorf(arg, "bitand needs numbers that are whole and not negative, and %s is none", o)
		}
		u[i] = o.u
	}
	l, r := u[0], u[1]
	o := &operand{kind: kindNumber, text: "bitand(...)", u: func(e *eval) uint64 { return l(e) & r(e) }}
	o.i = func(e *eval) integer { return integer{mag: o.u(e)} }
	return o, nil
}
