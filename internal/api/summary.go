package api

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// summary is the answer about what the program is and what it has.
type summary struct {
	Version      string            `json:"version"`
	Mode         string            `json:"mode"`
	Listen       []string          `json:"listen"`
	Started      time.Time         `json:"started"`
	Newest       *time.Time        `json:"newest"`
	Oldest       *time.Time        `json:"oldest"`
	Records      uint64            `json:"records"`
	Bytes        uint64            `json:"bytes"`
	Packets      uint64            `json:"packets"`
	NamedPercent float64           `json:"named_percent"`
	Ring         ring              `json:"ring"`
	Exporters    []recent.Exporter `json:"exporters"`
	Fields       []Field           `json:"fields"`
	Mapping      []mapped          `json:"mapping"`
	Ready        any               `json:"ready"`
}

// mapped is an address field, and what the names of its owners begin with.
type mapped struct {
	Field  string `json:"field"`
	Prefix string `json:"prefix"`
}

type ring struct {
	Bytes    int64  `json:"bytes"`
	Records  uint64 `json:"records"`
	Capacity int64  `json:"capacity"`
}

func (s *Server) summary(_ context.Context, p *params) (any, error) {
	if err := p.end(); err != nil {
		return nil, err
	}
	a := s.cfg.Store.About()
	mapping := []mapped{}
	for _, m := range s.cfg.Mapping {
		mapping = append(mapping, mapped{flow.Fields[m.Field].Name, m.Prefix})
	}
	b, err := json.Marshal(summary{
		Version: s.cfg.Version, Mode: s.cfg.Mode, Listen: s.cfg.Listen, Started: s.cfg.Started.UTC(),
		Newest: known(a.Newest), Oldest: known(a.Oldest),
		Records: a.Records, Bytes: a.Bytes, Packets: a.Packets, NamedPercent: a.NamedPercent,
		Ring:      ring{a.Used, a.InMemory, a.Capacity},
		Exporters: a.Exporters, Fields: s.cfg.Fields, Mapping: mapping, Ready: s.cfg.Ready(),
	})
	if err != nil {
		return nil, fault{err}
	}
	return parts{b, s.names.rendered(a.Workloads)}, nil
}

// parts are two objects of JSON, which make one answer.
type parts [2][]byte

// AppendJSON implements appender.
func (p parts) AppendJSON(b []byte) []byte {
	b = append(b, p[0][:len(p[0])-1]...)
	return append(append(b, ','), p[1][1:]...)
}

// names has the workloads and namespaces of the newest summary as JSON. They are most of it, and
// the same as the time before in most.
type names struct {
	mu   sync.Mutex
	list []recent.End
	json []byte
}

// rendered returns workloads, which are sorted, and their namespaces. They are not to be changed.
func (n *names) rendered(workloads []recent.End) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.json != nil && slices.Equal(n.list, workloads) {
		return n.json
	}
	namespaces := []string{}
	for _, e := range workloads {
		if e.Namespace != "" && (len(namespaces) == 0 || namespaces[len(namespaces)-1] != e.Namespace) {
			namespaces = append(namespaces, e.Namespace)
		}
	}
	list, _ := json.Marshal(namespaces) // strings cannot fail
	b := append(append([]byte(`{"namespaces":`), list...), `,"workloads":[`...)
	for i := range workloads {
		if i > 0 {
			b = append(b, ',')
		}
		b = workloads[i].AppendJSON(b)
	}
	b = append(b, "]}"...)
	n.list, n.json = workloads, b
	return b
}
