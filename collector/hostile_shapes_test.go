package collector

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// hostileShape is what a hostile sender might send: once before, and then load, over and
// over. The first shape is that of honest records, by which the others are measured.
type hostileShape struct {
	name string
	make func() (before, load []datagram)
}

// from makes datagrams of one source.
func from(source netip.AddrPort, messages ...[]byte) []datagram {
	gs := make([]datagram, len(messages))
	for i, m := range messages {
		gs[i] = datagram{source, m, testTime}
	}
	return gs
}

// fromTest makes datagrams of testSource.
func fromTest(messages ...[]byte) []datagram { return from(testSource, messages...) }

// inMTU is a set's content of a datagram of Ethernet's size.
const inMTU = 1440

// recordsOf is a shape of as many records as fit a datagram.
func recordsOf(name string, record func(i int) []byte, fields ...ie) hostileShape {
	return hostileShape{name, func() (before, load []datagram) {
		return fromTest(ipfixMessage(0, 1, set(2, templateRecord(256, fields...)))), fromTest(recordsMessage(256, record))
	}}
}

// recordsMessage is a data set of as many records as fit a datagram.
func recordsMessage(id uint16, record func(i int) []byte) []byte {
	var content []byte
	for i := 0; ; i++ {
		r := record(i)
		if len(content)+len(r) > inMTU {
			return ipfixMessage(0, 1, set(id, content))
		}
		content = append(content, r...)
	}
}

// optionsOf is a shape of records of options data.
func optionsOf(name string, record func(i int) []byte, fields ...ie) hostileShape {
	return hostileShape{name, func() (before, load []datagram) {
		return fromTest(ipfixMessage(0, 1, set(3, optionsRecord(300, 1, fields...)))), fromTest(recordsMessage(300, record), recordsMessage(300, func(i int) []byte { return record(i + 1) }))
	}}
}

// with puts datagrams before a shape.
func with(before func() []datagram, s hostileShape) hostileShape {
	return hostileShape{s.name, func() (b, load []datagram) {
		b, load = s.make()
		return append(before(), b...), load
	}}
}

func sameRecord(v ...any) func(int) []byte { return func(int) []byte { return be(v...) } }

// numbered returns fields of one byte each, of elements from first on.
func numbered(first, n int, pen uint32) []ie {
	fields := make([]ie, n)
	for i := range fields {
		fields[i] = ie{uint16(first + i), 1, pen}
	}
	return fields
}

// templatesOf sends templates in datagrams that each hold some of them.
func templatesOf(n, perMessage int, fields func(i int) []ie) []datagram {
	var gs []datagram
	for at := 0; at < n; at += perMessage {
		records := repeat(min(perMessage, n-at), func(i int) []byte { return templateRecord(uint16(256+at+i), fields(at+i)...) })
		gs = append(gs, fromTest(ipfixMessage(0, 1, set(2, records...)))...)
	}
	return gs
}

// setsOf sends sets of the templates in turn, in datagrams of Ethernet's size.
func setsOf(templates int, content []byte) []datagram {
	perMessage := max(inMTU/(4+len(content)), 1)
	var gs []datagram
	for at := 0; at < templates; at += perMessage {
		gs = append(gs, fromTest(ipfixMessage(0, 1, repeat(min(perMessage, templates-at), func(i int) []byte { return set(uint16(256+at+i), content) })...))...)
	}
	return gs
}

// zeroLength returns fields without length, and last.
func zeroLength(last ie) []ie {
	fields := make([]ie, 1023, 1024)
	for i := range fields {
		fields[i] = ie{uint16(1000 + i), 0, 0}
	}
	return append(fields, last)
}

// otherPorts has as many ports as count tell something in options data.
func otherPorts(messages ...[]byte) []datagram {
	var gs []datagram
	for port := range 64 {
		gs = append(gs, from(fromPort(port), messages...)...)
	}
	return gs
}

// tellRates are options data with the rates of 250 interfaces.
func tellRates() []byte {
	return ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{10, 2, 0}, ie{34, 2, 0})),
		set(300, repeat(250, func(i int) []byte { return be(uint16(i+1), uint16(i+1)) })...))
}

// tellNames are options data with the names of 250 interfaces.
func tellNames() []byte {
	return ipfixMessage(0, 1, set(3, optionsRecord(301, 1, ie{10, 2, 0}, ie{82, 2, 0})),
		set(301, repeat(250, func(i int) []byte { return be(uint16(i+1), "xy") })...))
}

// hostileShapes are the dearest that we know of, of each kind.
func hostileShapes() []hostileShape {
	return slices.Concat([]hostileShape{{"honest records", func() (before, load []datagram) {
		return fromTest(ipfixMessage(0, 1, set(2, basicTemplate(256)))),
			fromTest(ipfixMessage(0, 1, set(256, slices.Repeat([][]byte{basicRecord(40000)}, 40)...)))
	}}}, recordShapes(), setShapes(), templateShapes(), optionsShapes(), sflowShapes(), sourceShapes())
}

// recordShapes are records that are short, or have many fields.
func recordShapes() []hostileShape {
	port := func(i int) []byte { return be(uint8(i)) }
	shapes := []hostileShape{
		recordsOf("records of one byte", sameRecord(uint8(6)), ie{4, 1, 0}),
		recordsOf("biflows of one byte", sameRecord(uint8(6)), ie{231, 1, 0}),
		recordsOf("biflows of two bytes", sameRecord(uint8(6), uint8(1)), ie{4, 1, 0}, ie{1, 1, penReverse}),
		recordsOf("interfaces in one byte", port, ie{10, 1, 0}),
		recordsOf("applications in one byte", port, ie{95, 1, 0}),
		with(func() []datagram {
			return append(otherPorts(tellNames(), tellRates()), fromTest(tellNames(), tellRates())...)
		},
			recordsOf("interfaces of biflows", func(i int) []byte { return be(uint8(i), uint8(1)) }, ie{10, 1, 0}, ie{1, 1, penReverse})),
		with(func() []datagram {
			return append(otherPorts(tellNames(), tellRates()), fromTest(tellNames(), tellRates())...)
		},
			recordsOf("physical interfaces", port, ie{252, 1, 0})),
		recordsOf("frames of one byte", sameRecord(uint8(6)), ie{315, 1, 0}),
		recordsOf("packets of one byte", sameRecord(uint8(0x45)), ie{313, 1, 0}),
		recordsOf("frame and packet", sameRecord(uint8(0), uint8(0x45)), ie{315, 1, 0}, ie{313, 1, 0}),
		recordsOf("IPFIX times of one byte", sameRecord(uint8(6)), ie{152, 1, 0}),
		recordsOf("protocol 1 without type", sameRecord(uint8(1)), ie{4, 1, 0}),
		recordsOf("records of options in variable length", sameRecord(uint8(0)), ie{4, variableLength, 0}),
		recordsOf("zero-length fields, variable", sameRecord(uint8(1), uint8(1)), zeroLength(ie{2000, variableLength, 0})...),
		recordsOf("zero-length fields, fixed", sameRecord(uint8(1)), zeroLength(ie{2000, 1, 0})...),
		recordsOf("zero-length reverse counters", sameRecord(uint8(1)), append(slices.Repeat([]ie{{1, 0, penReverse}}, 1023), ie{2000, 1, 0})...),
		with(func() []datagram { return otherPorts(tellRates()) }, recordsOf("rates of other ports' interfaces", port, ie{10, 1, 0})),
		with(func() []datagram { return otherPorts(tellNames()) }, recordsOf("names of other ports' interfaces", port, ie{10, 1, 0})),
		with(func() []datagram { return otherPorts(tellNames()) }, recordsOf("names of other ports, both interfaces", func(i int) []byte { return be(uint8(i), uint8(i+1)) }, ie{10, 1, 0}, ie{14, 1, 0})),
		with(func() []datagram { return fromTest(tellRates()) }, recordsOf("rates of ever other interfaces", port, ie{10, 1, 0})),
		with(func() []datagram { return fromTest(tellNames(), tellRates()) }, recordsOf("rates and names of interfaces", port, ie{10, 1, 0})),
		with(func() []datagram { return append(otherPorts(tellNames(), tellRates()), fromTest()...) }, recordsOf("rates and names of other ports", port, ie{10, 1, 0})),
		with(func() []datagram {
			return otherPorts(ipfixMessage(0, 1, set(3, optionsRecord(302, 1, ie{302, 2, 0}, ie{34, 2, 0})), set(302, be(uint16(1), uint16(5)))))
		}, recordsOf("selectors in one byte", port, ie{302, 1, 0})),
		recordsOf("user's elements", func(int) []byte { return slices.Repeat([]byte{6}, 20) }, numbered(1, 20, 6871)...),
	}
	for _, f := range []struct {
		name string
		ie   ie
	}{
		{"raw addresses", ie{8, 1, 0}}, {"next hops", ie{15, 1, 0}}, {"MPLS addresses", ie{47, 1, 0}}, {"counters", ie{1, 1, 0}},
		{"variable addresses", ie{8, variableLength, 0}}, {"variable counters", ie{1, variableLength, 0}}, {"variable times", ie{152, variableLength, 0}},
		{"variable MACs", ie{56, variableLength, 0}}, {"variable names", ie{82, variableLength, 0}}, {"unknown elements", ie{5000, variableLength, 0}},
		{"variable reverse counters", ie{1, variableLength, penReverse}},
	} {
		n := 700
		record := slices.Repeat([]byte{0}, n-1)
		shapes = append(shapes, recordsOf("many "+f.name, func(int) []byte { return append(slices.Clone(record), 1, 1) },
			append(slices.Repeat([]ie{f.ie}, n-1), ie{4, 2, 0})...))
	}
	return append(shapes,
		recordsOf("many elements", func(int) []byte { return slices.Repeat([]byte{1}, 360) }, numbered(1, 360, 0)...),
		recordsOf("many variable elements", func(int) []byte { return slices.Repeat([]byte{0, 1, 1}, 120) }, func() []ie {
			fields := numbered(1, 240, 0)
			for i := range fields {
				fields[i].length = variableLength
			}
			return fields
		}()...),
		recordsOf("label stacks", func(int) []byte { return slices.Repeat([]byte{1}, 10) }, numbered(70, 10, 0)...),
	)
}

// setShapes are short sets, with and without a template.
func setShapes() []hostileShape {
	plans := func(name string, templates, perMessage int, content []byte, fields func(i int) []ie) hostileShape {
		return hostileShape{name, func() (before, load []datagram) {
			return templatesOf(templates, perMessage, fields), setsOf(templates, content)
		}}
	}
	// Those of one address do not fill the cache of record decoders.
	fromFour := func(s hostileShape) hostileShape {
		return hostileShape{s.name + " from four addresses", func() (before, load []datagram) {
			b, l := s.make()
			for i := range 4 {
				for _, g := range b {
					// Each address has shapes of its own: the length of the last field differs.
					g.payload = slices.Clone(g.payload)
					g.payload[len(g.payload)-1] += byte(i)
					g.source = forged(i)
					before = append(before, g)
				}
				for _, g := range l {
					g.source = forged(i)
					load = append(load, g)
				}
			}
			return before, load
		}}
	}
	many := func(n int, more ...ie) func(i int) []ie {
		return func(i int) []ie {
			fields := append(numbered(1, n, 0), more...)
			fields[n-1] = ie{uint16(20000 + i), 1, 0}
			return fields
		}
	}
	long := func(i int) []ie { return []ie{{82, uint16(50_000 + i), 0}} }
	ones := func(n int) []byte { return slices.Repeat([]byte{1}, n) }
	return []hostileShape{
		{"data sets without template", func() (before, load []datagram) { return nil, setsOf(9000, nil)[:20] }},
		{"data sets of one byte without template", func() (before, load []datagram) { return nil, setsOf(9000, ones(1))[:20] }},
		{"sets of reserved ids", func() (before, load []datagram) {
			return nil, fromTest(ipfixMessage(0, 1, slices.Repeat([][]byte{set(77)}, 360)...))
		}},
		{"sets behind the message", func() (before, load []datagram) {
			b := ipfixMessage(0, 1, slices.Repeat([][]byte{set(256, ones(1), make([]byte, 3))}, 180)...)
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)-8*60))
			return fromTest(ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0})))), fromTest(b)
		}},
		plans("empty sets of 124 templates", 124, 1, nil, func(i int) []ie { return append(numbered(400+i, 259, 0), ie{uint16(20000 - i), uint16(65000), 0}) }),
		plans("empty sets of long records", 4000, 500, nil, long),
		plans("short sets of long records", 4000, 500, ones(1), long),
		plans("plans of one byte", 12_000, 300, ones(1), func(i int) []ie { return []ie{{uint16(400 + i), 1, 0}} }),
		plans("plans of two bytes", 12_000, 150, ones(2), func(i int) []ie { return []ie{{uint16(400 + i), 1, 0}, {1, 1, penReverse}} }),
		plans("plans of 10 elements", 6000, 30, ones(10), many(10)),
		plans("plans of 100 elements", 1000, 3, ones(100), many(100)),
		plans("plans of 340 elements", 400, 1, ones(340), many(340)),
		plans("plans of 340 elements in both directions", 400, 1, ones(341), many(340, ie{1, 1, penReverse})),
		fromFour(plans("plans of 340 elements", 400, 1, ones(344), many(340))),
		fromFour(plans("plans of 341 elements, biflows", 400, 1, ones(345), many(340, ie{1, 1, penReverse}, ie{30_000, 1, 0}))),
		plans("plans of many reverse elements", 400, 1, ones(180), func(i int) []ie { return append(numbered(1, 179, penReverse), ie{uint16(20000 + i), 1, 0}) }),
		plans("plans of the same elements", 400, 1, ones(340), func(i int) []ie {
			return append(slices.Repeat([]ie{{8, 1, 0}}, 339), ie{uint16(20000 + i), 1, 0})
		}),
		{"ever new shapes", func() (before, load []datagram) {
			for at := 0; at < 16_000; at += 80 {
				load = append(load, fromTest(ipfixMessage(0, 1, repeat(80, func(i int) []byte {
					return append(set(2, templateRecord(256, ie{uint16(400 + at + i), 1, 0})), set(256, ones(1))...)
				})...))...)
			}
			return nil, load
		}},
		{"domains of one template", func() (before, load []datagram) {
			for domain := range uint32(20_000) {
				load = append(load, fromTest(ipfixMessage(0, domain, set(256, ovsRecord(testSource.Addr(), testSource.Addr(), 1))))...)
			}
			return fromTest(ipfixMessage(0, 1, set(2, templateRecord(256, ovsFields()...)))), load
		}},
	}
}

// templateShapes are templates that come and change.
func templateShapes() []hostileShape {
	change := func(ones []byte) []byte {
		return ipfixMessage(0, 1, repeat(100, func(i int) []byte {
			return append(set(2, templateRecord(256, ie{4, uint16(i%2 + 1), 0})), set(256, ones)...)
		})...)
	}
	waiting := func() []byte { return ipfixMessage(0, 1, slices.Repeat([][]byte{set(9999)}, 16000)...) }
	other := func() []byte {
		return ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 2, 0}, ie{34, 2, 0}), optionsRecord(301, 1, ie{160, 8, 0})),
			set(300, repeat(20, func(i int) []byte { return be(uint16(i+1), uint16(i+1)) })...), set(301, be(uint64(testExport)*1000)))
	}
	return []hostileShape{
		{"templates", func() (before, load []datagram) { return nil, fromTest(ipfixMessage(0, 1, smallTemplates(8000))) }},
		{"withdrawals", func() (before, load []datagram) {
			return nil, fromTest(ipfixMessage(0, 1, set(2, repeat(360, func(i int) []byte { return be(uint16(256+i), uint16(0)) })...)))
		}},
		{"ever new templates", func() (before, load []datagram) {
			for at := range 200 {
				load = append(load, fromTest(ipfixMessage(0, 1, set(2, repeat(180, func(i int) []byte {
					return templateRecord(uint16(256+i), ie{uint16(400 + 180*at + i), 4, 0})
				})...)))...)
			}
			return nil, load
		}},
		{"templates of many domains", func() (before, load []datagram) {
			for domain := range uint32(3000) {
				load = append(load, fromTest(ipfixMessage(0, domain, set(2, repeat(170, func(i int) []byte {
					return templateRecord(uint16(256+i), ie{uint16(400 + i), 4, 0})
				})...)))...)
			}
			return nil, load
		}},
		{"large templates push out small ones", func() (before, load []datagram) {
			for at := range 64 {
				load = append(load, fromTest(ipfixMessage(0, 1, smallTemplates(180)), ipfixMessage(0, 2, set(2, templateRecord(uint16(256+at), numbered(400+at, 340, 0)...))))...)
			}
			for domain := range uint32(800) {
				before = append(before, fromTest(ipfixMessage(0, 10+domain, smallTemplates(180)))...)
			}
			return before, load
		}},
		{"templates while data sets wait", func() (before, load []datagram) {
			return fromTest(waiting()), fromTest(ipfixMessage(0, 1, smallTemplates(8000)))
		}},
		{"templates that data sets wait for", func() (before, load []datagram) {
			return nil, fromTest(ipfixMessage(0, 1, append(repeat(4000, func(i int) []byte { return set(uint16(256 + i)) }), smallTemplates(4000))...))
		}},
		{"templates that change", func() (before, load []datagram) { return nil, fromTest(change([]byte{6, 6})) }},
		{"templates that change beside rates of other ports", func() (before, load []datagram) {
			return otherPorts(tellRates(), other()), fromTest(change([]byte{6, 6}))
		}},
		{"templates that change beside rates of other domains", func() (before, load []datagram) {
			return append(otherPorts(other()), fromTest(be(other()[:12], uint32(2), other()[16:]))...), fromTest(change([]byte{6, 6}))
		}},
	}
}

// optionsShapes are options data that change what is known.
func optionsShapes() []hostileShape {
	selectors := []ie{{302, 1, 0}, {302, 1, 0}, {302, 1, 0}, {302, 1, 0}, {34, 1, 0}}
	domains := func(i int) []byte { return be(uint8(i%64+1), uint8(1), uint8(i/64+i)) }
	interleaved := func(name string, field ie, before func() []datagram) hostileShape {
		return hostileShape{name, func() (b, load []datagram) {
			if before != nil {
				b = before()
			}
			b = append(b, fromTest(ipfixMessage(0, 1, set(3, optionsRecord(300, 1, field)), set(2, templateRecord(256, ie{4, 1, 0}))))...)
			return b, fromTest(ipfixMessage(0, 1, repeat(144, func(i int) []byte {
				return append(set(300, []byte{byte(i%250 + 1)}), set(256, []byte{6})...)
			})...))
		}}
	}
	return []hostileShape{
		optionsOf("sampling rates that change", func(i int) []byte { return be(uint16(i%250+1), uint16(i+1)) }, ie{302, 2, 0}, ie{34, 2, 0}),
		optionsOf("sampling rates in one byte", func(i int) []byte { return be(uint8(i + 1)) }, ie{34, 1, 0}),
		optionsOf("sampling rates of four selectors", func(i int) []byte { return be(uint8(i+1), uint8(i+2), uint8(i+3), uint8(i+4), uint8(i/250+i)) }, selectors...),
		optionsOf("sampling rates of two interfaces", func(i int) []byte { return be(uint8(i+1), uint8(i+2), uint8(i/250+i)) }, ie{10, 1, 0}, ie{14, 1, 0}, ie{34, 1, 0}),
		{"sampling rates of scopes of NetFlow v9", func() (before, load []datagram) {
			record := func(i int) []byte { return be(uint8(i%250+1), uint8(i/250+i)) }
			for n := range 2 {
				b := recordsMessage(300, func(i int) []byte { return record(i + n) })
				load = append(load, fromTest(v9Message(0, 1, b[16:]))...)
			}
			return fromTest(v9Message(0, 1, set(1, v9OptionsRecord(300, 1, ie{2, 1, 0}, ie{34, 1, 0})))), load
		}},
		optionsOf("rates of ever other interfaces in options data", func(i int) []byte { return be(uint8(i>>8+1), uint16(i), uint8(i)) }, ie{10, 3, 0}, ie{34, 1, 0}),
		optionsOf("selection sequences", func(i int) []byte { return be(uint8(i+1), uint8(i+2)) }, ie{301, 1, 0}, ie{302, 1, 0}),
		optionsOf("boot times in one byte", func(i int) []byte { return be(uint8(i + 1)) }, ie{160, 1, 0}),
		optionsOf("options data that stays", sameRecord(uint8(7)), ie{34, 1, 0}),
		optionsOf("options data of nothing", sameRecord(uint8(7)), ie{2000, 1, 0}),
		optionsOf("zero-length fields, options", sameRecord(uint8(1)), zeroLength(ie{2000, 1, 0})...),
		optionsOf("many options", func(int) []byte { return slices.Repeat([]byte{1}, 360) }, numbered(1, 360, 0)...),
		optionsOf("names that change", func(i int) []byte { return be(uint8(i%250+1), uint8(i/250+i+1)) }, ie{10, 1, 0}, ie{82, 1, 0}),
		optionsOf("names that stay", func(i int) []byte { return be(uint8(i%250+1), uint8(1)) }, ie{10, 1, 0}, ie{82, 1, 0}),
		optionsOf("names of one interface in 64 domains", domains, ie{149, 1, 0}, ie{10, 1, 0}, ie{82, 1, 0}),
		optionsOf("names of applications", func(i int) []byte { return be(uint8(i), uint8(i/250+i+1)) }, ie{95, 1, 0}, ie{96, 1, 0}),
		{"names of many interfaces", func() (before, load []datagram) {
			for at := range 100 {
				load = append(load, fromTest(recordsMessage(301, func(i int) []byte { return be(uint8(1), uint16(at*360+i), "x") }))...)
			}
			return fromTest(ipfixMessage(0, 1, set(3, optionsRecord(301, 1, ie{10, 3, 0}, ie{82, 1, 0})))), load
		}},
		{"names of one interface of many ports", func() (before, load []datagram) {
			message := func(text string) []byte { return ipfixMessage(0, 1, set(301, be(uint8(1), text))) }
			for port := range 100 {
				before = append(before, from(fromPort(port), ipfixMessage(0, 1, set(3, optionsRecord(301, 1, ie{10, 1, 0}, ie{82, 1, 0}))))...)
				load = append(load, from(fromPort(port), message("x"), message("y"))...)
			}
			return before, load
		}},
		interleaved("rates between records", ie{34, 1, 0}, nil),
		interleaved("boot times between records", ie{160, 1, 0}, nil),
		interleaved("boot times between records, rates of other ports", ie{160, 1, 0}, func() []datagram { return otherPorts(tellRates()) }),
		interleaved("rates between records, names of other ports", ie{34, 1, 0}, func() []datagram { return otherPorts(tellNames()) }),
	}
}

// sflowShapes are samples of many small parts.
func sflowShapes() []hostileShape {
	samples := func(name string, sample []byte) hostileShape {
		return hostileShape{name, func() (before, load []datagram) {
			return nil, fromTest(sflowMessage(slices.Repeat([][]byte{sample}, min(max(1400/len(sample), 1), 1000))...))
		}}
	}
	tags := slices.Repeat(be(uint16(1), uint16(0x8100)), 40)
	extension := slices.Repeat(be(uint8(60), uint8(0), make([]byte, 6)), 40)
	routes := be(uint8(43), uint8(0), uint8(4), uint8(0), uint8(255), uint8(0), uint16(0))
	return []hostileShape{
		samples("sFlow samples", flowSample(1, 2, rawHeader(1, 100, ethernet(0x0800, ipv4Packet(17, 0, udpHeader(10)))))),
		samples("sFlow samples without a packet", flowSample(1, 2)),
		samples("sFlow samples that are empty", sflowSample(1, nil)),
		samples("sFlow counters", sflowSample(2, nil)),
		samples("sFlow discarded packets", sflowSample(5, be(uint32(1), uint32(1), uint32(1), uint32(0), uint32(1), uint32(2), uint32(256), uint32(1), rawHeader(1, 9, nil)))),
		samples("sFlow records", flowSample(1, 2, slices.Repeat([][]byte{rawHeader(1, 100, nil)}, 50)...)),
		samples("sFlow structures that are empty", flowSample(1, 2, slices.Repeat([][]byte{structure(1)}, 170)...)),
		samples("sFlow unknown structures", flowSample(1, 2, slices.Repeat([][]byte{structure(999)}, 170)...)),
		samples("sFlow tags", flowSample(1, 2, slices.Repeat([][]byte{rawHeader(1, 100, ethernet(0x8100, tags))}, 7)...)),
		samples("sFlow extension headers", flowSample(1, 2, slices.Repeat([][]byte{rawHeader(1, 100, ethernet(0x86dd, ipv6Packet(60, extension)))}, 3)...)),
		samples("sFlow segments", flowSample(1, 2, slices.Repeat([][]byte{rawHeader(12, 100, ipv6Packet(43, slices.Repeat(routes, 31)))}, 4)...)),
		samples("sFlow label stacks", flowSample(1, 2, slices.Repeat([][]byte{rawHeader(13, 100, make([]byte, 8))}, 40)...)),
		samples("sFlow tunnels", flowSample(1, 2, rawHeader(11, 100, slices.Repeat(ipv4Packet(4, 0, nil), 33)))),
		samples("sFlow gateways", flowSample(1, 2, slices.Repeat([][]byte{structure(1003, uint32(0), make([]byte, 12), uint32(0), uint32(0), uint32(0))}, 30)...)),
		samples("sFlow path of many segments", flowSample(1, 2, structure(1003, uint32(0), make([]byte, 12), uint32(160), make([]byte, 8*160), uint32(0), uint32(0)))),
	}
}

// sourceShapes are of many sources.
func sourceShapes() []hostileShape {
	sources := func(name string, n int, of func(i int) netip.AddrPort, message func(i int) []byte, before func() []datagram) hostileShape {
		return hostileShape{name, func() (b, load []datagram) {
			if before != nil {
				b = before()
			}
			for i := range n {
				load = append(load, datagram{of(i), message(i), testTime})
			}
			return b, load
		}}
	}
	empty := func(int) []byte { return ipfixMessage(0, 1) }
	return []hostileShape{
		sources("NetFlow v5", 1, fromPort, func(int) []byte { return v5Message(1, v5Record(1)) }, nil),
		sources("NetFlow v1", 1, fromPort, func(int) []byte { return v1Message(1, v1Record(1)) }, nil),
		sources("empty messages of one source", 1, fromPort, empty, nil),
		sources("empty messages of ports", 60_000, fromPort, empty, nil),
		sources("empty messages of addresses", 300_000, forged, empty, nil),
		sources("empty messages of domains", 100_000, func(int) netip.AddrPort { return testSource }, func(i int) []byte { return ipfixMessage(0, uint32(i)) }, nil),
		sources("sequence numbers that jump", 100_000, func(i int) netip.AddrPort { return forged(i / 2) }, func(i int) []byte { return ipfixMessage(uint32(i%2*1000), 1) }, nil),
		sources("sequence numbers of one source that jump", 2000, fromPort, func(i int) []byte { return ipfixMessage(uint32(i*7919), uint32(i%256)) }, nil),
		sources("templates of ports", 60_000, fromPort, func(int) []byte { return ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0}))) }, nil),
		sources("templates of addresses", 100_000, forged, func(int) []byte { return ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0}))) }, nil),
		sources("records of ports", 60_000, fromPort, func(int) []byte {
			return ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0})), set(256, []byte{6}))
		}, nil),
		sources("records of ports, rates of others", 60_000, fromPort, func(int) []byte {
			return ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0})), set(256, []byte{6}))
		}, func() []datagram { return otherPorts(tellRates(), tellNames()) }),
		sources("new shapes of ports", 60_000, fromPort, func(i int) []byte {
			return ipfixMessage(0, 1, set(2, templateRecord(256, ie{uint16(400 + i), 1, 0}), templateRecord(257, ie{uint16(400 + i), 2, 0})),
				set(256, []byte{6}), set(257, []byte{6, 6}))
		}, nil),
		sources("new shapes of addresses", 100_000, forged, func(i int) []byte {
			return ipfixMessage(0, 1, set(2, templateRecord(256, ie{uint16(400 + i%30_000), 1, 0})), set(256, []byte{6}))
		}, nil),
		sources("NetFlow v5 of addresses", 100_000, forged, func(int) []byte { return v5Message(1, v5Record(1)) }, nil),
		sources("held sets of domains", 100_000, func(int) netip.AddrPort { return testSource }, func(i int) []byte {
			return ipfixMessage(0, uint32(i), set(256, []byte{6}))
		}, nil),
		sources("held sets of ports", 60_000, fromPort, func(int) []byte { return ipfixMessage(0, 1, set(256, []byte{6})) }, nil),
		sources("agents of sFlow", 100_000, func(int) netip.AddrPort { return testSource }, func(i int) []byte {
			return be(uint32(5), uint32(1), uint32(i), uint32(0), uint32(i), uint32(1000), uint32(0))
		}, nil),
		sources("templates of addresses, withdrawn", 100_000, forged, func(int) []byte {
			return ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0}), be(uint16(256), uint16(0))))
		}, nil),
		sources("held sets of addresses", 100_000, forged, func(int) []byte { return ipfixMessage(0, 1, set(256, []byte{6})) }, nil),
	}
}

// hostileDecoder returns a decoder that keeps all that hostile senders may ask for, once
// it has seen what comes before.
func hostileDecoder(tb testing.TB, before []datagram) (*Collector, *Decoder) {
	log, _ := logtest.NewNullLogger()
	var elements []flow.ExtraElement
	for i := range uint16(20) {
		elements = append(elements, flow.ExtraElement{Element: flow.Element{PEN: 6871, ID: i + 1}, Name: "x", Type: flow.ElementUint})
	}
	c, err := New(Config{TemplatesHold: time.Minute, Elements: elements}, nil, log, prometheus.NewPedanticRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	d.wantedNames = nameIfs | nameVRFs | nameApplicationID
	for _, g := range before {
		d.Datagram(g.source, AnyFlow, g.payload, g.received)
	}
	return c, d
}

// costBytes is what a datagram's cost is shared by: a short one takes a system call, too.
func costBytes(b []byte) int { return max(len(b), 64) }

// BenchmarkHostile tells what a byte of a hostile datagram costs us, and how many times a
// byte of honest records that is.
func BenchmarkHostile(b *testing.B) {
	honest := 0.0
	for i, s := range hostileShapes() {
		before, load := s.make()
		b.Run(s.name, func(b *testing.B) {
			_, d := hostileDecoder(b, before)
			n, bytes := 0, 0
			for b.Loop() {
				g := &load[n%len(load)]
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
				bytes += costBytes(g.payload)
				n++
			}
			cost := float64(b.Elapsed().Nanoseconds()) / float64(bytes)
			if i == 0 {
				honest = cost
			}
			b.ReportMetric(cost, "ns/byte")
			b.ReportMetric(0, "ns/op")
			if honest > 0 {
				b.ReportMetric(cost/honest, "x-honest")
			}
		})
	}
}
