package collector

import (
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Exporters that use one template for both families send the addresses, next hops and
// prefix lengths of both, and zeros in those of the family that the flow is not of.
// Others send two elements for one value, such as the MAC address of the packet as it
// came and as it left, and one of them is 0. goflow2 lets the last one win.
//
// A choice lets the right one win: a zero never replaces a value, and of two values or
// two zeros that of the flow's family stays.

// family is the IP version of a flow or of an element, 0 if it has none.
type family uint8

const (
	ipv4 family = 4
	ipv6 family = 6
)

// etype returns the EtherType of a family, 0 for none.
func (f family) etype() uint32 {
	switch f {
	case ipv4:
		return flow.EtypeIPv4
	case ipv6:
		return flow.EtypeIPv6
	}
	return 0
}

// target is what goflow2 makes of one of several elements.
type target uint8

const (
	noTarget target = iota
	targetSrcAddr
	targetDstAddr
	targetNextHop
	targetBgpNextHop
	targetSrcNet
	targetDstNet
	targetMplsIP
	targetSrcMac
	targetDstMac
	targetStart
	targetEnd
	numTargets
)

// targetOf returns what goflow2 makes of an IANA element that is one of several for
// it, and the family that the element is of.
func targetOf(version, id uint16) (target, family) {
	switch id {
	case ieSourceIPv4Address:
		return targetSrcAddr, ipv4
	case ieSourceIPv6Address:
		return targetSrcAddr, ipv6
	case ieDestinationIPv4Address:
		return targetDstAddr, ipv4
	case ieDestinationIPv6Address:
		return targetDstAddr, ipv6
	case ieIPNextHopIPv4Address:
		return targetNextHop, ipv4
	case ieIPNextHopIPv6Address:
		return targetNextHop, ipv6
	case ieBGPNextHopIPv4Address:
		return targetBgpNextHop, ipv4
	case ieBGPNextHopIPv6Address:
		return targetBgpNextHop, ipv6
	case ieSourceIPv4PrefixLength:
		return targetSrcNet, ipv4
	case ieSourceIPv6PrefixLength:
		return targetSrcNet, ipv6
	case ieDestinationIPv4PrefixLen:
		return targetDstNet, ipv4
	case ieDestinationIPv6PrefixLen:
		return targetDstNet, ipv6
	case ieMPLSTopLabelIPv4Address:
		return targetMplsIP, ipv4
	case ieMPLSTopLabelIPv6Address:
		return targetMplsIP, ipv6
	case ieSourceMacAddress, iePostSourceMacAddress:
		return targetSrcMac, 0
	case ieDestinationMacAddress, iePostDestinationMacAddress:
		return targetDstMac, 0
	}
	switch start, end := goflow2Time(version, id); {
	case start:
		return targetStart, 0
	case end:
		return targetEnd, 0
	}
	return noTarget, 0
}

// choice is a target that a template has several elements for. For each record, one
// of them is left to goflow2.
type choice []candidate

type candidate struct {
	field  uint16 // in direction.fields
	index  uint16 // in the template
	family family
	// outer reports whether the field is of the outer header if the record is of a
	// packet in a tunnel.
	outer bool
	value any // of the field, boxed; nil if it is made for each record
}

// addCandidate notes that goflow2 reads an element into a target. The field is the
// last one of the direction.
func (c *compiler) addCandidate(el element, isVariable bool) {
	to, f := targetOf(c.version, el.ID)
	repeated := c.rd.canonical(el.index) != el.index
	if to == noTarget && !repeated {
		return
	}
	field := len(c.direction.fields) - 1
	o := candidate{field: uint16(field), index: uint16(el.index), family: f}
	o.outer = repeated && isHeader(el.ID) && el.index != c.lastField(el)
	if !isVariable {
		o.value = c.direction.fields[field].Value
	}
	if to != noTarget {
		c.candidates[to] = append(c.candidates[to], o)
		return
	}
	for i := range c.repeated {
		if c.direction.fields[c.repeated[i][0].field].Type == el.ID {
			c.repeated[i] = append(c.repeated[i], o)
			return
		}
	}
	c.repeated = append(c.repeated, choice{o})
}

// isHeader reports whether an element comes twice for a packet in a tunnel.
func isHeader(id uint16) bool {
	switch id {
	case ieSourceIPv4Address, ieDestinationIPv4Address, ieSourceIPv6Address, ieDestinationIPv6Address,
		ieProtocolIdentifier, ieSourceTransportPort, ieDestinationTransportPort:
		return true
	}
	return false
}

// lastField returns the last field of an element that is there several times.
func (c *compiler) lastField(el element) int {
	r := &c.rd.repeats[c.rd.canonical(el.index)-len(c.rd.tmpl.fields)]
	return int(r.fields[len(r.fields)-1])
}

// addChoices keeps the targets that there are several elements for, and finds out how
// the family of a flow is known.
func (c *compiler) addChoices() {
	d := &c.direction
	for to, candidates := range c.candidates {
		switch to := target(to); {
		case len(candidates) < 2:
			continue
		case to == targetMplsIP && !mixed(candidates):
			continue // the same element several times
		case to == targetMplsIP && len(candidates) > 2:
			continue // a list
		}
		d.choices = append(d.choices, candidates)
		d.needsFamily = d.needsFamily || mixed(candidates)
	}
	d.choices = append(d.choices, c.repeated...)
	addresses := slices.Concat(c.candidates[targetSrcAddr], c.candidates[targetDstAddr])
	d.mixed = mixed(addresses)
	d.needsFamily = d.needsFamily || d.mixed
	d.family = familyReader{addresses, c.lastOf(ieIPVersion), c.lastOf(ieEthernetType)}
}

// mixed reports whether candidates are of both families.
func mixed(candidates choice) bool {
	for _, o := range candidates {
		if o.family != candidates[0].family {
			return true
		}
	}
	return false
}

// familyReader finds out which family a flow is of.
type familyReader struct {
	addresses choice
	version   int16 // index of ipVersion, or -1
	etherType int16 // index of ethernetType, or -1
}

// of returns the family of the record that locate was called for last: that of IE 60,
// else that of the address that is not 0, else that of the EtherType.
func (f *familyReader) of(rd *recordDecoder, record []byte) family {
	if f.version >= 0 {
		if v := family(number(rd.value(record, int(f.version)))); v == ipv4 || v == ipv6 {
			return v
		}
	}
	var last family // of the addresses that are not 0
	both := false
	for _, o := range f.addresses {
		steps.Add(1)
		if !allZero(rd.value(record, int(o.index))) {
			both = both || last != 0 && last != o.family
			last = o.family
		}
	}
	if last != 0 && !both {
		return last
	}
	if f.etherType >= 0 {
		switch number(rd.value(record, int(f.etherType))) {
		case flow.EtypeIPv4:
			return ipv4
		case flow.EtypeIPv6:
			return ipv6
		}
	}
	if last == 0 && len(f.addresses) > 0 {
		last = f.addresses[0].family // as with goflow2
	}
	return last
}

// choose leaves one candidate of each choice to goflow2.
func (d *direction) choose(rd *recordDecoder, record []byte, f family) {
	tunnel := d.outer != nil && d.outer.inTunnel(rd, record)
	for _, candidates := range d.choices {
		steps.Add(1 + 2*len(candidates))
		best, rank := 0, -1
		for i := range candidates {
			o := &candidates[i]
			r := 0
			if tunnel && o.outer {
				continue
			}
			if !allZero(rd.value(record, int(o.index))) {
				r = 2
			}
			if o.family == f {
				r++
			}
			if r >= rank {
				best, rank = i, r
			}
		}
		for i := range candidates {
			o := &candidates[i]
			switch {
			case i != best:
				d.fields[o.field].Value = nil
			case o.value != nil:
				d.fields[o.field].Value = o.value
			}
		}
	}
}
