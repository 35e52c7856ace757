package filter

import (
	"net/netip"
	"slices"

	"github.com/expr-lang/expr/ast"
	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// in compiles left in right, where right is a list, a range, or a field that is a list.
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
		// The rules and the errors are those of ==.
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

// inSet compiles the search for a value among literals.
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

// member compiles the search for a value in a set.
func member[T comparable](value func(*eval) T, values []T) func(*eval) bool {
	const few = 8 // up to so many, a linear search is faster than a map
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

// inRange compiles left in from..to. The range includes both.
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
