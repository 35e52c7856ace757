package collector

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestSharing finds addresses that several exporters share: those whose address was
// translated. A restarted exporter and one of several ports are one exporter.
func TestSharing(t *testing.T) {
	template := func(domain uint32) []byte { return ipfixMessage(0, domain, set(2, basicTemplate(256))) }
	data := func(domain uint32) []byte { return ipfixMessage(0, domain, set(256, basicRecord(1))) }
	process := func(id uint32) []byte {
		return ipfixMessage(0, 0, set(2, ovsTemplate(256)), set(3, optionsRecord(462, 1, ie{144, 4, 0}, ie{167, 8, 0})), set(462, be(id, uint64(0))))
	}
	v9 := v9Message(0, 0, set(0, basicTemplate(256)))
	type sent struct {
		port uint16
		at   time.Duration
		b    []byte
	}
	const s, m, h = time.Second, time.Minute, time.Hour
	for _, tc := range []struct {
		name string
		sent []sent
		want bool
	}{
		{"one", []sent{{1, 0, template(0)}, {1, m, data(0)}}, false},
		{"two at once", []sent{{1, 0, template(0)}, {2, s, template(0)}, {1, 5 * s, data(0)}, {2, 6 * s, data(0)}}, true},
		{"two, by templates alone", []sent{{1, 0, template(0)}, {2, s, template(0)}, {1, 5 * s, template(0)}, {2, 5 * s, template(0)}}, true},
		{"of v9", []sent{{1, 0, v9}, {2, s, v9}, {1, 5 * s, v9}, {2, 5 * s, v9}}, true},
		{"one that was restarted", []sent{{1, 0, template(0)}, {1, m, data(0)}, {2, m + s, template(0)}, {2, 3 * m, data(0)}}, false},
		{"its last datagram came late", []sent{{1, 0, template(0)}, {2, m, template(0)}, {1, m, data(0)}, {2, 3 * m, data(0)}}, false},
		{"one that is restarted all the time", []sent{{1, 0, template(0)}, {2, m, template(0)}, {3, 2 * m, template(0)}, {4, 3 * m, template(0)}, {4, 3*m + 5*s, data(0)}}, false},
		{"one has sent no template", []sent{{1, 0, template(0)}, {2, s, data(0)}, {1, 5 * s, data(0)}, {2, 6 * s, data(0)}}, false},
		{"one of two ports, each with a domain", []sent{{1, 0, template(1)}, {2, s, template(2)}, {1, 5 * s, data(1)}, {2, 6 * s, data(2)}}, false},
		{"two versions", []sent{{1, 0, template(0)}, {2, s, v9}, {1, 5 * s, data(0)}, {2, 6 * s, v9}}, false},
		{"one Open vSwitch of two bridges", []sent{{1, 0, process(1)}, {2, s, process(2)}, {1, m, process(1)}, {2, m, process(2)}}, false},
		{"two Open vSwitches", []sent{{1, 0, process(1)}, {2, s, process(1)}, {1, m, process(1)}, {2, m, process(1)}}, true},
		{"it has not said which", []sent{
			{1, 0, process(1)[:len(process(1))-16]}, {2, s, process(1)[:len(process(1))-16]}, {1, m, process(0)}, {2, m, process(0)}}, false},
		{"one is silent since", []sent{{1, 0, template(0)}, {2, s, template(0)}, {1, 5 * s, data(0)}, {2, 5 * s, data(0)}, {2, h, data(0)}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, hook := newWith(t, Config{TemplatesHold: time.Hour})
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			var w sharing
			for _, s := range tc.sent {
				d.Datagram(netip.AddrPortFrom(testSource.Addr(), s.port), AnyFlow, s.b, testTime+int64(s.at))
			}
			last := testTime + int64(tc.sent[len(tc.sent)-1].at)
			for i := range int64(3) {
				w.check(c.exporters, last+3e9*i, c.log)
			}
			if got := c.exporters.numShared.Load() == 1; got != tc.want {
				t.Errorf("shared: %v", got)
			}
			lines := 0
			for _, e := range hook.AllEntries() {
				if strings.Contains(e.Message, "several exporters") {
					lines++
				}
			}
			if lines > 1 || (lines == 1) != tc.want {
				t.Errorf("%d lines are logged", lines)
			}
		})
	}
}

// TestSilentPortsAreForgotten has an exporter come back from ever other ports. The
// templates of those that it left a day ago are forgotten.
func TestSilentPortsAreForgotten(t *testing.T) {
	c, _ := newWith(t, Config{})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	var w sharing
	for port := range uint16(100) {
		now := testTime + int64(port)*int64(time.Hour)
		d.Datagram(netip.AddrPortFrom(testSource.Addr(), port), AnyFlow, ipfixMessage(0, 0, set(2, basicTemplate(256))), now)
		w.check(c.exporters, now, c.log)
	}
	if n := c.exporters.numTemplates.Load(); n != 25 {
		t.Errorf("%d templates are left", n)
	}
	checkAccounts(t, c.exporters)
}

// TestHoldWarning says once in ten seconds what to do when sets find no room to wait.
func TestHoldWarning(t *testing.T) {
	c, hook := newWith(t, Config{TemplatesHold: time.Hour, TemplatesHoldSize: 10_000})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	var w holdWarning
	warned := func() (n int) {
		w.check(c, d.received)
		for _, e := range hook.AllEntries() {
			if strings.Contains(e.Message, "-templates.hold-size") {
				n++
			}
		}
		return n
	}
	send := func(at time.Duration) {
		d.Datagram(testSource, AnyFlow, ipfixMessage(0, 0, set(256, make([]byte, 100))), testTime+int64(at))
	}
	for range 20 {
		send(0)
	}
	if n := warned(); n != 0 {
		t.Errorf("%d warnings while there is room", n)
	}
	for range 200 {
		send(time.Second)
		warned()
	}
	if n := warned(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	send(20 * time.Second)
	if n := warned(); n != 2 {
		t.Errorf("%d warnings, want 2", n)
	}
}
