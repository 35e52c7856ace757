package collector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// optionsTemplate9 is an options template of NetFlow v9 with scopes of 4 bytes by
// their types, and fields.
func optionsTemplate9(id uint16, scopes []uint16, fields ...ie) []byte {
	b := be(id, uint16(4*len(scopes)), uint16(4*len(fields)))
	for _, s := range scopes {
		b = append(b, be(s, uint16(4))...)
	}
	for _, f := range fields {
		b = append(b, be(f.typ, f.length)...)
	}
	return b
}

// TestSampling has options data of all kinds, and the rate that records get.
func TestSampling(t *testing.T) {
	type sent struct {
		port uint16
		at   time.Duration
		b    []byte
	}
	options := func(port uint16, domain uint32, template, record []byte) []sent {
		return []sent{{port, 0, ipfixMessage(0, domain, set(3, template), set(300, record))}}
	}
	options9 := func(port uint16, domain uint32, template, record []byte) []sent {
		return []sent{{port, 0, v9Message(0, domain, set(1, template), set(300, record))}}
	}
	// tell has a port tell the rate of a domain.
	tell := func(port uint16, domain, rate uint32, at time.Duration) []sent {
		s := options(port, domain, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 0}), be(uint32(1), rate))
		s[0].at = at
		return s
	}
	many := func(n int, f func(i int) []sent) (all [][]sent) {
		for i := range n {
			all = append(all, f(i))
		}
		return all
	}
	tellOf := func(id uint16) func(port uint16, domain uint32, of uint64, rate uint32) []sent {
		return func(port uint16, domain uint32, of uint64, rate uint32) []sent {
			return options(port, domain, optionsRecord(300, 1, ie{id, 8, 0}, ie{305, 4, 0}, ie{306, 4, 0}), be(of, uint32(1), rate-1))
		}
	}
	selector, sequence, ingress, egress := tellOf(302), tellOf(301), tellOf(10), tellOf(14)
	// data has records of the fields 10, 14, 61, 302, 301.
	type record struct {
		in, out            uint32
		direction          uint8
		selector, sequence uint32
	}
	dataAt := func(port uint16, domain uint32, at time.Duration, records ...record) []sent {
		var content []byte
		for _, r := range records {
			content = append(content, be(r.in, r.out, r.direction, r.selector, r.sequence)...)
		}
		return []sent{{port, at, ipfixMessage(0, domain,
			set(2, templateRecord(256, ie{10, 4, 0}, ie{14, 4, 0}, ie{61, 1, 0}, ie{302, 4, 0}, ie{301, 4, 0})), set(256, content))}}
	}
	data := func(port uint16, domain uint32, records ...record) []sent { return dataAt(port, domain, 0, records...) }
	plain9 := func(port uint16, domain uint32) []sent {
		return []sent{{port, 0, v9Message(0, domain, set(0, templateRecord(256, ie{10, 4, 0}, ie{14, 4, 0}, ie{61, 1, 0})), set(256, be(uint32(7), uint32(8), uint8(0))))}}
	}
	// physical has one record of the fields 10 and 252.
	physical := func(port uint16, domain, in, of uint32) []sent {
		return []sent{{port, 0, ipfixMessage(0, domain, set(2, templateRecord(257, ie{10, 4, 0}, ie{252, 4, 0})), set(257, be(in, of)))}}
	}
	any1 := record{in: 1, out: 2}
	one := func(id uint16, length uint16, value any) []sent {
		return options(1, 1, optionsRecord(300, 1, ie{144, 4, 0}, ie{id, length, 0}), be(uint32(1), value))
	}
	all := func(fields []ie, values ...any) []sent {
		return options(1, 1, optionsRecord(300, 1, append([]ie{{302, 4, 0}}, fields...)...), be(append([]any{uint32(0)}, values...)...))
	}
	psamp := func(rest ...[]sent) [][]sent {
		return append([][]sent{
			selector(1, 1, 4, 100), selector(1, 1, 5, 20),
			options(1, 1, optionsRecord(300, 1, ie{301, 4, 0}, ie{302, 4, 0}), be(uint32(71), uint32(4), uint32(72), uint32(5))),
			options(1, 1, optionsRecord(300, 1, ie{301, 4, 0}, ie{10, 4, 0}, ie{302, 4, 0}, ie{302, 4, 0}), be(uint32(73), uint32(1), uint32(4), uint32(5))),
			options(1, 1, optionsRecord(300, 1, ie{301, 4, 0}, ie{302, 4, 0}, ie{302, 4, 0}), be(uint32(74), uint32(9), uint32(5))),
		}, rest...)
	}
	for _, tc := range []struct {
		name string
		sent [][]sent
		want string
	}{
		// What is a rate.
		{"nothing announced", [][]sent{data(1, 1, any1)}, "7"},
		{"samplingInterval", [][]sent{one(34, 4, uint32(100)), data(1, 1, any1)}, "100"},
		{"samplerRandomInterval", [][]sent{one(50, 2, uint16(100)), data(1, 1, any1)}, "100"},
		{"samplingProbability", [][]sent{one(311, 8, math.Float64bits(0.01)), data(1, 1, any1)}, "100"},
		{"samplingProbability of 4 bytes", [][]sent{one(311, 4, math.Float32bits(0.01)), data(1, 1, any1)}, "100"},
		{"samplingProbability of 0", [][]sent{one(311, 8, math.Float64bits(0)), data(1, 1, any1)}, "0"},
		{"samplingProbability above 1", [][]sent{one(311, 8, math.Float64bits(2)), data(1, 1, any1)}, "7"},
		{"samplingProbability of no number", [][]sent{one(311, 8, math.Float64bits(math.NaN())), data(1, 1, any1)}, "7"},
		{"305 and 306", [][]sent{all([]ie{{305, 4, 0}, {306, 4, 0}}, uint32(2), uint32(18)), data(1, 1, any1)}, "10"},
		{"305 and 306, no packet left out", [][]sent{all([]ie{{305, 4, 0}, {306, 4, 0}}, uint32(5), uint32(0)), data(1, 1, any1)}, "1"},
		{"305 alone", [][]sent{all([]ie{{305, 4, 0}}, uint32(512)), data(1, 1, any1)}, "512"},
		{"309 and 310", [][]sent{all([]ie{{309, 4, 0}, {310, 4, 0}}, uint32(2), uint32(512)), data(1, 1, any1)}, "256"},
		{"n out of N beside 305", [][]sent{all([]ie{{304, 2, 0}, {305, 4, 0}, {309, 4, 0}, {310, 4, 0}}, uint16(3), uint32(1), uint32(1), uint32(256)), data(1, 1, any1)}, "256"},
		{"n out of N beside 305, no algorithm", [][]sent{all([]ie{{305, 4, 0}, {306, 4, 0}, {309, 4, 0}, {310, 4, 0}}, uint32(1), uint32(0), uint32(1), uint32(256)), data(1, 1, any1)}, "256"},
		{"by count beside 309 and 310", [][]sent{all([]ie{{304, 2, 0}, {305, 4, 0}, {306, 4, 0}, {309, 4, 0}, {310, 4, 0}}, uint16(1), uint32(1), uint32(99), uint32(1), uint32(1)), data(1, 1, any1)}, "100"},
		{"by count beside 309 and 310 of 0", [][]sent{all([]ie{{304, 1, 0}, {309, 4, 0}, {310, 4, 0}, {305, 4, 0}, {306, 4, 0}}, uint8(1), uint32(0), uint32(0), uint32(1), uint32(99)), data(1, 1, any1)}, "100"},
		{"probability beside 305", [][]sent{all([]ie{{304, 2, 0}, {305, 4, 0}, {311, 4, 0}}, uint16(4), uint32(1), math.Float32bits(0.125)), data(1, 1, any1)}, "8"},
		{"a rate that changes", [][]sent{tell(1, 1, 100, 0), data(1, 1, any1), tell(1, 1, 200, 0), data(1, 1, any1)}, "100 200"},
		{"a rate that ends", [][]sent{tell(1, 1, 100, 0), data(1, 1, any1), tell(1, 1, 0, 0), data(1, 1, any1)}, "100 0"},
		{"by size of no population", [][]sent{all([]ie{{309, 4, 0}, {310, 4, 0}}, uint32(2), uint32(512)), data(1, 1, any1), all([]ie{{309, 4, 0}, {310, 4, 0}}, uint32(0), uint32(0)), data(1, 1, any1)}, "256 0"},

		// Whom it is for.
		{"v9 interface", [][]sent{options9(1, 0, optionsTemplate9(300, []uint16{2}, ie{34, 4, 0}), be(uint32(7), uint32(100), uint32(8), uint32(1000))), plain9(1, 0)}, "100"},
		{"v9 interface 0 beside the system", [][]sent{
			options9(1, 0, optionsTemplate9(300, []uint16{1}, ie{34, 4, 0}), be(uint32(7), uint32(100))),
			options9(1, 0, optionsTemplate9(301, []uint16{2}, ie{34, 4, 0}), nil),
			{{1, 0, v9Message(0, 0, set(301, be(uint32(0), uint32(1000))))}}, plain9(1, 0)}, "100"},
		{"v9 interface 0 alone", [][]sent{options9(1, 0, optionsTemplate9(300, []uint16{2}, ie{34, 4, 0}), be(uint32(0), uint32(100))), plain9(1, 0)}, "100"},
		{"interface 0 beside the domain", [][]sent{tell(1, 1, 100, 0), ingress(1, 1, 0, 1000), data(1, 1, any1, record{out: 2})}, "100 100"},
		{"physical interface", [][]sent{tellOf(252)(1, 1, 1, 100), tellOf(253)(1, 1, 2, 1000), data(1, 1, record{in: 1}, record{in: 1, out: 2, direction: 1}, record{in: 3})}, "100 1000 7"},
		{"physical interface beside a logical one", [][]sent{tellOf(252)(1, 1, 1, 100), ingress(1, 1, 7, 1000), physical(1, 1, 8, 1), physical(1, 1, 7, 1)}, "100 1000"},
		{"v9 system", [][]sent{options9(1, 0, optionsTemplate9(300, []uint16{1}, ie{34, 4, 0}), be(uint32(7), uint32(100))), plain9(1, 0)}, "100"},
		{"v9 sampler without scope", [][]sent{options9(1, 0, optionsTemplate9(300, nil, ie{48, 1, 0}, ie{49, 1, 0}, ie{50, 4, 0}), be(uint8(1), uint8(2), uint32(100))), plain9(1, 0)}, "100"},
		{"v9, another source id", [][]sent{options9(1, 5, optionsTemplate9(300, []uint16{1}, ie{34, 4, 0}), be(uint32(7), uint32(100))), plain9(1, 0)}, "100"},
		{"v9, other source ids that differ", [][]sent{
			options9(1, 5, optionsTemplate9(300, []uint16{1}, ie{34, 4, 0}), be(uint32(7), uint32(100))),
			options9(1, 6, optionsTemplate9(300, []uint16{1}, ie{34, 4, 0}), be(uint32(7), uint32(200))), plain9(1, 0)}, "7"},
		{"interface in", [][]sent{ingress(1, 1, 1, 100), ingress(1, 1, 2, 1000), data(1, 1, record{in: 1, out: 2}, record{in: 2, out: 1}, record{in: 3, out: 1})}, "100 1000 7"},
		{"interface out", [][]sent{ingress(1, 1, 1, 100), ingress(1, 1, 2, 1000), data(1, 1, record{in: 1, out: 2, direction: 1}, record{in: 2, out: 1, direction: 1})}, "1000 100"},
		{"interface by direction", [][]sent{ingress(1, 1, 1, 100), egress(1, 1, 1, 1000), data(1, 1, record{in: 1}, record{out: 1, direction: 1})}, "100 1000"},
		{"interface before the domain", [][]sent{ingress(1, 1, 1, 100), tell(1, 1, 50, 0), data(1, 1, record{in: 1}, record{in: 2})}, "100 50"},
		{"interface before the selector", [][]sent{ingress(1, 1, 1, 100), selector(1, 1, 4, 50), data(1, 1, record{in: 1, selector: 4}, record{in: 2, selector: 4})}, "100 50"},
		{"interface without sampling", [][]sent{ingress(1, 1, 1, 100), options(1, 1, optionsRecord(300, 1, ie{10, 4, 0}, ie{34, 4, 0}), be(uint32(2), uint32(0))), data(1, 1, record{in: 1}, record{in: 2})}, "100 0"},
		{"interface beside a scope", [][]sent{options(1, 1, optionsRecord(300, 1, ie{149, 4, 0}, ie{10, 4, 0}, ie{34, 4, 0}), be(uint32(1), uint32(1), uint32(100), uint32(1), uint32(2), uint32(200))), data(1, 1, record{in: 1}, record{in: 2})}, "100 200"},
		{"selector", [][]sent{selector(1, 1, 4, 100), selector(1, 1, 5, 200), data(1, 1, record{selector: 4}, record{selector: 5})}, "100 200"},
		{"selector before the domain", [][]sent{selector(1, 1, 4, 100), tell(1, 1, 50, 0), data(1, 1, record{selector: 4}, record{selector: 5}, any1)}, "100 50 50"},
		{"a selector that ends", [][]sent{selector(1, 1, 4, 100), selector(1, 1, 5, 200), one(302, 4, uint32(5)), options(1, 1, optionsRecord(300, 1, ie{302, 4, 0}, ie{34, 4, 0}), be(uint32(4), uint32(0))), data(1, 1, record{selector: 4}, record{selector: 5}, any1)}, "0 200 7"},
		{"selectors that differ, none named", [][]sent{selector(1, 1, 4, 100), selector(1, 1, 5, 200), data(1, 1, any1, record{selector: 6})}, "7 7"},
		{"selectors that agree, none named", [][]sent{selector(1, 1, 4, 100), selector(1, 1, 5, 100), selector(1, 2, 4, 200), data(1, 1, any1, record{selector: 6}), data(1, 2, any1), data(1, 3, any1)}, "100 100 200 7"},
		{"selectors that come to agree", [][]sent{selector(1, 1, 4, 100), selector(1, 1, 5, 200), data(1, 1, any1), selector(1, 1, 5, 100), data(1, 1, any1)}, "7 100"},
		{"interfaces that agree", [][]sent{ingress(1, 1, 1, 100), ingress(1, 1, 2, 100), ingress(1, 2, 1, 200), data(1, 1, record{in: 9}), data(1, 3, record{in: 9})}, "100 7"},
		{"selector of another domain", [][]sent{selector(1, 1, 4, 100), selector(1, 2, 4, 200), data(1, 1, record{selector: 4}), data(1, 2, record{selector: 4})}, "100 200"},
		{"selection sequence with a rate", [][]sent{sequence(1, 1, 71, 100), sequence(1, 1, 72, 200), data(1, 1, record{sequence: 71}, record{sequence: 72})}, "100 200"},
		{"selection sequences of selectors", psamp(data(1, 1, record{sequence: 71}, record{sequence: 72}, record{sequence: 73}, record{sequence: 74})), "100 20 2000 20"},
		{"selection sequence announced first", [][]sent{
			options(1, 1, optionsRecord(300, 1, ie{301, 4, 0}, ie{302, 4, 0}), be(uint32(71), uint32(4))), data(1, 1, record{sequence: 71}), selector(1, 1, 4, 100), data(1, 1, record{sequence: 71})}, "7 100"},
		{"domain named by the scope", [][]sent{options(1, 9, optionsRecord(300, 1, ie{149, 4, 0}, ie{34, 4, 0}), be(uint32(1), uint32(100), uint32(2), uint32(200))), data(1, 1, any1), data(1, 2, any1)}, "100 200"},
		{"domains differ", [][]sent{tell(1, 1, 100, 0), tell(1, 2, 200, 0), data(1, 1, any1), data(1, 2, any1), data(1, 3, any1)}, "100 200 7"},
		{"the only rate of a port is for its other domains", [][]sent{tell(1, 1, 100, 0), tell(1, 2, 100, 0), data(1, 3, any1)}, "100"},

		// Who announced it.
		{"two ports", [][]sent{tell(1, 1, 100, 0), tell(2, 1, 200, 0), data(1, 1, any1), data(2, 1, any1), data(3, 1, any1)}, "100 200 7"},
		{"another port's", [][]sent{tell(1, 1, 100, 0), data(2, 1, any1)}, "100"},
		{"two other ports agree", [][]sent{tell(1, 1, 100, 0), tell(2, 1, 100, 0), data(3, 1, any1)}, "100"},
		{"two other ports come to agree", [][]sent{tell(1, 1, 100, 0), tell(2, 1, 200, 0), data(3, 1, any1), tell(2, 1, 100, 0), data(3, 1, any1)}, "7 100"},
		{"another port's of 30 min ago", [][]sent{tell(1, 1, 100, 0), dataAt(2, 1, 29*time.Minute, any1), dataAt(2, 1, 31*time.Minute, any1), dataAt(1, 1, 24*time.Hour, any1)}, "100 7 100"},
		{"another port's, announced again", [][]sent{tell(1, 1, 100, 0), tell(1, 1, 100, 20*time.Minute), dataAt(2, 1, 49*time.Minute, any1), dataAt(2, 1, 51*time.Minute, any1)}, "100 7"},
		{"one of two that differ has gone", [][]sent{tell(1, 1, 100, 0), tell(2, 1, 200, 20*time.Minute), dataAt(3, 1, 21*time.Minute, any1), dataAt(3, 1, 31*time.Minute, any1)}, "7 200"},
		{"its own domain's before another port's interface's", [][]sent{tell(1, 1, 100, 0), ingress(2, 1, 1, 200), data(1, 1, any1), data(3, 1, any1)}, "100 200"},
		{"its own only rate before another port's", [][]sent{tell(1, 1, 100, 0), tell(2, 2, 200, 0), data(1, 2, any1)}, "100"},
		{"many other ports agree", append(many(100, func(i int) []sent { return tell(uint16(i+10), 1, 100, 0) }), data(1, 1, any1)), "100"},
		{"one of many ports differs", append(many(100, func(i int) []sent { return tell(uint16(i+10), 1, 100+uint32(i/99), 0) }), data(1, 1, any1)), "7"},
		{"one of many ports differed", append(many(100, func(i int) []sent { return tell(uint16(i+10), 1, 100+uint32((i+99)/100), 0) }), data(1, 1, any1)), "7"},
		{"many ports differ", append(many(100, func(i int) []sent { return tell(uint16(i+10), 1, uint32(i+100), 0) }), data(1, 1, any1), data(20, 1, any1)), "7 110"},
		{"sampling is off, the configuration does not matter", [][]sent{tell(1, 1, 0, 0), data(1, 1, any1)}, "0"},
		{"sampling is off at another port", [][]sent{tell(1, 1, 0, 0), data(2, 1, any1)}, "0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newWith(t, Config{Sampling: []SamplingRule{{netip.MustParsePrefix("0.0.0.0/0"), 7}}})
			var got []string
			d := c.NewDecoder(&sink{f: func(r *flow.Record) { got = append(got, fmt.Sprint(r.Msg.SamplingRate)) }})
			for _, sent := range tc.sent {
				for _, s := range sent {
					d.Datagram(netip.AddrPortFrom(testSource.Addr(), s.port), AnyFlow, s.b, testTime+int64(s.at))
				}
			}
			if got := strings.Join(got, " "); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			checkAccounts(t, c.exporters)
			checkCaches(t, d)
		})
	}
}

// TestWriteExporters shows the sampling rates that were announced.
func TestWriteExporters(t *testing.T) {
	c, _ := newWith(t, Config{})
	show := func() string {
		var b bytes.Buffer
		if err := c.WriteExporters(&b); err != nil {
			t.Fatal(err)
		}
		var infos []struct {
			Exporter string
			Sampling []rateInfo
		}
		if err := json.Unmarshal(b.Bytes(), &infos); err != nil {
			t.Fatalf("%v: %s", err, b.String())
		}
		return fmt.Sprint(infos)
	}
	if got := show(); got != "[]" {
		t.Errorf("got %s of no exporter", got)
	}
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	other := netip.MustParseAddrPort("192.0.2.77:5")
	for _, source := range []netip.AddrPort{testSource, other} {
		d.Datagram(source, AnyFlow, ipfixMessage(0, 1,
			set(3, optionsRecord(300, 1, ie{10, 4, 0}, ie{34, 4, 0}), optionsRecord(301, 1, ie{144, 4, 0}, ie{34, 4, 0})),
			set(300, be(uint32(7), uint32(100))), set(301, be(uint32(1), uint32(0)))), testTime)
	}
	const rates = "[{%d 10 1 domain 0 0 2023-11-14 22:13:20 +0000 UTC} {%d 10 1 ingress interface 7 100 2023-11-14 22:13:20 +0000 UTC}]"
	want := fmt.Sprintf("[{%v "+rates+"} {%v "+rates+"}]", testSource.Addr(), testSource.Port(), testSource.Port(), other.Addr(), 5, 5)
	if got := show(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestRatesWithoutLock decodes records that name interfaces: no memory is taken for a
// record.
func TestRatesWithoutLock(t *testing.T) {
	c, _ := newWith(t, Config{})
	var sum uint64
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { sum += r.Msg.SamplingRate }})
	var rates, records []byte
	for i := range uint32(40) {
		rates, records = append(rates, be(i+1, 100+i)...), append(records, be(i+1)...)
	}
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{10, 4, 0}, ie{34, 4, 0})), set(300, rates)), testTime)
	b := ipfixMessage(0, 1, set(2, templateRecord(256, ie{10, 4, 0})), set(256, records))
	d.Datagram(testSource, AnyFlow, b, testTime)
	if want := uint64(40*100 + 39*40/2); sum != want {
		t.Errorf("rates add up to %d, want %d", sum, want)
	}
	data := ipfixMessage(0, 1, set(256, records))
	if n := testing.AllocsPerRun(100, func() { d.Datagram(testSource, AnyFlow, data, testTime) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	e := c.exporters.get(testSource.Addr(), 0)
	e.mu.Lock() // no lock is asked for
	defer e.mu.Unlock()
	d.Datagram(testSource, AnyFlow, data, testTime)
}
