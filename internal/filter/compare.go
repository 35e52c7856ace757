package filter

import (
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// equal compiles left == right. Operands of different kinds cannot be compared, but for
// text and addresses.
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

// mismatch returns the error for two operands that cannot be compared.
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

// holds reports whether an operator is true for the result of a comparison, which is
// negative, zero or positive.
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

// compareNumbers compiles the comparison of two numbers. It is exact, also between
// whole numbers and others.
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
