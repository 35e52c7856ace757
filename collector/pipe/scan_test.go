package pipe

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func mapping(t testing.TB, s string) []flow.MapEntry {
	t.Helper()
	m, err := flow.ParseMapping(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const allAddresses = "SrcAddr=Src,DstAddr=Dst,NextHop=Nxt,BgpNextHop=BgpNext,SamplerAddress=Sampler,TunnelSrcAddr=TunSrc,TunnelDstAddr=TunDst"

func TestScan(t *testing.T) {
	s := newScanner(mapping(t, "SrcAddr=Src,DstAddr=Dst,BgpNextHop=BgpNext"))
	for _, c := range []struct {
		line  string
		close int // -1: not scanned
		empty bool
		snake bool
		keys  string
		ends  string
		times [numTimes]uint64
	}{
		{line: `{}`, close: 1, empty: true},
		{line: " {\t} \r", close: 3, empty: true},
		{line: `{"a":1}`, close: 6},
		{line: `{"a" : [ ] , "b":{ } , "c":[1,{"d":[null,true,false,"x"]}]} `, close: 58},
		{line: `{"SrcAddr":"10.0.0.1","DstAddr":"fd00::1"}`, close: 41, ends: "10.0.0.1 fd00::1 -"},
		{line: `{"src_addr":"10.0.0.1","dst_addr":"::ffff:10.0.0.2","bgp_next_hop":""}`, close: 69, snake: true, ends: "10.0.0.1 ::ffff:10.0.0.2 -"},
		{line: `{"SrcAddr":"10.0.0.1","SrcAddr":"10.0.0.2"}`, close: 42, ends: "10.0.0.2 - -"},
		{line: `{"SrcAddr":"10.0.0.1","SrcAddr":null}`, close: 36, ends: "- - -"},
		{line: `{"SrcAddr":10,"DstAddr":"fe80::1%eth0","BgpNextHop":"10.0.0.256"}`, close: 64, ends: "- - -"},
		{line: `{"Src\u0041ddr":"\u0031\u0030.0\u002e0.1"}`, close: 41, ends: "10.0.0.1 - -"},
		{line: `{"x":{"SrcAddr":"10.0.0.1","SrcPod":"a"}}`, close: 40},

		{line: `{"SrcAddr":"","src_port":1}`, close: 26},
		{line: `{"src_port":1,"SrcAddr":""}`, close: 26},
		{line: `{"SrcPort":1,"src_addr":""}`, close: 26, snake: true},
		{line: `{"other":1,"src_port":1,"SrcPort":1}`, close: 35, snake: true},
		{line: `{"other":1,"SrcPort":1,"src_port":1}`, close: 35},
		{line: `{"time_received":1}`, close: 18, snake: true, times: [numTimes]uint64{1e9}},

		{line: `{"SrcPod":"a","src_pod":"b","Cluster":"c","cluster":"d","SrcPod":"e","DstWorkloadKind":1,"bgp_next_host_ip":"f","NxtPod":"g"}`, close: 124,
			keys: "SrcPod src_pod Cluster cluster DstWorkloadKind bgp_next_host_ip"},
		{line: `{"\u0053rcPod":"a","srcpod":1,"SRCPOD":2}`, close: 40, keys: "SrcPod"},

		{line: `{"TimeReceived":1628419398,"TimeFlowStart":1628419390,"TimeFlowEnd":0}`, close: 69,
			times: [numTimes]uint64{1628419398e9, 1628419390e9}},
		{line: `{"time_received_ns":1628419398000000001,"time_flow_start_ns":"1628419390000000002","time_flow_end_ns":1628419391000000003}`, close: 121, snake: true,
			times: [numTimes]uint64{1628419398000000001, 1628419390000000002, 1628419391000000003}},
		{line: `{"TimeFlowStart":1628419390,"TimeFlowStartMs":1628419390123,"TimeFlowEndNs":5,"TimeFlowEnd":6,"TimeFlowEndMs":7}`, close: 111,
			times: [numTimes]uint64{0, 1628419390123e6, 5}},
		{line: `{"time_received_ns":"2021-08-08T10:43:18.5Z","TimeFlowStart":"2021-08-08T12:43:18+02:00"}`, close: 88, snake: true,
			times: [numTimes]uint64{1628419398500000000, 1628419398e9}},
		{line: `{"TimeReceived":1.628419398e9,"TimeFlowStart":1.5,"TimeFlowEnd":"2.5"}`, close: 69,
			times: [numTimes]uint64{1628419398e9, 1.5e9, 2.5e9}},
		{line: `{"TimeReceived":-1,"TimeFlowStart":1e300,"TimeFlowEnd":99999999999}`, close: 66},
		{line: `{"TimeReceived":null,"TimeFlowStart":"soon","TimeFlowEnd":"9999-01-01T00:00:00Z","TimeReceivedNs":99999999999999999999}`, close: 118},
		{line: `{"TimeReceived":1,"TimeReceived":""}`, close: 35},

		{line: ``, close: -1},
		{line: ` `, close: -1},
		{line: `null`, close: -1},
		{line: `[{}]`, close: -1},
		{line: `{} {}`, close: -1},
		{line: `{}x`, close: -1},
		{line: `{"a":1`, close: -1},
		{line: `{"a":1,}`, close: -1},
		{line: `{"a":1,,"b":1}`, close: -1},
		{line: `{"a":[1,]}`, close: -1},
		{line: `{"a":[1}}`, close: -1},
		{line: `{"a":{"b"}}`, close: -1},
		{line: `{a:1}`, close: -1},
		{line: `{"a" 1}`, close: -1},
		{line: `{"a":01}`, close: -1},
		{line: `{"a":+1}`, close: -1},
		{line: `{"a":.1}`, close: -1},
		{line: `{"a":1.}`, close: -1},
		{line: `{"a":1e}`, close: -1},
		{line: `{"a":-}`, close: -1},
		{line: `{"a":NaN}`, close: -1},
		{line: `{"a":tru}`, close: -1},
		{line: `{"a":"\x"}`, close: -1},
		{line: `{"a":"\u12g4"}`, close: -1},
		{line: "{\"a\":\"tab\there\"}", close: -1},
		{line: "\ufeff{}", close: -1},
		{line: `{'a':1}`, close: -1},
		{line: `{"a":1} // comment`, close: -1},
	} {
		ok := s.scan([]byte(c.line))
		if ok != (c.close >= 0) || ok != json.Valid([]byte(c.line)) && !strings.HasPrefix(c.line, "[") && c.line != "null" {
			t.Errorf("%s: %v", c.line, ok)
			continue
		}
		if !ok {
			continue
		}
		if s.close != c.close || s.empty != c.empty || s.snake() != c.snake || strings.Join(s.keys, " ") != c.keys {
			t.Errorf("%s: close %d, empty %v, snake %v, keys %q", c.line, s.close, s.empty, s.snake(), s.keys)
		}
		if c.ends == "" {
			c.ends = "- - -"
		}
		var ends []string
		for _, a := range s.ends[:3] {
			if a.IsValid() {
				ends = append(ends, a.String())
			} else {
				ends = append(ends, "-")
			}
		}
		if got := strings.Join(ends, " "); got != c.ends {
			t.Errorf("%s: addresses %s, want %s", c.line, got, c.ends)
		}
		for i, want := range c.times {
			if got := s.time(i); got != want {
				t.Errorf("%s: time %d is %d, want %d", c.line, i, got, want)
			}
		}
	}
}

func TestDepth(t *testing.T) {
	s := newScanner(nil)
	for _, depth := range []int{1, 2, 9998, 9999, 10000, 100000} {
		for _, brackets := range [][2]string{{"[", "]"}, {`{"":`, "}"}} {
			line := []byte(`{"":` + strings.Repeat(brackets[0], depth-1) + "1" + strings.Repeat(brackets[1], depth-1) + "}")
			want := json.Valid(line)
			if want != (depth <= 9999) && depth != 10000 {
				t.Fatal("encoding/json has another limit")
			}
			if got := s.scan(line); got != want {
				t.Errorf("depth %d of %s: %v, encoding/json %v", depth, brackets[0], got, want)
			}
		}
	}
}

// oracle reads a line by encoding/json.
func oracle(line []byte) (map[string]json.RawMessage, bool) {
	if !json.Valid(line) {
		return nil, false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(line, &members) != nil || members == nil {
		return nil, false
	}
	return members, true
}

// FuzzScanLine compares with encoding/json: the verdict, the place of the last
// brace, which generated names are taken, and the addresses.
func FuzzScanLine(f *testing.F) {
	for _, line := range []string{
		`{}`, ` { } `, `{"a":1}`, `null`, `[1]`, ``, "{\r}", `{"a":{"b":[1,2,{"c":null}]},"d":-1.5e+3}`,
		`{"SrcAddr":"10.0.0.1","DstAddr":"fd00::1","TimeReceived":1628419398}`,
		`{"src_addr":"\u0031.2.3.4","src_pod":"\ud83d\ude00\ud800","Cluster":"\"\\\/\b\f\n\r\t"}`,
		`{"SrcAddr":"::ffff:1.2.3.4","SrcAddr":"","Src\u0050od":true}`,
		`{"TimeReceivedNs":"2021-08-08T10:43:18.5Z","TimeFlowStart":1e9,"TimeFlowEndMs":"12"}`,
		`{"a":0,"b":00}`, `{"a":"` + "\x7f\xff\x1f" + `"}`, `{"a":"12345678\"12345678\\12345678"}`,
	} {
		f.Add([]byte(line))
	}
	entries := mapping(f, "SrcAddr=Src,DstAddr=Dst")
	generated := map[string]bool{"Cluster": true, "cluster": true, "K8S_ClusterName": true}
	for _, e := range entries {
		for _, a := range flow.Attrs {
			generated[e.Prefix+a.Name] = true
			generated[e.Snake+"_"+a.Snake] = true
		}
		for _, a := range flow.NetObservAttrs {
			generated[e.Prefix+a.Name] = true
		}
	}
	s := newScanner(entries)
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		got := s.scan(line)
		if !bytes.Equal(line, before) {
			t.Fatal("the line was changed")
		}
		members, want := oracle(line)
		if got != want {
			t.Fatalf("verdict %v, want %v", got, want)
		}
		if !got {
			return
		}
		if want := bytes.LastIndexByte(line, '}'); s.close != want {
			t.Errorf("closing brace at %d, want %d", s.close, want)
		}
		if s.empty != (len(members) == 0) {
			t.Errorf("empty %v with %d members", s.empty, len(members))
		}
		var keys []string
		for key := range members {
			if generated[key] {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		found := slices.Clone(s.keys)
		slices.Sort(found)
		if !slices.Equal(keys, found) {
			t.Errorf("keys %q, want %q", found, keys)
		}
		for i, e := range entries {
			field := &flow.Fields[e.Field]
			pascal, both := members[field.Name]
			snake, ok := members[field.Snake]
			if both = both && ok; both {
				continue // whichever comes last, which a map does not tell
			}
			if ok {
				pascal = snake
			}
			var text string
			var want netip.Addr
			if json.Unmarshal(pascal, &text) == nil && !strings.Contains(text, "%") {
				want, _ = netip.ParseAddr(text)
			}
			if s.ends[i] != want {
				t.Errorf("%s is %v, want %v", field.Name, s.ends[i], want)
			}
		}
	})
}

// Fields of labels are kept apart from those that a line has, as the other
// generated ones are.
func TestScanLabels(t *testing.T) {
	s := newScanner(mapping(t, "SrcAddr=Src"), flow.Label{Name: "app", Field: "AppName", Snake: "app_name"})
	if !s.scan([]byte(`{"SrcAppName":"x","src_app_name":"y","AppName":"z","SrcPod":"p"}`)) {
		t.Fatal("no object")
	}
	if got := strings.Join(s.keys, ","); got != "SrcAppName,src_app_name,SrcPod" {
		t.Errorf("keys %s", got)
	}
}
