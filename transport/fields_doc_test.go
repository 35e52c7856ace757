package transport

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

var update = flag.Bool("update", false, "write docs/fields.md anew")

// TestFieldsDoc fails when docs/fields.md is not what the table of fields says.
func TestFieldsDoc(t *testing.T) {
	const file = "../docs/fields.md"
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

// fieldsDoc returns docs/fields.md as the one table of fields has it.
func fieldsDoc() []byte {
	b := new(bytes.Buffer)
	b.WriteString(docIntro)
	fields := slices.Clone(flow.Fields[:])
	slices.SortFunc(fields, func(x, y flow.Field) int { return strings.Compare(x.Name, y.Name) })
	for _, set := range []struct {
		title string
		def   bool
	}{{"Default set", true}, {"Opt-in fields", false}} {
		fmt.Fprintf(b, "\n## %s\n\nNo. is the field's number in goflow2's protobuf message.\n\n", set.title)
		b.WriteString("| field | in goflow2 v2's JSON | No. | type | meaning |\n|---|---|---|---|---|\n")
		for _, f := range fields {
			if f.Default == set.def {
				fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", f.Name, codeCell(f.Snake), numberCell(f.Number), kindCell(f.Kind), textCell(f.Doc))
			}
		}
	}
	b.WriteString("\n## Generated fields\n\n| field | in goflow2's style | written | meaning |\n|---|---|---|---|\n")
	for _, a := range flow.Attrs {
		written := "opt-in"
		if a.Default {
			written = "by default"
		}
		fmt.Fprintf(b, "| `P%s` | `p_%s` | %s | %s |\n", a.Name, a.Snake, written, textCell(a.Doc))
	}
	b.WriteString("| `Cluster` | `cluster` | by default | value of `-cluster` |\n")
	b.WriteString("\n`PStatus` is `none` where nobody is known to own the address: once asked for, it is in every record.\n")
	b.WriteString(docFilled)
	return b.Bytes()
}

func codeCell(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func numberCell(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func textCell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func kindCell(k flow.Kind) string {
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
	}
	panic(fmt.Sprintf("kind %d has no name", k))
}

const docIntro = `# Fields

<!-- Generated from flow/field.go and flow/object.go; "make docs" writes it anew. -->

A record has the fields of the flow, and those that were generated for the Kubernetes objects that own its addresses. In
JSON, schema v1, each record is one object on a line of its own, its keys sorted by name:

- All fields of the **default set** are in each record, zero or empty when unknown. So are **opt-in** fields once they are
  asked for.
- **Generated fields** are in a record only when they are known. The prefix ` + "`P`" + ` stands for that of ` + "`-mapping`" + `:
  with the default mapping ` + "`SrcAddr=Src,DstAddr=Dst`" + ` there are ` + "`SrcPod`" + ` and ` + "`DstPod`" + `.
- ` + "`Cluster`" + ` is in each record if ` + "`-cluster`" + ` gives it a value.

## Choosing fields

` + "`-fields`" + ` is a list of names separated by commas, read from left to right. ` + "`Name`" + ` and ` + "`+Name`" + ` add a field, ` + "`-Name`" + ` removes it;
` + "`default`" + ` and ` + "`all`" + ` stand for sets of fields. A list that begins with ` + "`+`" + ` or ` + "`-`" + ` starts from the default set. Generated fields can
be named in full (` + "`SrcNode`" + `) or with ` + "`P`" + ` for all prefixes (` + "`PNode`" + `). goflow2's names will do too.

| ` + "`-fields`" + ` | what is written |
|---|---|
| ` + "`default`" + ` | the default set |
| ` + "`all`" + ` | every field |
| ` + "`default,+TimeFlowStartNs,-SrcMac`" + ` | the default set, with one field more and one less |
| ` + "`+PNode,+PZone`" + ` | the default set, with node and zone of both ends |
| ` + "`SrcAddr,DstAddr,Bytes,PPod,PNamespace`" + ` | these alone (and ` + "`Cluster`" + `, if it has a value) |

In pipe mode the fields of a record are kept as they came, and only generated fields are added.

## Values

| type | in JSON | when unknown |
|---|---|---|
| number | a number, up to 64 bits wide | ` + "`0`" + ` |
| address | a string, IPv6 as in RFC 5952; IPv4-mapped IPv6 is IPv4 | ` + "`\"\"`" + `; an address that is all zeros is ` + "`\"0.0.0.0\"`" + ` or ` + "`\"::\"`" + ` |
| MAC | a string, ` + "`\"0a:58:0a:f4:00:01\"`" + ` | ` + "`\"\"`" + `, also for 00:00:00:00:00:00 |
| name | a string, one of a fixed set | ` + "`\"\"`" + ` |
| text | a string as the exporter sent it; bytes that are no UTF-8 become U+FFFD | ` + "`\"\"`" + ` |
| list | an array of the above | ` + "`[]`" + ` |

**Times** are Unix time, in seconds, or in nanoseconds where the name ends in ` + "`Ns`" + `. The start and end of a flow are 0 if the
exporter sends none, which is told from its template and not from the value; of an sFlow sample they are the time of its
receipt. The time of receipt is this program's, or the one in the capture.

**Counters**: ` + "`Bytes`" + ` and ` + "`Packets`" + ` are as the exporter sent them and never multiplied by ` + "`SamplingRate`" + `. Open vSwitch's IPFIX has
them scaled up already, and gives no rate (0); for sFlow, multiply by the rate.
`

const docFilled = `
## What goflow2 leaves empty

These fields are filled though goflow2's own output does not have them, or has them empty, for the same datagrams:

| field | from |
|---|---|
| ` + "`IPTTL`" + ` | IE 192 (ipTTL), besides IE 52 |
| ` + "`Etype`, `EtypeName`" + ` | IE 256 (ethernetType), where no address tells it |
| ` + "`FlowDirection`" + ` | IE 61 |
| ` + "`BiFlowDirection`" + ` | IE 239 |
| ` + "`IngressVrfID`, `EgressVrfID`" + ` | IE 234, 235 |
| ` + "`FlowEndReason`" + ` | IE 136 |
| ` + "`InIfName`, `OutIfName`" + ` | IE 82; of two in a record the first is the ingress interface's |
| ` + "`TunnelType`, `TunnelKey`, `TunnelSrcAddr`, `TunnelDstAddr`, `TunnelProto`, `TunnelSrcPort`, `TunnelDstPort`" + ` | Open vSwitch's enterprise elements (6876) 891 to 897 |

` + "`TimeFlowStart`" + ` and ` + "`TimeFlowEnd`" + ` are 0 where goflow2 has the export time because the exporter sends no times.
`
