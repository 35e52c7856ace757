package hubble

import (
	"net/netip"
	"sync"
)

// share bounds what one peer has of places that all peers share. Any number of goroutines may
// use it at once.
type share struct {
	most int
	mu   sync.Mutex
	of   map[netip.Prefix]int // peers that have any
}

func newShare(most int) *share { return &share{most: most, of: make(map[netip.Prefix]int)} }

// enter takes a place of a peer. It reports false if the peer has its share already.
func (s *share) enter(peer netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[peer] >= s.most {
		return false
	}
	s.of[peer]++
	return true
}

// leave gives a place of a peer back.
func (s *share) leave(peer netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[peer]--; s.of[peer] == 0 {
		delete(s.of, peer)
	}
}

// peerBits is how much of an IPv6 address tells one peer from another: each may have all addresses
// of a network.
const peerBits = 64

// peerOf returns who is at an address such as 192.0.2.1:4244: the address, or the network of an
// IPv6 address. Those whose address is none are one peer.
func peerOf(address string) netip.Prefix {
	at, _ := netip.ParseAddrPort(address)
	a := at.Addr().Unmap()
	p, _ := a.Prefix(min(a.BitLen(), peerBits))
	return p
}
