package encode

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

var update = flag.Bool("update", false, "write docs/fields.md and testdata anew")

// TestFieldsDoc fails when docs/fields.md is not what the table of fields says.
func TestFieldsDoc(t *testing.T) {
	const file = "../../docs/fields.md"
	want := fieldsDoc()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/fields.md is out of date; run: make docs")
	}
}

// TestDifferencesDoc checks that each difference to goflow2 is tested as
// docs/fields.md says.
func TestDifferencesDoc(t *testing.T) {
	src, err := os.ReadFile("../../cmd/kube-enricher/schema_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, cases, ok := bytes.Cut(src, []byte("func TestSchemaV2Differences("))
	if !ok {
		t.Fatal("TestSchemaV2Differences is not there")
	}
	for _, d := range differences {
		if !bytes.Contains(cases, []byte(`{name: "`+d.test+`"`)) {
			t.Errorf("TestSchemaV2Differences has no case %q", d.test)
		}
	}
	if n := bytes.Count(cases, []byte("{name: ")); n != len(differences) {
		t.Errorf("TestSchemaV2Differences has %d cases, docs/fields.md %d", n, len(differences))
	}
}

// differences is the closed list of what differs from goflow2 v2.2.6.
var differences = []struct{ fields, what, test string }{
	{"`ip_ttl`", "from IE 192 (ipTTL), besides IE 52", "TTL in element 192"},
	{"`etype`", "from IE 256 (ethernetType), where no address tells it: ARP and other records that are not of IP", "EtherType in element 256"},
	{"`src_port`, `dst_port`", "0 for later fragments in sFlow, where goflow2 takes payload for ports", "ports of later fragments"},
	{"`proto`, `src_port`, `dst_port`, layers", "behind IPv6 extension headers in sFlow", "IPv6 extension headers"},
	{"all of the packet", "of sFlow samples that begin with the IP header (header protocols 11, 12)", "raw IP samples"},
	{"`src_port`, `dst_port`", "behind IPv4 options in sFlow", "ports behind IPv4 options"},
	{"all of the packet", "of sFlow samples that begin with a label stack (header protocol 13) or with PPP (7, 14)", "other header protocols"},
	{"all of the packet", "behind 802.1ad, 0x9100, 802.1ah, 802.1BR, VN-Tag, SNAP and PPPoE in sampled packets; a length is no `etype`", "link layers"},
	{"all of the packet", "behind label stacks in sampled packets, which are read to the bottom whatever their labels are (goflow2 stops at one up to 15, and invents addresses), also of upstream-assigned labels (0x8848), and of the customer's frame in a pseudowire (EoMPLS)", "label stacks"},
	{"layers", "behind GRE headers with a key, a checksum or a sequence number", "GRE with optional fields"},
	{"`src_port`, `dst_port`, `tcp_flags`", "of sampled packets that are cut in the TCP or UDP header, as far as they are there; padding behind a sampled header is not read", "ports of cut headers"},
	{"`icmp_type`, `icmp_code`", "of sampled packets", "ICMP of sampled packets"},
	{"`vlan_id`", "of sampled packets without the priority bits", "VLAN priority of sampled packets"},
	{"`src_vlan`, `dst_vlan`", "0 for sFlow's unknown VLAN (0xffffffff), and without priority bits", "unknown VLAN"},
	{"`in_if`, `out_if`", "of sFlow: 0 unless one interface is meant; goflow2 has the format in the upper two bits, or the reason of a discard or a number of interfaces for an index", "interface formats"},
	{"`forwarding_status`", "from the reason of a discard in sFlow: 257 is 130, 259 is 139, 260 is 138, 261 is 133, others are 128, and the unknown reason, 256, is 0", "drop reasons"},
	{"`as_path`, `dst_as`, `bgp_communities`", "of sFlow's extended gateway structures with several path segments", "AS paths of several segments"},
	{"`tcp_flags`", "from sFlow's sampled IPv4 and IPv6 structures", "sampled IP structure"},
	{"`bytes`, `src_mac`, `dst_mac`, `etype`", "from sFlow's sampled Ethernet structure, where nothing else tells", "sampled Ethernet structure"},
	{"whole records", "of sFlow samples in which one structure is cut or malformed, or has a next hop of an unknown address", "samples with one odd structure"},
	{"no records", "of sFlow samples that describe no packet, such as hsflowd's of applications", "samples of no packet"},
	{"whole records", "of packets that were discarded (sFlow samples of type 5): `sampling_rate` 1, and the reason in `forwarding_status`", "discarded packets"},
	{"all of the packet", "from IE 313 (ipHeaderPacketSection), with its length and one packet where the record has no counters", "header sections in 313"},
	{"`sampling_rate`", "from IE 305 and 306 (interval and space)", "sampling by interval and space"},
	{"`sampling_rate`", "from option fields of less than 4 bytes, which make goflow2 give up the datagram", "short option fields"},
	{"`sampling_rate`", "of the sampler or selector that the record names (IE 48, 302), where there are several; 0 if it names none and their rates differ", "rate of the record's sampler"},
	{"`sampling_rate`", "of the interface that the record names, where options data is about interfaces", "rate of the interface"},
	{"`sampling_rate`", "of the selection sequence that the record names (IE 301), by its selectors", "rate of the selection sequence"},
	{"`sampling_rate`", "told under another source id or observation domain, where that is the only one", "rate of another source id"},
	{"`sampling_rate`", "that the source port has told, where goflow2 has the last one of the address", "rate of the source port"},
	{"`sampling_rate`", "from IE 309 and 310 (n out of N), also beside IE 305", "sampling n out of N"},
	{"`sampling_rate`", "from IE 311 (probability)", "sampling by probability"},
	{"`bytes`, `packets`", "from IE 85 and 86, where 1 and 2 are absent", "counters in 85 and 86"},
	{"`bytes`, `packets`", "from IE 231 and 298, where 1 and 2 are absent", "counters in 231 and 298"},
	{"`bytes`", "from IE 352, where 1, 85, 23 and 231 are absent or 0", "bytes in 352"},
	{"`time_flow_start_ns`, `time_flow_end_ns`", "from IE 22 and 21 with the boot time (IE 160) in IPFIX", "times from the boot time"},
	{"`time_flow_start_ns`", "before the uptime began, or began anew after 49.7 days", "start before the uptime"},
	{"`time_flow_end_ns`", "after the uptime in the header of NetFlow v5", "end after the uptime"},
	{"`time_flow_end_ns`", "from the start and the duration (IE 161, 162), where no end is sent; the start likewise", "end from the duration"},
	{"`time_flow_start_ns`, `time_flow_end_ns`", "from IE 322 to 325, where no other time is sent, as in the records of events", "times of observation"},
	{"`time_flow_start_ns`, `time_flow_end_ns`", "from IE 152 and 153 in NetFlow v9", "absolute times in v9"},
	{"`icmp_type`, `icmp_code`", "from the destination port, if the source port is 0 and the type is known, where the exporter sends no type", "ICMP in the destination port"},
	{"`sampling_rate`", "from the record itself: IE 34, 50, 305 and 306, 309 and 310", "sampling rate in the record"},
	{"`src_mac`, `dst_mac`", "of IE 56, 81 and 80, 57 the one that is not 0", "zero MAC addresses"},
	{"addresses, next hops, prefix lengths, `etype`, ICMP", "of templates for both families: a zero never replaces a value, and of two zeros or two values that of the flow's family stays", "template for both families"},
	{"`time_flow_start_ns`, `time_flow_end_ns`", "of several times the last one that is not 0", "zero times"},
	{"all fields", "of an element that comes several times, the last value that is not 0; in a tunnel the inner header's, whatever it is", "element that comes several times"},
	{"`etype`", "from IE 256, where all addresses are 0: ARP of a template that has elements for addresses", "EtherType beside zero addresses"},
	{"`src_addr`, `dst_addr`", "from prefixes (IE 44, 45, 169, 170), where the addresses are absent or 0", "prefixes for addresses"},
	{"`src_port`, `dst_port`", "from IE 180 to 183, where 7 and 11 are absent or 0", "ports of TCP and UDP"},
	{"`vlan_id`, `src_vlan`, `dst_vlan`", "of IE 58 and 59 without the priority bits", "VLAN priority"},
	{"`vlan_id`, `src_vlan`, `dst_vlan`", "from IE 243 and 254, where 58 and 59 are absent or 0", "VLANs in 243 and 254"},
	{"`in_if`, `out_if`", "from IE 252 and 253, where 10 and 14 are absent or 0", "physical interfaces"},
	{"`ip_tos`", "from IE 195 (DSCP), where 5 is absent or 0", "DSCP in 195"},
	{"`mpls_label`", "without the empty sections below the bottom of the stack", "empty MPLS sections"},
	{"`mpls_label`", "up to ten labels: IE 73 to 79", "MPLS labels beyond the third"},
	{"all fields", "fields of a template that have no bytes (length 0) are as if they were not there; with goflow2 they undo what another field of the element has", "fields without bytes"},
	{"whole records", "of the responder (IE 232, 299), right after that of the initiator", "responder counters"},
	{"whole records", "of NetFlow v1 and v7", "NetFlow v1"},
	{"whole records", "that goflow2 loses beside a data set that it cannot read", "records beside a bad neighbour"},
}

// fieldsDoc returns docs/fields.md as the one table of fields has it.
func fieldsDoc() []byte {
	b := new(bytes.Buffer)
	b.WriteString(docIntro)
	fields := slices.Clone(flow.Fields[:])
	slices.SortFunc(fields, func(x, y flow.Field) int { return strings.Compare(x.Name, y.Name) })
	b.WriteString("| v1 | v2 | netobserv | OTLP | No. | type | meaning |\n|---|---|---|---|---|---|---|\n")
	for i := range fields {
		f := &fields[i]
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", nameCell(f.Name, f.Default), v2Cell(f), netObservCell(f), otlpCell(f), numberCell(f), kindCell(f.Kind), textCell(f.Description()))
	}
	b.WriteString(docGenerated)
	b.WriteString("| v1 | v2 | netobserv | OTLP | No. | meaning |\n|---|---|---|---|---|---|\n")
	for _, a := range flow.Attrs {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %d | %s |\n", nameCell("P"+a.Name, a.Default), nameCell("p_"+a.Snake, a.Default), nameCell("P"+a.NetObserv, a.NetObservDefault), nameCell(otlpAttr(flow.MapEntry{Snake: "p"}, &a), a.Default), flow.NumberGenerated+a.Number, textCell(a.Doc))
		if a.Attr == flow.AttrWorkloadKind {
			b.WriteString("| | | | `p.k8s.KIND.name` | | name of the workload once more, under its kind: `source.k8s.deployment.name` |\n")
		}
		if a.Attr == flow.AttrPod {
			b.WriteString("| | | `PK8S_Type` | | | what `PK8S_Name` is the name of: Pod, Service or Node. The name of a service or node is in it, too |\n")
		}
	}
	fmt.Fprintf(b, "| `P` and the field of `-kube.labels` | `p_` and the same | as in v1 | `p.k8s.pod.label.LABEL` | %d | labels of the pod; in protobuf a map by the name of the field |\n", flow.NumberGenerated+flow.NumberLabels)
	fmt.Fprintf(b, "| `Cluster` | `cluster` | `K8S_ClusterName` | `k8s.cluster.name`, of the resource | %d | value of `-cluster` |\n", flow.NumberCluster)
	b.WriteString(docFormats)
	b.WriteString("| goflow2's field | here | test |\n|---|---|---|\n")
	for _, d := range differences {
		fmt.Fprintf(b, "| %s | %s | `%s` |\n", d.fields, d.what, strings.ReplaceAll(d.test, " ", "_"))
	}
	b.WriteString(docFilled)
	slices.SortFunc(fields, func(x, y flow.Field) int { return int(x.Number - y.Number) })
	for i := range fields {
		if f := &fields[i]; f.Own() {
			fmt.Fprintf(b, "| `%s` | %s |\n", f.Name, originCell(f))
		}
	}
	return b.Bytes()
}

// nameCell shows a name, with the + that adds the field if it is not in the
// default set.
func nameCell(name string, def bool) string {
	if !def {
		name = "+" + name
	}
	return "`" + name + "`"
}

func v2Cell(f *flow.Field) string {
	if whole, ok := within[f.ID]; ok {
		return "in `" + flow.Fields[whole].Snake + "`"
	}
	return nameCell(f.Snake, f.Upstream())
}

func netObservCell(f *flow.Field) string {
	if f.ID == flow.FieldOutIfName {
		return "in `Interfaces`"
	}
	if f.NetObserv != "" {
		return nameCell(f.NetObserv, true)
	}
	return nameCell(f.Name, false)
}

func otlpCell(f *flow.Field) string {
	key, def := otlpKey(f)
	if key == "" {
		key, _ = otlpKey(&flow.Fields[within[f.ID]])
		return "in `" + key + "`"
	}
	return nameCell(key, def)
}

func numberCell(f *flow.Field) string {
	if whole, ok := within[f.ID]; ok {
		return "in " + strconv.Itoa(int(flow.Fields[whole].Number))
	}
	if f.Number == 0 {
		return ""
	}
	return strconv.Itoa(int(f.Number))
}

// origins says what fills a field besides the elements of its row.
var origins = map[flow.FieldID]string{
	flow.FieldInIfName:          "IE 82; of two in a record the first is the ingress interface's, and the only one is the egress interface's if the record names that one alone. Else options data that have IE 82 with the number of `InIf` (IE 10 or 14, or the scope Interface of NetFlow v9)",
	flow.FieldOutIfName:         "as `InIfName`, by `OutIf`",
	flow.FieldInIfDescription:   "IE 83, as IE 82 for `InIfName`",
	flow.FieldOutIfDescription:  "IE 83, as IE 82 for `OutIfName`",
	flow.FieldIngressVrfName:    "IE 236; as IE 82 for `InIfName`. Else options data that have IE 236 with the number of `IngressVrfID` (IE 234 or 235)",
	flow.FieldEgressVrfName:     "as `IngressVrfName`, by `EgressVrfID`",
	flow.FieldCountsOnce:        "Open vSwitch's templates and tunnels, and the pod ranges of Nodes, see [traffic-metrics.md](traffic-metrics.md); true for other exporters, and for input that does not say",
	flow.FieldExporterAddress:   "the datagram's source, where an sFlow agent has another address",
	flow.FieldApplicationID:     "IE 95, engine and selector as decimal numbers; a selector of more than 8 bytes is in hexadecimal",
	flow.FieldApplicationName:   "IE 94 where there is no 96; else options data that have IE 96 or 94 with the same application (IE 95)",
	flow.FieldObservationTimeNs: "IE 322 to 325",
	flow.FieldTunnelKey:         "IE 351",
	flow.FieldTunnelSrcAddr:     outerOrigin + "8 or 27; of 8 and 27 the one that the flow is not of, if both are there",
	flow.FieldTunnelDstAddr:     outerOrigin + "12 or 28; of 12 and 28 as with `TunnelSrcAddr`",
	flow.FieldTunnelProto:       outerOrigin + "4",
	flow.FieldTunnelSrcPort:     outerOrigin + "7",
	flow.FieldTunnelDstPort:     outerOrigin + "11",
}

const outerOrigin = "the first of two of IE "

// originCell shows the elements that fill a field.
func originCell(f *flow.Field) string {
	var names []string
	for _, e := range f.Elements {
		names = append(names, e.String())
	}
	if more, ok := origins[f.ID]; ok {
		names = append(names, more)
	}
	return strings.Join(names, ", ")
}

func textCell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func kindCell(k flow.ValueKind) string {
	switch k {
	case flow.KindUint:
		return "number"
	case flow.KindAddr:
		return "address"
	case flow.KindMAC:
		return "MAC"
	case flow.KindText:
		return "text"
	case flow.KindString:
		return "name"
	case flow.KindUints:
		return "list of numbers"
	case flow.KindAddrs:
		return "list of addresses"
	case flow.KindLayers:
		return "list of names"
	case flow.KindBool:
		return "true or false"
	}
	panic(fmt.Sprintf("kind %d has no name", k))
}

// docText turns the quotes of the texts below into backquotes, which cannot be
// in there, and their apostrophes into plain ones.
func docText(s string) string { return strings.NewReplacer("'", "`", "’", "'").Replace(s) }

var docIntro = docText(`# Fields

<!-- Generated from flow/field.go and flow/attr.go; "make docs" writes it anew. -->

A record has the fields of the flow, and those that were generated for the Kubernetes objects that
own its addresses. '-format' and '-schema' choose their names and renderings:

| | |
|---|---|
| '-format json -schema v1' | the default: one object a line, keys sorted by name |
| '-format json -schema v2' | what goflow2 v2.2.6 prints with '-format=json', value by value and in its order, then the generated fields |
| '-format json -schema netobserv' | names and units of NetObserv’s flowlogs-pipeline, for its dashboards and Loki labels |
| '-format protobuf' ('pb', 'bin') | messages of [flow/flow.proto](../flow/flow.proto), which goflow2’s consumers read, each with its length before it |
| '-format text' | a line for people to read |
| '-transport otlp' | log records of OpenTelemetry, with the attribute names of its netflow receiver and of its semantic conventions |

- In JSON, all fields of the **default set** are in each record, zero or empty when unknown. So are
  **opt-in** fields once '-fields' names them. Protobuf leaves out what is zero or empty, and has
  all fields of the flow but 'CountsOnce' in its default set.
- **Generated fields** are in a record only when they are known. The prefix 'P' stands for that of
  '-mapping': with the default mapping 'SrcAddr=Src,DstAddr=Dst' there are 'SrcPod' and 'DstPod'.

## Choosing fields

'-fields' is a list of names separated by commas, read from left to right. 'Name' and '+Name' add a
field, and '-Name' removes it. 'default' and 'all' stand for sets of fields. A list that begins with
'+' or '-' starts from the default set. Generated fields can be named in full ('SrcNode') or with
'P' for all prefixes ('PNode'). Names of v1 and v2 work in any schema, those of netobserv in
netobserv only, and those of OTLP with '-transport otlp' only.

| '-fields' | what is written |
|---|---|
| 'default' | the default set |
| 'all' | every field |
| 'default,+TimeFlowStartNs,-SrcMac' | the default set, with one field more and one less |
| '+PNode,+PZone' | the default set, with node and zone of both ends |
| 'SrcAddr,DstAddr,Bytes,PPod,PNamespace' | these alone (and 'Cluster', if it has a value) |

Text has a fixed set of fields, to which '+NAME' adds a column on a terminal, and ' NAME=VALUE'
elsewhere. When goflow2’s output is read from standard input, lines of JSON
keep their fields as they came. Only generated fields are added, under the names of '-schema
netobserv' or else in the line’s own style. Protobuf keeps all of its fields, also those that
flow.proto does not know. Lines of JSON can be written as JSON or text.

## Values

| type | v1 | v2 | netobserv | protobuf |
|---|---|---|---|---|
| number | a number, up to 64 bits wide | the same | the same | varint |
| address | a string, IPv6 as in RFC 5952; IPv4-mapped IPv6 is IPv4. '""' when unknown; all zeros are '"0.0.0.0"' or '"::"' | the same, but '"::ffff:192.0.2.1"' | as v1 | 4 or 16 bytes |
| MAC | '"0a:58:0a:f4:00:01"'; '""' when unknown or all zeros | '"00:00:00:00:00:00"' when unknown | as v2 | a number |
| EtherType, IP protocol | number and name | goflow2’s name, '""' or '"unknown"' if it has none | number | number |
| prefix length | a number | a network, '"10.0.0.0/8"', or '"invalid Prefix"' | a number | number |
| times | Unix seconds, nanoseconds where the name ends in 'Ns' | Unix nanoseconds | milliseconds in 'TimeFlowStartMs' and 'TimeFlowEndMs', else as v1 | Unix nanoseconds |
| text | a string as the exporter sent it; bytes that are no UTF-8 become U+FFFD | the same | the same | the same |
| list | an array | the same | the same | repeated |
| true or false | 'true' or 'false' | the same | the same | bool, also if it is false |

**Start and end of a flow** are 0 in v1 if the exporter sends none. Its template decides that, not
the value. The other schemas then have what goflow2 has, the export time. For an sFlow sample, start
and end are the time of its receipt. The time of receipt is this program’s, or the one in the
capture.

**Counters**: 'Bytes' and 'Packets' are as the exporter sent them and never multiplied by
'SamplingRate'. Open vSwitch’s IPFIX has them scaled up already, and gives no rate (0). For sFlow,
multiply by the rate.

## Fields of the flow

A '+' before a name marks a field that is opt-in there; '-fields' takes the name with the '+'. No.
is the number in flow.proto. Those below 2000 are goflow2’s.

`)

var docGenerated = docText(`
In netobserv, 'Dscp' is the upper six bits of the type of service. 'Interfaces' comes with
'IfDirections': they have the name of each interface that has one, and its direction, ingress (0) or
egress (1). '+Duplicate' is the opposite of 'CountsOnce'.

## Generated fields

In protobuf, 'P' is 'src_' or 'dst_' (numbers from 2020) for the prefixes 'Src' and 'Dst' of
'-mapping'. Objects of other prefixes are in 'other' (2040), each with its prefix.

`)

var docFormats = docText(`
'PStatus' is 'none' where nobody is known to own the address. Once '-fields' names it, it is in
every record.

netobserv also has '"_RecordType":"flowLog"' in each record, which is a label of NetObserv’s Loki
streams. It lacks what flowlogs-pipeline computes from its own settings: 'K8S_FlowLayer',
conversations. It lacks what only an eBPF agent sees: DNS, drops,
round-trip times. 'Flags' are the flags of the TCP header, without NetObserv’s combinations (0x100
and above).

## Protobuf

'protoc --decode=flowpb.EnrichedFlow flow/flow.proto' reads a message without its length. The
package flow/flowpb has the generated code for Go. goflow2’s own message and its enricher read these
messages, too. There is nothing between messages. goflow2’s file output has a newline there unless
'-transport.file.sep' is empty.

## OTLP

Each record is a LogRecord with an attribute for each field. Names, types and the default set are
those of the netflow receiver of OpenTelemetry’s collector, with names for what has no attribute
there: 'flow.' and goflow2’s name. 'network.transport', 'network.type' and 'flow.type' are names in
lower case, 'unknown' if there is none. Numbers are integers; a number of more than 63 bits is
negative. Attributes without a value are left out, and so are numbers that are 0, but for ports,
bytes, packets, the sequence number and the sampling rate. In the table of generated fields, 'p' is
'source' or 'destination' for 'SrcAddr' and 'DstAddr', else the prefix of '-mapping'.

The time of a record (Timestamp) is the start of the flow, if the exporter has sent one, else the
time of receipt. ObservedTimestamp is the time of receipt. There is no body. The resource has
'service.name' and, with '-cluster', 'k8s.cluster.name'.

## Text

'''
2021-08-08T10:04:05Z local-path-storage/local-path-provisioner:56144 → default/kubernetes:443 TCP   20.8 kB    400 p via node-1
'''

The line has the time of receipt in the local time zone, the two ends, protocol, bytes, packets, and
the exporter. An end is namespace and workload, or the address. '-fields default,+NAME' adds a
field at the end of the line, as JSON.

On a terminal, lines fit into its width, and long names are shortened in their middle. The exporter
is left out below 112 columns. A head names the columns, the date and the time zone. Workloads are
green, Services cyan, nodes blue, egress IPs magenta; an end with a warning is yellow. A record is
dim if another one counts its packets. 'NO_COLOR' and 'TERM=dumb' turn colours off.

## Differences to goflow2

Schema v2 and the fields below 2000 in protobuf are what goflow2 v2.2.6 makes of the same datagrams,
but for this closed list. In these cases goflow2 is wrong, or it drops something.
'TestSchemaV2Differences' has a case for each. 'TestSchemaV2Captures' checks that nothing else
differs on the captures. So does 'TestGoflow2Program', which runs the real goflow2 beside this
program.

`)

var docFilled = docText(`
A biflow is two records here, and one in goflow2: one with reverse counters (RFC 5103) and one with
counters of initiator and responder.

## What goflow2 has no fields for

'6876/891' is element 891 of the enterprise 6876. Open vSwitch describes its tunnels in these
elements.

| field | from |
|---|---|
`)
