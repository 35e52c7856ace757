package main

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// domain is an observation domain (v9: source id) of an exporter.
type domain struct{ source, id string }

// exporters has what options data announced of each domain.
type exporters struct {
	rate    map[domain]uint64 // one in how many packets is sampled
	boot    map[domain]int64  // when the exporter started, in milliseconds
	options map[domain]map[string]bool
}

func newExporters() *exporters {
	return &exporters{rate: make(map[domain]uint64), boot: make(map[domain]int64), options: make(map[domain]map[string]bool)}
}

// header is what a message says of all its records.
type header struct {
	version  string
	exported time.Time
	uptime   int64 // milliseconds
	hasBoot  bool
	boot     int64 // IPFIX: when the exporter started
}

var types = map[string]string{"1": "NETFLOW_V1", "5": "NETFLOW_V5", "7": "NETFLOW_V7", "9": "NETFLOW_V9", "10": "IPFIX"}

// message returns the records of a message of NetFlow or IPFIX.
func (e *exporters) message(source string, m *node) (list []row) {
	h := header{version: m.show("cflow.version"), exported: instant(m.show("cflow.timestamp")), uptime: milliseconds(m.show("cflow.sysuptime"))}
	d := domain{source, m.first("cflow.source_id", "cflow.od_id")}
	for i := range m.Nodes {
		set := &m.Nodes[i]
		if strings.HasPrefix(set.Show, "pdu ") {
			list = append(list, e.record(h, d, m, set))
			continue
		}
		if id := set.show("cflow.flowset_id"); id == "1" || id == "3" { // options templates
			e.remember(d, set)
		}
		for j := range set.Nodes {
			record := &set.Nodes[j]
			if record.Name != "" || !strings.HasPrefix(record.Show, "Flow ") {
				continue
			}
			if e.options[d][set.show("cflow.flowset_id")] {
				e.tell(d, record)
				continue
			}
			h.boot, h.hasBoot = e.boot[d], e.boot[d] != 0
			list = append(list, e.record(h, d, m, record))
		}
	}
	return list
}

// remember notes the ids of options templates.
func (e *exporters) remember(d domain, set *node) {
	if e.options[d] == nil {
		e.options[d] = make(map[string]bool)
	}
	for i := range set.Nodes {
		if id := set.Nodes[i].show("cflow.template_id"); id != "" {
			e.options[d][id] = true
		}
	}
}

// tell takes what options data say of their domain.
func (e *exporters) tell(d domain, record *node) {
	if s := record.first("cflow.sampling_interval", "cflow.sampler_random_interval"); s != "" {
		e.rate[d] = number(s)
	}
	if interval := number(record.show("cflow.sampling_packet_interval")); interval > 0 {
		// RFC 5477, 8.2: interval packets of interval + space are taken.
		e.rate[d] = (interval + number(record.show("cflow.sampling_packet_space"))) / interval
	}
	if s := record.show("cflow.sys_init_time"); s != "" {
		e.boot[d] = instant(s).UnixMilli()
	}
}

// plain has the columns that are a field of tshark, as it is.
var plain = map[string][]string{
	"SrcAddr": {"cflow.srcaddr", "cflow.srcaddrv6"}, "DstAddr": {"cflow.dstaddr", "cflow.dstaddrv6"},
	"SrcPort": {"cflow.srcport"}, "DstPort": {"cflow.dstport"}, "Proto": {"cflow.protocol"},
	// Contract: 85 and 86 where 1 and 2 are absent, else the bytes of layer 2.
	"Bytes": {"cflow.octets", "cflow.permanent_octets", "cflow.layer2_octet_delta_count"}, "Packets": {"cflow.packets", "cflow.permanent_packets"},
	"InIf": {"cflow.inputint"}, "OutIf": {"cflow.outputint"},
	"VlanId": {"cflow.vlanid"}, "SrcVlan": {"cflow.vlanid"}, "DstVlan": {"cflow.post_vlanid"},
	"IPTos": {"cflow.tos"}, "IPTTL": {"cflow.ip_ttl"}, "IPv6FlowLabel": {"cflow.ipv6flowlabel"}, "TCPFlags": {"cflow.tcpflags"},
	"SrcNet": {"cflow.srcmask", "cflow.srcmaskv6"}, "DstNet": {"cflow.dstmask", "cflow.dstmaskv6"},
	"NextHop": {"cflow.nexthop", "cflow.nexthopv6"}, "SrcAS": {"cflow.srcas"}, "DstAS": {"cflow.dstas"},
	"FlowDirection": {"cflow.direction"}, "FlowEndReason": {"cflow.flow_end_reason"},
}

func (e *exporters) record(h header, d domain, message, record *node) row {
	r := row{"Type": types[h.version], "SequenceNum": message.show("cflow.sequence")}
	if h.version == "9" || h.version == "10" {
		r.set("ObservationDomainId", d.id)
	}
	for column, fields := range plain {
		r.set(column, record.first(fields...))
	}
	for column, field := range map[string]string{"SrcMac": "cflow.srcmac", "DstMac": "cflow.dstmac"} {
		// Contract: a MAC of zeros is none.
		if mac := record.show(field); mac != "00:00:00:00:00:00" {
			r.set(column, mac)
		}
	}
	// Contract: the EtherType is that of the addresses, else what IE 256 says.
	switch addr, err := netip.ParseAddr(r["SrcAddr"]); {
	case err != nil:
		r.set("Etype", record.show("cflow.ethernet_type"))
	case addr.Is4():
		r["Etype"] = "2048"
	default:
		r["Etype"] = "34525"
	}
	if rate := e.rate[d]; rate != 0 {
		r["SamplingRate"] = strconv.FormatUint(rate, 10)
	}
	r.set("SamplingRate", message.show("cflow.samplerate")) // v5
	r.times(h, record)
	r.icmp(record)
	r.interfaces(record)
	r.tunnel(record)
	return r
}

// times sets start and end. Contract: Unix seconds; times by uptime are signed
// differences of 32 bits to the exporter's uptime, which v5 and v9 have in the
// header. In IPFIX they count from the boot time, which options data tell.
func (r row) times(h header, record *node) {
	at := func(absolute, relative string) string {
		if s := record.show(absolute); s != "" {
			return strconv.FormatInt(instant(s).Unix(), 10)
		}
		s := record.show(relative)
		if s == "" {
			return ""
		}
		if h.version == "10" {
			if !h.hasBoot {
				return ""
			}
			return strconv.FormatInt((h.boot+milliseconds(s))/1000, 10)
		}
		since := time.Duration(int32(uint32(milliseconds(s)-h.uptime))) * time.Millisecond
		return strconv.FormatInt(h.exported.Add(since).Unix(), 10)
	}
	r.set("TimeFlowStart", at("cflow.abstimestart", "cflow.timestart"))
	r.set("TimeFlowEnd", at("cflow.abstimeend", "cflow.timeend"))
}

// icmp sets type and code. Contract: without elements for them they are in the
// destination port, if the source port is 0, the type is known, and the code is 0
// where the type is; 0 says nothing.
func (r row) icmp(record *node) {
	if r["Proto"] != "1" && r["Proto"] != "58" {
		return
	}
	if s := record.show("cflow.icmp_type_code_ipv4"); s != "" {
		v := number(s)
		r["IcmpType"], r["IcmpCode"] = strconv.FormatUint(v>>8, 10), strconv.FormatUint(v&0xff, 10)
		return
	}
	if s := record.first("cflow.icmp_ipv4_type", "cflow.icmp_ipv6_type"); s != "" {
		r["IcmpType"] = s
		r.set("IcmpCode", record.first("cflow.icmp_ipv4_code", "cflow.icmp_ipv6_code"))
		return
	}
	port := number(r["DstPort"])
	if number(r["SrcPort"]) != 0 || port == 0 || port>>8 == 0 || !known(r["Proto"], port>>8) {
		return
	}
	r["IcmpType"], r["IcmpCode"] = strconv.FormatUint(port>>8, 10), strconv.FormatUint(port&0xff, 10)
}

// known reports whether IANA's registries have an ICMP type.
func known(proto string, kind uint64) bool {
	if proto == "58" {
		return 1 <= kind && kind <= 4 || 128 <= kind && kind <= 161
	}
	return kind == 0 || 3 <= kind && kind <= 6 || 8 <= kind && kind <= 18 || 30 <= kind && kind <= 43
}

// interfaces sets the names of interfaces: that of an interface follows its number, and
// tshark leaves out empty ones.
func (r row) interfaces(record *node) {
	column := "InIfName"
	for i := range record.Nodes {
		switch n := &record.Nodes[i]; n.Name {
		case "cflow.inputint":
			column = "InIfName"
		case "cflow.outputint":
			column = "OutIfName"
		case "cflow.if_name":
			r.set(column, n.Show)
		}
	}
}

var vmware = regexp.MustCompile(`\(VMware Inc\.\) Type (\d+)`)

// tunnels has Open vSwitch's elements of the enterprise 6876.
var tunnels = map[string]string{
	"891": "TunnelType", "892": "TunnelKey", "893": "TunnelSrcAddr", "894": "TunnelDstAddr",
	"895": "TunnelProto", "896": "TunnelSrcPort", "897": "TunnelDstPort",
}

func (r row) tunnel(record *node) {
	for i := range record.Nodes {
		match := vmware.FindStringSubmatch(record.Nodes[i].Showname)
		if len(match) != 2 {
			continue
		}
		column := tunnels[match[1]]
		b, err := hex.DecodeString(strings.ReplaceAll(record.Nodes[i].Show, ":", ""))
		if column == "" || err != nil {
			continue
		}
		if strings.HasSuffix(column, "Addr") {
			if addr, ok := netip.AddrFromSlice(b); ok {
				r[column] = addr.String()
			}
			continue
		}
		var v uint64
		for _, c := range b {
			v = v<<8 | uint64(c)
		}
		r[column] = strconv.FormatUint(v, 10)
	}
}

// instant reads a time as tshark writes it.
func instant(s string) time.Time {
	t, _ := time.Parse("Jan _2, 2006 15:04:05.000000000 MST", s)
	return t
}

// milliseconds reads seconds with a fraction.
func milliseconds(s string) int64 {
	seconds, fraction, _ := strings.Cut(s, ".")
	return int64(number(seconds))*1000 + int64(number((fraction + "000")[:3]))
}
