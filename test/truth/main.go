// Truth writes tables of right values for captures: what Wireshark's tshark reads
// in them, under the names of schema v1, one row for each record. It shares no
// code with the collector.
//
//	go run ./test/truth testdata/captures/*.pcap
//
// makes NAME.tshark.csv beside each NAME.pcap.
package main

import (
	"encoding/csv"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// columns has the fields of the tables.
var columns = []string{
	"Type", "SequenceNum", "ObservationDomainId", "TimeReceived", "TimeFlowStart", "TimeFlowEnd",
	"SrcAddr", "DstAddr", "SrcPort", "DstPort", "Proto", "Bytes", "Packets", "InIf", "OutIf", "InIfName", "OutIfName",
	"SrcMac", "DstMac", "VlanId", "SrcVlan", "DstVlan", "Etype", "IPTos", "IPTTL", "IPv6FlowLabel", "FragmentId", "FragmentOffset",
	"TCPFlags", "IcmpType", "IcmpCode", "SrcNet", "DstNet", "NextHop", "SrcAS", "DstAS", "SamplingRate", "ForwardingStatus",
	"FlowDirection", "FlowEndReason", "TunnelType", "TunnelKey", "TunnelSrcAddr", "TunnelDstAddr", "TunnelProto", "TunnelSrcPort", "TunnelDstPort",
}

// texts has the columns that are empty, and not 0, where nothing was sent.
var texts = map[string]bool{
	"SrcAddr": true, "DstAddr": true, "NextHop": true, "SrcMac": true, "DstMac": true, "InIfName": true, "OutIfName": true,
	"TunnelSrcAddr": true, "TunnelDstAddr": true,
}

// row is a record: a value for each column that the exporter sent something for.
type row map[string]string

func (r row) set(column, value string) {
	if value != "" {
		r[column] = value
	}
}

func (r row) line() []string {
	line := make([]string, len(columns))
	for i, column := range columns {
		line[i] = r[column]
		if line[i] == "" && !texts[column] {
			line[i] = "0"
		}
	}
	return line
}

// node is an element of PDML, tshark's XML: a protocol, or a field with those in it.
type node struct {
	Name     string `xml:"name,attr"`
	Show     string `xml:"show,attr"`     // the value
	Showname string `xml:"showname,attr"` // the line that people read
	Nodes    []node `xml:",any"`
}

// find returns the first node of a name in the tree below n.
func (n *node) find(name string) *node {
	for i := range n.Nodes {
		if n.Nodes[i].Name == name {
			return &n.Nodes[i]
		}
		if found := n.Nodes[i].find(name); found != nil {
			return found
		}
	}
	return nil
}

// show returns the value of the first field of a name, in decimal if it is a hex
// number.
func (n *node) show(name string) string {
	found := n.find(name)
	if found == nil {
		return ""
	}
	if digits, ok := strings.CutPrefix(found.Show, "0x"); ok {
		if v, err := strconv.ParseUint(digits, 16, 64); err == nil {
			return strconv.FormatUint(v, 10)
		}
	}
	return found.Show
}

// first returns the first value that is there.
func (n *node) first(names ...string) string {
	for _, name := range names {
		if s := n.show(name); s != "" {
			return s
		}
	}
	return ""
}

func number(s string) uint64 {
	v, _ := strconv.ParseUint(s, 10, 64)
	return v
}

// packets reads a capture by tshark.
func packets(file string) ([]node, error) {
	cmd := exec.Command("tshark", "-r", file, "-d", "udp.port==2055,cflow", "-d", "udp.port==6343,sflow", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-T", "pdml")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var root node
	if err := xml.Unmarshal(out, &root); err != nil {
		return nil, err
	}
	return root.Nodes, nil
}

// rows returns the records of a capture.
func rows(file string) (list []row, err error) {
	all, err := packets(file)
	if err != nil {
		return nil, err
	}
	exporters := newExporters()
	for i := range all {
		received, _, _ := strings.Cut(all[i].show("frame.time_epoch"), ".")
		var found []row
		for j := range all[i].Nodes {
			switch protocol := &all[i].Nodes[j]; protocol.Name {
			case "cflow":
				found = append(found, exporters.message(all[i].show("ip.src"), protocol)...)
			case "sflow":
				found = append(found, datagram(protocol)...)
			}
		}
		for _, r := range found {
			r["TimeReceived"] = received
			// Contract: an sFlow sample has the time of its receipt.
			if r["Type"] == "SFLOW_5" {
				r["TimeFlowStart"], r["TimeFlowEnd"] = received, received
			}
		}
		list = append(list, found...)
	}
	return list, nil
}

func write(file string) error {
	list, err := rows(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	f, err := os.Create(strings.TrimSuffix(file, ".pcap") + ".tshark.csv")
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	lines := [][]string{columns}
	for _, r := range list {
		lines = append(lines, r.line())
	}
	if err := w.WriteAll(lines); err != nil {
		return err
	}
	return f.Close()
}

func main() {
	for _, file := range os.Args[1:] {
		if err := write(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
