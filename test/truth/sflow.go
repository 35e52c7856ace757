package main

import "strings"

// datagram returns the samples of an sFlow datagram. After a structure that it
// does not know, tshark reads no further: the samples that follow are missing.
func datagram(d *node) (list []row) {
	for i := range d.Nodes {
		sample := &d.Nodes[i]
		if sample.Name != "" || !strings.Contains(strings.ToLower(sample.Show), "flow sample") {
			continue
		}
		r := row{"Type": "SFLOW_5", "SequenceNum": d.show("sflow_245.sequence_number"), "Packets": "1"}
		r.set("SamplingRate", sample.show("sflow.flow_sample.sampling_rate"))
		r.set("InIf", oneInterface("0", sample.show("sflow.flow_sample.input_interface")))
		format, value := sample.show("sflow.flow_sample.output_interface_format"), sample.show("sflow.flow_sample.output_interface_value")
		r.set("OutIf", oneInterface(format, value))
		if format == "1" {
			r["ForwardingStatus"] = dropReason(value)
		}
		r.set("Bytes", sample.show("sflow_245.header.frame_length"))
		for column, field := range map[string]string{"SrcVlan": "sflow_245.vlan.in", "DstVlan": "sflow_245.vlan.out"} {
			// Contract: the unknown VLAN 0xffffffff is 0.
			if v := sample.show(field); v != "4294967295" {
				r.set(column, v)
			}
		}
		if header := sample.find("sflow_245.header"); header != nil {
			r.packet(header)
		}
		list = append(list, r)
	}
	return list
}

// oneInterface returns an interface's index. Contract: 0 unless one is meant, and
// for the internal one, 0x3fffffff.
func oneInterface(format, value string) string {
	if format != "0" || value == "1073741823" {
		return ""
	}
	return value
}

// dropReason returns IE 89's code of a reason of sFlow's. Contract: 256 is unknown.
func dropReason(reason string) string {
	switch reason {
	case "256":
		return "0"
	case "257":
		return "130"
	case "259":
		return "139"
	case "260":
		return "138"
	case "261":
		return "133"
	}
	return "128"
}

// packet reads the headers of the sampled packet. Of IP headers, the outer one.
func (r row) packet(header *node) {
	for i := range header.Nodes {
		switch p := &header.Nodes[i]; p.Name {
		case "eth":
			r.mac("SrcMac", p.show("eth.src"))
			r.mac("DstMac", p.show("eth.dst"))
			r.set("Etype", p.show("eth.type"))
		case "vlan": // Contract: VlanId is the innermost
			r.set("VlanId", p.show("vlan.id"))
			r.set("Etype", p.show("vlan.etype"))
		case "ip", "ipv6":
			r.internet(p)
			r.transport(header.Nodes[i+1:])
			return
		}
	}
}

// mac sets an address, which is empty if it is 0.
func (r row) mac(column, value string) {
	if value != "00:00:00:00:00:00" {
		r.set(column, value)
	}
}

func (r row) internet(p *node) {
	r.set("SrcAddr", p.first("ip.src", "ipv6.src"))
	r.set("DstAddr", p.first("ip.dst", "ipv6.dst"))
	r.set("Proto", p.first("ip.proto", "ipv6.nxt"))
	for i := range p.Nodes { // Contract: the protocol behind extension headers
		r.set("Proto", p.Nodes[i].show(p.Nodes[i].Name+".nxt"))
	}
	r.set("IPTos", p.first("ip.dsfield", "ipv6.tclass"))
	r.set("IPTTL", p.first("ip.ttl", "ipv6.hlim"))
	r.set("IPv6FlowLabel", p.show("ipv6.flow"))
	r.set("FragmentId", p.show("ip.id"))
	r.set("FragmentOffset", p.show("ip.frag_offset")) // in units of 8 bytes
}

func (r row) transport(layers []node) {
	if len(layers) == 0 {
		return
	}
	switch p := &layers[0]; p.Name {
	case "tcp", "udp": // those whose ports are read of sampled packets, by goflow2, too
		r.set("SrcPort", p.show(p.Name+".srcport"))
		r.set("DstPort", p.show(p.Name+".dstport"))
		r.set("TCPFlags", p.show("tcp.flags"))
	case "icmp":
		r.set("IcmpType", p.show("icmp.type"))
		r.set("IcmpCode", p.show("icmp.code"))
	case "icmpv6":
		r.set("IcmpType", p.show("icmpv6.type"))
		r.set("IcmpCode", p.show("icmpv6.code"))
	}
}
