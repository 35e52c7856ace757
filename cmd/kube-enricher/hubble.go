package main

import (
	"context"
	"net/netip"
	"os"
	"sync"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/hubble"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// buildHubble makes the server of Hubble's API, if there is to be one.
func (a *app) buildHubble() (err error) {
	h := &a.cfg.Hubble
	if h.Addr == "" {
		return nil
	}
	version, _, _ := versions()
	c := hubble.Config{
		Addr: h.Addr, Cert: h.Cert, Key: h.Key, ClientCA: h.ClientCA, Mapping: a.cfg.Mapping, Labels: a.labels(),
		Cluster: a.cfg.Cluster, Name: "kube-enricher", Version: version,
	}
	if name, err := os.Hostname(); err == nil {
		c.Name = name
	}
	if a.enricher != nil {
		c.NodeOf = a.nodeOf
	}
	source := &recentSource{store: a.recent, seen: make(map[int]uint64)}
	a.hubble, err = hubble.New(c, source, a.recent.Skipped(recent.ClientHubble), a.log, a.reg)
	if err != nil && h.Cert != "" {
		return config.Usagef("-hubble.tls: %v", err)
	}
	return err
}

// nodeOf returns the Node that has an address, or whose pod has it, at a time in Unix
// nanoseconds; empty if there is none.
func (a *app) nodeOf(addr netip.Addr, at int64) string {
	if o := a.enricher.Lookup(addr, at, at).Object; o != nil {
		return o.Node
	}
	return ""
}

// recentSource gives the newest records to Hubble's clients. Any number of goroutines may use it.
type recentSource struct {
	store *recent.Store

	mu   sync.Mutex
	seen map[int]uint64 // records that workers have had
}

// Each implements [hubble.Source].
func (s *recentSource) Each(ctx context.Context, q hubble.Query, f func(*flow.Record) bool) error {
	return s.store.Each(ctx, recent.Query{Since: q.Since, Until: q.Until, Newest: q.Newest, Waits: q.Waits}, f)
}

// hubblePerSecond bounds the flows that a client who follows is sent in a second. Each costs
// several times what it costs to receive and write a record. The client gets to know how many are
// left out, and a filter leaves more room for those that are wanted.
const hubblePerSecond = 1000

// Follow implements [hubble.Source].
func (s *recentSource) Follow(ctx context.Context, q hubble.Query, f func(*flow.Record, uint64) error) error {
	return s.store.Follow(ctx, recent.Query{Since: q.Since, Match: q.Match, PerSecond: hubblePerSecond, Waits: q.Waits}, f)
}

// Stats implements [hubble.Source]. How many records there is room for follows from how long
// those are that there are.
func (s *recentSource) Stats() hubble.Stats {
	const typical = 150 // bytes of a record, before there are any
	size := s.store.Size()
	st := hubble.Stats{Records: size.Records, Capacity: size.Room / typical}
	if size.Bytes > 0 {
		st.Capacity = uint64(float64(size.Room) / float64(size.Bytes) * float64(size.Records))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for worker, n := range size.Seen {
		s.seen[worker] = max(s.seen[worker], n)
	}
	for _, n := range s.seen {
		st.Seen += n
	}
	return st
}

// listenHubble opens the address of Hubble's API, if there is one.
func (a *app) listenHubble() error {
	if a.hubble == nil {
		return nil
	}
	return a.hubble.Listen()
}

// runHubble answers Hubble's clients until ctx ends, if anybody does.
func (a *app) runHubble(ctx context.Context) error {
	if a.hubble == nil {
		return nil
	}
	return a.hubble.Run(ctx)
}

// closeHubble closes it, if the server does not run.
func (a *app) closeHubble() {
	if a.hubble != nil {
		a.hubble.Close()
	}
}
