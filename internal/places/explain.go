package places

import (
	"net/netip"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Explanation is what the files say of an address that nobody in the cluster has. Its JSON is part
// of the answer of /explain, and is for users: names do not change.
type Explanation struct {
	Label    string `json:"label,omitempty"`   // of -networks
	Network  string `json:"network,omitempty"` // the longest one that has the address
	Country  string `json:"country,omitempty"` // of -geoip, as the others
	ASNumber uint32 `json:"as_number,omitempty"`
	ASName   string `json:"as_name,omitempty"`
}

// Explain returns what the files that are in use now say of an address; nil if that is nothing. A
// nil Lookup has no files.
func (l *Lookup) Explain(a netip.Addr) *Explanation {
	if l == nil {
		return nil
	}
	a = a.Unmap().WithZone("")
	t := l.tables.Load()
	var x Explanation
	if t.networks != nil {
		if network, i, ok := t.networks.table.LookupPrefixLPM(netip.PrefixFrom(a, a.BitLen())); ok {
			x.Label, x.Network = t.networks.labels[i], network.String()
		}
	}
	var p flow.Place
	for _, d := range t.databases {
		if at := d.find(a); at != none {
			_ = d.read(at, &p) // what can be read of it is in records, too, which log the error
		}
	}
	x.Country, x.ASNumber, x.ASName = p.Country, p.ASNumber, p.ASName
	if x == (Explanation{}) {
		return nil
	}
	return &x
}
