package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestSourceAddress has datagrams that name another sampler than their source: an sFlow
// agent is the sampler, and its source is there beside it. The elements exporterIPv4Address
// and exporterIPv6Address (130, 131) are not: NetFlow and IPFIX are from who sends them.
func TestSourceAddress(t *testing.T) {
	show := func(r *flow.Record) string {
		sampler, _ := netip.AddrFromSlice(r.Msg.SamplerAddress)
		source, _ := netip.AddrFromSlice(r.Extra.ExporterAddress)
		return fmt.Sprint(sampler, " ", source)
	}
	other4, other6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	sample := flowSample(1, 2, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28))))
	fields := []ie{{8, 4, 0}, {130, 4, 0}, {131, 16, 0}}
	record := be(uint32(1), other4, other6)
	options := optionsRecord(300, 1, ie{130, 4, 0}, ie{34, 4, 0})
	fromAgent := func(agent netip.Addr) []byte {
		family := uint32(1)
		if agent.Is6() {
			family = 2
		}
		return be(uint32(5), family, agent, uint32(0), uint32(1), uint32(1000), uint32(1), sample)
	}
	for name, tc := range map[string]struct {
		datagrams [][]byte
		want      string
	}{
		"sFlow":                      {[][]byte{fromAgent(other4)}, "198.51.100.1 192.0.2.1"},
		"sFlow, IPv6":                {[][]byte{fromAgent(other6)}, "2001:db8::1 192.0.2.1"},
		"sFlow of the source itself": {[][]byte{fromAgent(testSource.Addr())}, "192.0.2.1 invalid IP"},
		"NetFlow v5":                 {[][]byte{v5Message(1, v5Record(1))}, "192.0.2.1 invalid IP"},
		"NetFlow v9":                 {[][]byte{v9Message(0, 1, set(0, templateRecord(256, fields...)), set(256, record))}, "192.0.2.1 invalid IP"},
		"IPFIX":                      {[][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, record))}, "192.0.2.1 invalid IP"},
		"IPFIX, by options":          {[][]byte{ipfixMessage(0, 1, set(3, options), set(300, be(other4, uint32(10)))), ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(1)))}, "192.0.2.1 invalid IP"},
	} {
		if got, _ := decodeAll(t, show, tc.datagrams...); !slices.Equal(got, []string{tc.want}) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
