package filter

import (
	"regexp"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// unary compiles an operator with one operand.
func (c *compiler) unary(n *ast.UnaryNode) (*operand, *Error) {
	o, err := c.node(n.Node)
	if err != nil {
		return nil, err
	}
	switch n.Operator {
	case "!", "not":
		if o.kind != kindBool {
			return nil, c.errorf(n, "%s needs a condition, and %s is %s; write %[1]s (...) around a comparison", n.Operator, o, o.kind)
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

// not returns the opposite of b.
func not(b func(*eval) bool) func(*eval) bool { return func(e *eval) bool { return !b(e) } }

// conditional compiles condition ? condition : condition.
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

// binary compiles an operator with two operands.
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
