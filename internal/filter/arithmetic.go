package filter

import (
	"math"

	"github.com/expr-lang/expr/ast"
)

// arithmetic compiles + - * / and %. The result of whole numbers is whole, but for /.
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
