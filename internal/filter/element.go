package filter

import (
	"net/netip"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// element compiles the name of an element of the user's list. Where a record does not
// carry the element, it is 0 or "".
func (c *compiler) element(source string, index int) *operand {
	typ := c.cfg.Elements[index].Type
	value := func(e *eval) []byte {
		v, _ := e.r.Extra.Element(index)
		return v
	}
	o := &operand{text: source}
	switch typ {
	case flow.ElementUint:
		o.kind = kindNumber
		o.u = func(e *eval) uint64 { return flow.BigEndian(value(e)) }
		o.i = func(e *eval) integer { return integer{mag: o.u(e)} }
	case flow.ElementIPAddr:
		o.kind = kindAddr
		o.a = func(e *eval) netip.Addr {
			a, _ := netip.AddrFromSlice(value(e))
			return a.Unmap()
		}
		o.s = addrText(o.a)
	case flow.ElementMAC:
		o.kind = kindMAC
		o.u = func(e *eval) uint64 { return flow.BigEndian(value(e)) }
		o.s = macText(o.u)
	case flow.ElementHex:
		o.kind = kindText
		o.s = func(e *eval) string {
			e.hex = typ.Append(e.hex[:0], value(e))
			return text(e.hex)
		}
	default:
		o.kind = kindText
		o.s = func(e *eval) string { return text(value(e)) }
	}
	return o
}
