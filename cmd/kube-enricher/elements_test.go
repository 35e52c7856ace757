package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
)

// barracuda is a capture of a firewall that describes its flows by elements of its own.
// Their values below are tshark's.
const barracuda = "../../testdata/captures-public/logstash__IPFIX-Barracuda-extended-uniflow-template-256.pcap"

const barracudaElements = `
- {name: FwRule, id: 4, pen: 10704, type: string}
- {name: BindAddr, id: 8, pen: 10704, type: ipaddr}
- {name: BindPort, id: 9, pen: 10704, type: uint}
- {name: ConnAddrHex, id: 10, pen: 10704, type: hex}
- {name: ReasonText, id: 7, pen: 10704, type: string}
- {name: NotThere, id: 4000, pen: 10704, type: mac}
`

// TestElements makes fields of a firewall's own elements, in all formats.
func TestElements(t *testing.T) {
	file := filepath.Join(t.TempDir(), "elements.yaml")
	if err := os.WriteFile(file, []byte(barracudaElements), 0o600); err != nil {
		t.Fatal(err)
	}
	const values = `"BindAddr":"213.208.150.99","BindPort":64238,"ConnAddrHex":"40eb974c","FwRule":"MTH:MTH-MC-to-Inet"`
	for _, tc := range []struct {
		name string
		args []string
		want string // the first line, or a part of it after an ellipsis
		n    int    // lines
	}{
		{"v1", []string{"-fields", "SrcPort"}, `{` + values + `,"ReasonText":"Normal Operation","SrcPort":51917}`, 2},
		{"v1, all", []string{"-fields", "all"}, `...` + `"BiFlowDirection":0,"BindAddr":"213.208.150.99","BindPort":64238,"Bytes":0,`, 2},
		{"v1, default", nil, `...,"FwRule":"MTH:MTH-MC-to-Inet","IPTTL":0,`, 2},
		{"v1, without one", []string{"-fields", "SrcPort,-ReasonText"}, `{` + values + `,"SrcPort":51917}`, 2},
		{"v2", []string{"-schema", "v2", "-fields", "SrcPort,-ReasonText"}, `{"src_port":51917,` + values + `}`, 2},
		{"netobserv", []string{"-schema", "netobserv", "-fields", "SrcPort,-ReasonText"}, `{` + values + `,"SrcPort":51917}`, 2},
		{"filter by text", []string{"-fields", "SrcPort,-ReasonText", "-filter", `FwRule == "MTH:MTH-MC-to-Inet" && ReasonText contains "Op" && SrcPort == 443`}, `{` + values + `,"SrcPort":443}`, 1},
		{"filter by the others", []string{"-fields", "SrcPort,-ReasonText", "-filter", `BindPort > 64000 && cidr(BindAddr, "213.0.0.0/8") && ConnAddrHex == "40eb974c" && NotThere == "" && SrcPort > 1000`}, `{` + values + `,"SrcPort":51917}`, 1},
		{"filter by what is not there", []string{"-filter", `NotThere != "" || BindPort == 0 || FwRule == ""`}, "", 0},
		{"text", []string{"-format", "text"}, "...10.236.5.4:51917", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, code := runProgram(t, append(append([]string{"-kube.off", "-fields.elements", file}, tc.args...), barracuda)...)
			first, _, _ := strings.Cut(stdout, "\n")
			part, anywhere := strings.CutPrefix(tc.want, "...")
			if code != exitDone || strings.Count(stdout, "\n") != tc.n || anywhere && !strings.Contains(first, part) || !anywhere && first != tc.want {
				t.Errorf("exit code %d, %s\ngot  %s\nwant %s", code, stderr, stdout, tc.want)
			}
		})
	}
	stdout, stderr, code := runProgram(t, "-kube.off", "-format", "protobuf", "-fields.elements", file, barracuda)
	var m flowpb.EnrichedFlow
	if err := protodelim.UnmarshalFrom(bytes.NewReader([]byte(stdout)), &m); err != nil || code != exitDone {
		t.Fatalf("exit code %d, %s: %v", code, stderr, err)
	}
	var got []string
	for _, e := range m.GetExtra() {
		got = append(got, e.GetName()+"="+e.GetValue())
	}
	// They are in the order of the template.
	if want := "FwRule=MTH:MTH-MC-to-Inet|ReasonText=Normal Operation|BindAddr=213.208.150.99|BindPort=64238|ConnAddrHex=40eb974c"; strings.Join(got, "|") != want || m.GetFirewallEvent() != 1 {
		t.Errorf("got %q, want %s; firewall event %d", got, want, m.GetFirewallEvent())
	}
}

// TestExporterAddress shows where sFlow came from, if the agent has another address.
func TestExporterAddress(t *testing.T) {
	for file, want := range map[string]string{"ovs-sflow": `{"ExporterAddress":"127.0.0.1","SamplerAddress":"10.244.0.2"}`, "ovs-ipfix": `{"ExporterAddress":"","SamplerAddress":"127.0.0.1"}`} {
		stdout, stderr, code := runProgram(t, "-kube.off", "-fields", "ExporterAddress,SamplerAddress", filepath.Join(captureDir, file+".pcap"))
		if first, _, _ := strings.Cut(stdout, "\n"); code != exitDone || first != want {
			t.Errorf("%s: exit code %d, %s\n%s", file, code, stderr, first)
		}
	}
}

// TestElementsUsage refuses files of -fields.elements, with the line that is wrong.
func TestElementsUsage(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"unknown type", "- {name: A, id: 1000, type: uint}\n- {name: B, id: 1001, type: float}", `:2: type "float" is not allowed; give one of uint, string, ipaddr, mac, hex`},
		{"a field's name", "# mine\n- {name: SrcAddr, id: 1000, type: uint}", ":2: name SrcAddr is that of another field"},
		{"a field's name in v2", "- name: src_addr\n  id: 1000\n  type: uint", ":1: name src_addr is that of another field"},
		{"a field's name in netobserv", "- {name: AgentIP, id: 1000, type: uint}", ":1: name AgentIP is that of another field"},
		{"a generated field's name", "- {name: DstPod, id: 1000, type: uint}", ":1: name DstPod is that of another field"},
		{"a label's name", "- {name: SrcApp, id: 1000, type: uint}", ":1: name SrcApp is that of another field"},
		{"a group's name", "- {name: default, id: 1000, type: uint}", ":1: name default is that of another field"},
		{"a field's element", "\n\n- name: Mine\n  id: 8\n  type: ipaddr", ":4: element IE 8 has a field already"},
		{"a field's element of an enterprise", "- {name: Mine, id: 891, pen: 6876, type: uint}", ":1: element 6876/891 has a field already"},
		{"a field's name element", "- {name: Mine, id: 82, type: string}", ":1: element IE 82 has a field already"},
		{"an opt-in field's element", "- {name: Mine, id: 225, type: ipaddr}", ":1: element IE 225 has a field already"},
		{"an element that the collector reads: a label", "- {name: Mine, id: 70, type: hex}", ":1: element IE 70 has a field already"},
		{"an element that the collector reads: the last label", "- {name: Mine, id: 79, type: hex}", ":1: element IE 79 has a field already"},
		{"an element that the collector reads: an observation time", "- {name: Mine, id: 323, type: hex}", ":1: element IE 323 has a field already"},
		{"an element that the collector reads: the last observation time", "- {name: Mine, id: 325, type: hex}", ":1: element IE 325 has a field already"},
		{"an element that the collector reads: an uptime", "- {name: Mine, id: 21, type: hex}", ":1: element IE 21 has a field already"},
		{"an element that the collector reads: another uptime", "- {name: Mine, id: 22, type: hex}", ":1: element IE 22 has a field already"},
		{"an element that the collector reads: a VLAN", "- {name: Mine, id: 243, type: hex}", ":1: element IE 243 has a field already"},
		{"an element that the collector reads: an outgoing VLAN", "- {name: Mine, id: 254, type: hex}", ":1: element IE 254 has a field already"},
		{"an element that the collector reads: a rate", "- {name: Mine, id: 34, type: hex}", ":1: element IE 34 has a field already"},
		{"an element that the collector reads: a random rate", "- {name: Mine, id: 50, type: hex}", ":1: element IE 50 has a field already"},
		{"an element that the collector reads: a prefix", "- {name: Mine, id: 44, type: hex}", ":1: element IE 44 has a field already"},
		{"an element that the collector reads: another prefix", "- {name: Mine, id: 45, type: hex}", ":1: element IE 45 has a field already"},
		{"an element that the collector reads: a prefix of IPv6", "- {name: Mine, id: 170, type: hex}", ":1: element IE 170 has a field already"},
		{"an element that the collector reads: an initiator's bytes", "- {name: Mine, id: 231, type: hex}", ":1: element IE 231 has a field already"},
		{"an element that the collector reads: a responder's bytes", "- {name: Mine, id: 232, type: hex}", ":1: element IE 232 has a field already"},
		{"an element that the collector reads: an initiator's packets", "- {name: Mine, id: 298, type: hex}", ":1: element IE 298 has a field already"},
		{"an element that the collector reads: a responder's packets", "- {name: Mine, id: 299, type: hex}", ":1: element IE 299 has a field already"},
		{"an element that the collector reads: a segment", "- {name: Mine, id: 351, type: hex}", ":1: element IE 351 has a field already"},
		{"an element that the collector reads: a packet section", "- {name: Mine, id: 313, type: hex}", ":1: element IE 313 has a field already"},
		{"an element that the collector reads: a frame section", "- {name: Mine, id: 315, type: hex}", ":1: element IE 315 has a field already"},
		{"an element that the collector reads: a port of UDP", "- {name: Mine, id: 180, type: uint}", ":1: element IE 180 has a field already"},
		{"an element that the collector reads: a port of TCP", "- {name: Mine, id: 183, type: uint}", ":1: element IE 183 has a field already"},
		{"an element that the collector reads: a physical interface", "- {name: Mine, id: 252, type: uint}", ":1: element IE 252 has a field already"},
		{"an element that the collector reads: a physical egress interface", "- {name: Mine, id: 253, type: uint}", ":1: element IE 253 has a field already"},
		{"an id twice", "- {name: A, id: 1000, type: uint}\n\n- {name: B, id: 1000, pen: 0, type: hex}", ":3: element IE 1000 is there twice"},
		{"a name twice", "- {name: A, id: 1000, type: uint}\n- {name: A, id: 1001, type: hex}", ":2: name A is there twice"},
		{"no name", "- {id: 1000, type: uint}", ":1: name is missing"},
		{"no id", "- {name: A, type: uint}", ":1: id is missing"},
		{"no type", "- {name: A, id: 1000}", ":1: type is missing"},
		{"an id that is too large", "- {name: A, id: 65536, type: uint}", `:1: id "65536" is not allowed`},
		{"id 0", "- {name: A, id: 0, type: uint}", `:1: id "0" is not allowed`},
		{"an enterprise's id that is too large", "- {name: A, id: 40000, pen: 9, type: uint}", `:1: id 40000 is not allowed`},
		{"a wrong number", "- {name: A, id: 1000, pen: -1, type: uint}", `:1: pen "-1" is not allowed`},
		{"a name with blanks", `- {name: "A B", id: 1000, type: uint}`, `:1: name "A B" is not allowed`},
		{"an unknown key", "- {name: A, id: 1000, type: uint}\n- name: B\n  id: 1001\n  size: 4", `:4: key "size" is not allowed`},
		{"no list", "name: A", ":1: is no list"},
		{"no element", "- A", ":1: is no element"},
		{"no YAML", "- {name: A\n- [", ": "},
		{"a tab in the indentation", "# mine\n- name: A\n\tid: 1000\n  type: uint", ":3: "},
		{"a tab behind a dash", "# a\ttab\n-\tname: A\n\tid: 1000", ":2: has a tab in its indentation; use spaces"},
		{"a second document", "- {name: A, id: 1000, type: uint}\n---\n\n- {name: B, id: 1001, type: uint}", ":2: has a second YAML document; give one"},
		{"an empty second document", "- {name: A, id: 1000, type: uint}\n---\n", ":2: has a second YAML document; give one"},
		{"a second document behind an end", "- {name: A, id: 1000, type: uint}\n...\n# mine\n---\n- {name: B, id: 1001, type: uint}", ":4: has a second YAML document; give one"},
		{"no YAML in a second document", "- {name: A, id: 1000, type: uint}\n---\n- [", ": "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "elements.yaml")
			if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, stderr, code := runProgram(t, "-check", "-kube.snapshot", demoSnapshot, "-kube.labels", "app=App", "-fields.elements", file)
			if code != exitUsage || !strings.HasPrefix(stderr, "kube-enricher: -fields.elements: "+file) || !strings.Contains(stderr, tc.want) || strings.Contains(stderr, "\n") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "elements.yaml")
	if err := os.WriteFile(file, []byte("- {name: A, id: 40000, type: string}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-kube.off", "-fields.elements", file, "-"}, {"-kube.off", "-fields.elements", file + ".none"}, {"-kube.off", "-fields.elements", filepath.Dir(file)}} {
		if _, stderr, code := runProgram(t, args...); code != exitUsage || !strings.HasPrefix(stderr, "kube-enricher: -fields.elements: ") {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
	if _, stderr, code := runProgram(t, "-check", "-kube.off", "-fields.elements", file); code != exitDone {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
