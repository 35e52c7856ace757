package collector

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// identityAnnouncement is what a port of the address announces: a or b of each kind.
type identityAnnouncement struct {
	port    uint16
	at      time.Duration // before the data, which comes from port 9
	variant byte
	domain  uint32
}

// identityRow is a row of the table in docs/reliability.md: what the ports of an address
// have announced, and what then counts for data of port 9, domain 1.
type identityRow struct {
	what      string
	announced []identityAnnouncement
	columns   [4]string // template, sampling rate, boot time, names
}

const (
	own        = "its own"
	ownLater   = "its own, when it comes"
	others     = "the other's"
	othersIn10 = "the other's, after 10 s"
	none       = "none"
	waits      = "none: data waits"
)

var identityRows = []identityRow{
	{"the port itself, lately or long ago", []identityAnnouncement{{9, 25 * time.Hour, 'a', 1}}, [4]string{own, own, own, own}},
	{"the port itself, and other ports something else", []identityAnnouncement{{9, time.Hour, 'a', 1}, {1, time.Second, 'b', 1}}, [4]string{own, own, own, own}},
	{"another port, within 30 minutes", []identityAnnouncement{{1, 29 * time.Minute, 'b', 1}}, [4]string{othersIn10, others, others, others}},
	{"several other ports, the same, within 30 minutes", []identityAnnouncement{{1, 29 * time.Minute, 'b', 1}, {2, time.Minute, 'b', 1}}, [4]string{othersIn10, others, others, others}},
	{"several other ports, different things", []identityAnnouncement{{1, 29 * time.Minute, 'a', 1}, {2, time.Minute, 'b', 1}}, [4]string{waits, none, none, none}},
	{"another port, longer ago", []identityAnnouncement{{1, 31 * time.Minute, 'b', 1}}, [4]string{waits, none, none, none}},
	{"one port longer ago, another one something else lately", []identityAnnouncement{{1, 31 * time.Minute, 'a', 1}, {2, time.Minute, 'b', 1}}, [4]string{waits, others, others, others}},
	{"another port, for another domain", []identityAnnouncement{{1, time.Minute, 'b', 2}}, [4]string{waits, others, none, others}},
	{"the port itself for another domain, another port for this one", []identityAnnouncement{{9, time.Minute, 'a', 2}, {1, time.Minute, 'b', 1}}, [4]string{waits, own, others, own}},
	{"the port itself, after the data", []identityAnnouncement{{9, -5 * time.Second, 'a', 1}, {1, time.Minute, 'b', 1}}, [4]string{ownLater, own, own, own}},
	{"nobody", nil, [4]string{waits, none, none, none}},
}

// announce has a port announce a or b of each kind.
func (a identityAnnouncement) announce(d *Decoder, now int64) {
	template := []ie{{8, 4, 0}, {10, 4, 0}, {22, 4, 0}, {1, 4, 0}, {2, 4, 0}}
	rate, boot := uint32(100), now/1e6-1_000_000
	if a.variant == 'b' {
		template[3], template[4] = template[4], template[3]
		rate, boot = 200, now/1e6-2_000_000
	}
	d.Datagram(netip.AddrPortFrom(testSource.Addr(), a.port), AnyFlow, ipfixMessage(0, a.domain,
		set(2, templateRecord(256, template...)),
		set(3, optionsRecord(300, 1, ie{149, 4, 0}, ie{34, 4, 0}, ie{160, 8, 0}), optionsRecord(301, 1, ie{10, 4, 0}, ie{82, 1, 0})),
		set(300, be(a.domain, rate, uint64(boot))), set(301, be(uint32(5), string(a.variant)))), now-int64(a.at))
}

// TestIdentity says whose templates and options data count, and holds the table of
// docs/reliability.md to it.
func TestIdentity(t *testing.T) {
	doc, err := os.ReadFile("../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range identityRows {
		t.Run(row.what, func(t *testing.T) {
			got := [4]string{identityTemplate(t, &row)}
			copy(got[1:], identityOptions(t, &row))
			if got != row.columns {
				t.Errorf("got %q, want %q", got, row.columns)
			}
			line := fmt.Sprintf("| %s | %s |\n", row.what, strings.Join(row.columns[:], " | "))
			if !strings.Contains(string(doc), line) {
				t.Errorf("docs/reliability.md lacks the row %s", line)
			}
		})
	}
}

// identityData is a record of 1,000 bytes and 10 packets of template a.
func identityData() []byte {
	return ipfixMessage(0, 1, set(256, be(netip.MustParseAddr("10.0.0.1"), uint32(5), uint32(1000), uint32(1000), uint32(10))))
}

func identityTemplate(t *testing.T, row *identityRow) string {
	c, _ := newWith(t, Config{TemplatesHold: time.Hour})
	var variants []string
	d := c.NewDecoder(&sink{f: func(r *flow.Record) {
		variants = append(variants, map[uint64]string{1000: "a", 10: "b"}[r.Msg.Bytes])
	}})
	for _, a := range row.announced {
		if a.at >= 0 {
			a.announce(d, testTime)
		}
	}
	tick := func(now int64) {
		c.exporters.lendTemplates(now, false)
		d.decodeLent()
	}
	d.Datagram(netip.AddrPortFrom(testSource.Addr(), 9), AnyFlow, identityData(), testTime)
	atOnce := len(variants)
	tick(testTime + 9e9)
	for _, a := range row.announced {
		if a.at < 0 {
			a.announce(d, testTime)
		}
	}
	before10 := len(variants)
	tick(testTime + 10e9)
	switch got := strings.Join(variants, ""); {
	case got == "a" && atOnce == 1:
		return own
	case got == "a" && before10 == 1:
		return ownLater
	case got == "b" && before10 == 0 && c.own.fallbacks[fallbackPort].Load() == 1:
		return othersIn10
	case got == "" && c.exporters.numHeld.Load() == 1:
		return waits
	default:
		return fmt.Sprintf("%q, %d at once", got, atOnce)
	}
}

func identityOptions(t *testing.T, row *identityRow) []string {
	c, _ := newWith(t, Config{TemplatesHold: time.Hour, Fields: everyField()})
	var got []string
	which := func(a, b bool) string {
		switch {
		case a && row.hasOwn():
			return own
		case a || b:
			return others
		}
		return none
	}
	d := c.NewDecoder(&sink{f: func(r *flow.Record) {
		start := int64(r.Msg.TimeFlowStartNs/1e9) - testTime/1e9
		name := string(r.Extra.InIfName)
		got = []string{
			which(r.Msg.SamplingRate == 100, r.Msg.SamplingRate == 200),
			which(start == -999, start == -1999), which(name == "a", name == "b"),
		}
	}})
	for _, a := range row.announced {
		a.announce(d, testTime)
	}
	d.Datagram(netip.AddrPortFrom(testSource.Addr(), 9), AnyFlow,
		ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{10, 4, 0}, ie{22, 4, 0}, ie{1, 4, 0}, ie{2, 4, 0}))), testTime)
	d.Datagram(netip.AddrPortFrom(testSource.Addr(), 9), AnyFlow, identityData(), testTime+6e9)
	return got
}

func (row *identityRow) hasOwn() bool {
	for _, a := range row.announced {
		if a.port == 9 {
			return true
		}
	}
	return false
}
