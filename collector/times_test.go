package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const testMillis = uint64(testExport) * 1000

func TestTimeValues(t *testing.T) {
	end := "TimeFlowStartNs=1699999990000000000 TimeFlowEndNs=1699999999000000000"
	checkValues(t, []valueCase{
		{name: "uptime", record: []val{{22, uint32(50_000)}, {21, uint32(59_000)}}, want: end, only: 9},
		{name: "start before the uptime", record: []val{{22, ^uint32(0)}, {21, uint32(59_000)}}, want: "TimeFlowStartNs=1699999939999000000 TimeFlowEndNs=1699999999000000000", only: 9},
		{name: "start before the uptime began anew", record: []val{{22, ^uint32(0) - 99_999}, {21, uint32(59_000)}}, want: "TimeFlowStartNs=1699999840000000000 TimeFlowEndNs=1699999999000000000", only: 9},
		{name: "end after the uptime", record: []val{{22, uint32(50_000)}, {21, uint32(60_500)}}, want: "TimeFlowStartNs=1699999990000000000 TimeFlowEndNs=1700000000500000000", only: 9},
		{name: "uptime and absolute times", record: []val{{152, uint64(1)}, {22, uint32(50_000)}, {21, uint32(59_000)}}, want: end, only: 9},
		{name: "uptime with the boot time", record: []val{{160, testMillis - 60_000}, {22, uint32(50_000)}, {21, uint32(59_000)}}, want: end, only: 10},
		{name: "uptime of 50 days", record: []val{{160, testMillis - 1<<32 - 60_000}, {22, uint32(50_000)}, {21, uint32(59_000)}}, want: end, only: 10},
		{name: "uptime of 500 days", record: []val{{160, testMillis - 10<<32 - 60_000}, {22, uint32(50_000)}, {21, uint32(59_000)}}, want: end, only: 10},
		{name: "start before the uptime began anew in IPFIX", record: []val{{160, testMillis - 1<<32 - 5_000}, {22, ^uint32(0) - 4_999}, {21, uint32(4_000)}}, want: end, only: 10},
		{name: "softflowd in IPFIX", record: []val{{160, testMillis - 60_000}, {22, ^uint32(0)}, {21, uint32(59_000)}}, want: "TimeFlowStartNs=1699999939999000000 TimeFlowEndNs=1699999999000000000", only: 10},
		{name: "no boot time", record: []val{{160, uint64(0)}, {22, uint32(50_000)}, {21, uint32(59_000)}}, want: "TimeFlowStartNs=0 TimeFlowEndNs=0", only: 10},
		{name: "duration", record: []val{{152, testMillis - 10_000}, {161, uint32(9000)}}, want: end},
		{name: "duration in microseconds", record: []val{{152, testMillis - 10_000}, {162, uint32(9_000_000)}}, want: end},
		{name: "both durations", record: []val{{152, testMillis - 10_000}, {161, uint32(9000)}, {162, uint32(9_000_000)}}, want: end},
		{name: "duration and seconds", record: []val{{150, testExport - 10}, {161, uint32(9000)}}, want: end},
		{name: "duration and uptime", record: []val{{22, uint32(50_000)}, {161, uint32(9000)}}, want: end, only: 9},
		{name: "duration, uptime and boot time", record: []val{{160, testMillis - 60_000}, {22, uint32(50_000)}, {161, uint32(9000)}}, want: end, only: 10},
		{name: "duration and end", record: []val{{153, testMillis - 1000}, {161, uint32(9000)}}, want: end},
		{name: "duration beside an end", record: []val{{152, testMillis - 10_000}, {153, testMillis - 1000}, {161, uint32(7)}}, want: end},
		{name: "duration beside an end by uptime", record: []val{{160, testMillis - 60_000}, {22, uint32(50_000)}, {21, uint32(59_000)}, {161, uint32(7)}}, want: end, only: 10},
		{name: "duration without a time", record: []val{{161, uint32(9000)}}, want: "TimeFlowStartNs=0 TimeFlowEndNs=0"},
		{name: "observation in milliseconds", record: []val{{323, testMillis - 1}}, want: "TimeFlowStartNs=1699999999999000000 TimeFlowEndNs=1699999999999000000 ObservationTimeNs=1699999999999000000"},
		{name: "observation in seconds", record: []val{{322, testExport - 1}}, want: "TimeFlowStartNs=1699999999000000000 TimeFlowEndNs=1699999999000000000 ObservationTimeNs=1699999999000000000"},
		{name: "observation in microseconds", record: []val{{324, (uint64(testExport)+2208988800)<<32 | 1<<31}}, want: "TimeFlowStartNs=1700000000500000000 TimeFlowEndNs=1700000000500000000 ObservationTimeNs=1700000000500000000"},
		{name: "observation in nanoseconds", record: []val{{325, (uint64(testExport)+2208988800)<<32 | 1<<31}, {323, uint64(1)}}, want: "TimeFlowStartNs=1700000000500000000 ObservationTimeNs=1700000000500000000"},
		{name: "observation beside a start", record: []val{{323, testMillis}, {152, testMillis - 10_000}}, want: "TimeFlowStartNs=1699999990000000000 TimeFlowEndNs=0 ObservationTimeNs=1700000000000000000"},
		{name: "observation of 0", record: []val{{323, uint64(0)}, {4, uint8(6)}}, want: "TimeFlowStartNs=0 TimeFlowEndNs=0 ObservationTimeNs=0"},
		{name: "observation of 0 microseconds", record: []val{{324, uint64(0)}, {4, uint8(6)}}, want: "TimeFlowStartNs=0 TimeFlowEndNs=0 ObservationTimeNs=0"},
		{name: "duration beside an end of 0", record: []val{{152, testMillis - 10_000}, {153, uint64(0)}, {161, uint32(9000)}}, want: end},
		{name: "duration beside a start of 0", record: []val{{152, uint64(0)}, {153, testMillis - 1000}, {161, uint32(9000)}}, want: end},
		{name: "duration beside an end of 0 in NTP's format", record: []val{{152, testMillis - 10_000}, {155, uint64(0)}, {161, uint32(9000)}}, want: end},
		{name: "duration and a start of 0", record: []val{{152, uint64(0)}, {161, uint32(5000)}}, want: "TimeFlowStartNs=0 TimeFlowEndNs=0"},
		{name: "duration and times of 0", record: []val{{152, uint64(0)}, {153, uint64(0)}, {161, uint32(5000)}}, want: "TimeFlowStartNs=0 TimeFlowEndNs=0"},
		{name: "absolute times, milliseconds of 0", record: []val{{150, testExport - 10}, {151, testExport - 1}, {152, uint64(0)}, {153, uint64(0)}}, want: end},
		{name: "absolute times, seconds of 0", record: []val{{150, uint32(0)}, {151, uint32(0)}, {152, testMillis - 10_000}, {153, testMillis - 1000}}, want: end},
		{name: "absolute times, two in NTP's format, one 0", record: []val{{154, uint64(0)}, {156, (uint64(testExport-10) + 2208988800) << 32}, {153, testMillis - 1000}}, want: end},
		{name: "uptime of 0 beside absolute times", record: []val{{22, uint32(0)}, {21, uint32(0)}, {152, testMillis - 10_000}, {153, testMillis - 1000}}, want: end},
		{name: "uptime of 0 alone", record: []val{{22, uint32(0)}, {21, uint32(59_000)}}, want: "TimeFlowStartNs=1699999940000000000 TimeFlowEndNs=1699999999000000000", only: 9},
		{name: "uptime beside absolute times of 0", record: []val{{152, uint64(0)}, {153, uint64(0)}, {22, uint32(50_000)}, {21, uint32(59_000)}, {160, testMillis - 60_000}}, want: end},
		{name: "observation beside times of 0", record: []val{{152, uint64(0)}, {153, uint64(0)}, {323, testMillis}}, want: "TimeFlowStartNs=1700000000000000000 TimeFlowEndNs=1700000000000000000"},
		{name: "several starts, one 0", record: []val{{152, testMillis - 10_000}, {150, uint32(0)}, {153, uint64(0)}, {151, testExport - 1}}, want: end, only: 10},
	})
}

// TestFixedFormats reads NetFlow v1, v5 and v7, whose records tell the same.
func TestFixedFormats(t *testing.T) {
	long := func(r []byte) []byte { return append(slices.Clip(r), 0, 0, 0, 0) }
	const flow = "SrcAddr=10.244.0.5 DstAddr=10.96.0.1 SrcPort=40000 DstPort=443 ProtoName=TCP EtypeName=IPv4 InIf=1 OutIf=2 Packets=10 Bytes=1000 TCPFlags=27 " +
		"TimeFlowStartNs=1699999990000000000 TimeFlowEndNs=1699999999000000000 "
	icmp := func(r []byte, src, dst uint16) []byte {
		r = append([]byte(nil), r...)
		copy(r[32:], be(src, dst))
		r[38] = 1
		return r
	}
	uptimes := func(r []byte, first, last uint32) []byte {
		r = append([]byte(nil), r...)
		copy(r[24:], be(first, last))
		return r
	}
	for _, tc := range []struct {
		name     string
		datagram []byte
		want     string
	}{
		{"v1", v1Message(1, v1Record(40000)), flow + "Type=NETFLOW_V1 NextHop=10.244.0.1 IPTos=16 SequenceNum=0 SamplingRate=0 SrcNet=0 SrcAS=0"},
		{"v1 of 52 bytes", v1Message(2, long(v1Record(40000)), long(v1Record(40000))), flow + "Type=NETFLOW_V1 NextHop=10.244.0.1 IPTos=16|" + flow + "Type=NETFLOW_V1 NextHop=10.244.0.1 IPTos=16"},
		{"v5", v5Message(1, v5Record(40000)), flow + "Type=NETFLOW_V5 NextHop=0.0.0.0 IPTos=0 SequenceNum=7 SamplingRate=100 SrcNet=24 DstNet=16"},
		{"v7", v7Message(1, v7Record(40000)), flow + "Type=NETFLOW_V7 NextHop=0.0.0.0 IPTos=0 SequenceNum=7 SamplingRate=0 SrcNet=24 DstNet=16"},
		{"v1 ICMP", v1Message(1, icmp(v1Record(0), 0, 0x0303)), "IcmpType=3 IcmpCode=3 IcmpName=Destination-Unreachable DstPort=771"},
		{"v5 ICMP", v5Message(1, icmp(v5Record(0), 0, 0x0800)), "IcmpType=8 IcmpCode=0 IcmpName=Echo DstPort=2048"},
		{"v7 ICMP", v7Message(1, icmp(v7Record(0), 0, 0x0800)), "IcmpType=8 IcmpCode=0 IcmpName=Echo DstPort=2048"},
		{"v5 ICMP, nothing sent", v5Message(1, icmp(v5Record(0), 0, 0)), "IcmpType=0 IcmpCode=0 IcmpName="},
		{"v5 ICMP of fprobe", v5Message(1, icmp(v5Record(0), 3, 2)), "IcmpType=0 IcmpCode=0 IcmpName= SrcPort=3 DstPort=2"},
		{"v1 start before the uptime", v1Message(1, uptimes(v1Record(1), ^uint32(0), 60_500)), "TimeFlowStartNs=1699999939999000000 TimeFlowEndNs=1700000000500000000"},
		{"v5 start before the uptime", v5Message(1, uptimes(v5Record(1), ^uint32(0), 60_500)), "TimeFlowStartNs=1699999939999000000 TimeFlowEndNs=1700000000500000000"},
		{"v7 start before the uptime", v7Message(1, uptimes(v7Record(1), ^uint32(0), 60_500)), "TimeFlowStartNs=1699999939999000000 TimeFlowEndNs=1700000000500000000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, m := decodeAll(t, showFields(t, tc.want), tc.datagram)
			checkJoined(t, got, tc.want)
			if n := m.drops[dropMalformed].Load(); n != 0 {
				t.Errorf("%d malformed", n)
			}
			if !wholeMessage(tc.datagram) || wholeMessage(tc.datagram[:len(tc.datagram)-1]) {
				t.Error("not told from other payloads in a capture")
			}
		})
	}
}

// TestNetFlow1Length reads NetFlow v1 whose length does not fit its count. Records must
// be right or missing, never made of the bytes of two.
func TestNetFlow1Length(t *testing.T) {
	records := func(n, recordLen int, pad byte) []byte {
		var b []byte
		for i := range n {
			r := append(v1Record(uint16(40000+i)), make([]byte, recordLen-48)...)
			r[37] = pad
			b = append(b, r...)
		}
		return b
	}
	for _, tc := range []struct {
		name             string
		count, n, length int // by the header, and of the records that are there
		cut              int // bytes at the end
		pad              byte
		want             int
	}{
		{"52 bytes, cut by 1", 24, 24, 52, 1, 0, 23},
		{"52 bytes, cut by 51", 24, 24, 52, 51, 0, 23},
		{"48 bytes, cut by 1", 24, 24, 48, 1, 0, 23},
		{"52 bytes, count too high", 24, 20, 52, 0, 0, 20},
		{"52 bytes, count too low", 10, 20, 52, 0, 0, 10},
		{"48 bytes, count too high", 24, 20, 48, 0, 0, 20},
		{"48 bytes, count too low", 10, 20, 48, 0, 0, 10},
		{"52 bytes, cut to as many of 48", 24, 24, 52, 4 * 24, 0, 22},
		{"two of 52 bytes, cut to two of 48", 2, 2, 52, 8, 0, 1},
		{"48 bytes, as many as 12 of 52", 12, 13, 48, 0, 0, 12},
		{"48 bytes, cut to 12 of 52", 12, 14, 48, 48, 0, 12},
		{"two of 52 bytes, cut by 1", 2, 2, 52, 1, 0, 1},
		{"two of 48 bytes, cut by 1", 2, 2, 48, 1, 0, 1},
		{"52 bytes, padding that is not 0", 24, 24, 52, 1, 1, 1},
		{"48 bytes, padding that is not 0", 24, 24, 48, 1, 1, 1},
		{"48 bytes, padding that is not 0, not cut", 24, 24, 48, 0, 1, 24},
		{"one that is cut", 1, 1, 48, 1, 0, 0},
	} {
		b := v1Message(tc.count, records(tc.n, tc.length, tc.pad))
		got, m := decodeAll(t, tuple, b[:len(b)-tc.cut])
		var want []string
		for i := range tc.want {
			want = append(want, strings.Replace(basicTuple, "40000", fmt.Sprint(40000+i), 1))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", tc.name, got, want)
		}
		// A datagram of which records are used is not dropped: the rest of it is.
		datagrams, sets := m.drops[dropMalformed].Load(), m.sets[setMalformed].Load()
		if (datagrams == 1) != (tc.want == 0) || (sets == 1) != (tc.want != 0 && tc.want != tc.count) {
			t.Errorf("%s: %d datagrams, %d sets are malformed", tc.name, datagrams, sets)
		}
	}
}
