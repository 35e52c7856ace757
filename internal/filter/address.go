package filter

import (
	"net/netip"

	"github.com/expr-lang/expr/ast"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// address parses an address that a field is compared with. It returns the zero Addr
// for "", which equals a field that is not set.
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

// mac parses a MAC address. It returns 0 for "", as address does.
func (c *compiler) mac(n ast.Node, s string) (uint64, *Error) {
	if s == "" {
		return 0, nil
	}
	mac, ok := flow.ParseMAC(s)
	if !ok {
		return 0, c.errorf(n, "%s is no MAC address, such as 0a:58:0a:f4:00:05", short(s))
	}
	return mac, nil
}

// addressOf returns a function that reads an operand as an address. The field is the
// one that it is searched in, for errors.
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

// cidr compiles cidr(address, network, ...), which reports whether the address is in
// one of the networks.
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

// addrText returns a function that writes an address into eval.buf. It returns "" for
// the zero Addr.
func addrText(a func(*eval) netip.Addr) func(*eval) string {
	return func(e *eval) string {
		addr := a(e)
		if !addr.IsValid() {
			return ""
		}
		return text(addr.AppendTo(e.buf[:0]))
	}
}

// macText returns a function that writes a MAC address into eval.buf. It returns "" for
// 0.
func macText(u func(*eval) uint64) func(*eval) string {
	return func(e *eval) string {
		mac := u(e)
		if mac == 0 {
			return ""
		}
		return text(flow.AppendMAC(e.buf[:0], mac))
	}
}
