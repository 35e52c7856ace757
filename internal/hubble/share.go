package hubble

import (
	"net/http"
	"net/netip"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"
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

// admit takes one of some places for a call of a peer, and of the peer's share. If there is none, it
// refuses the call. What is said of those that are taken is their number and what they are.
func admit(w http.ResponseWriter, peer netip.Prefix, s *share, places chan struct{}, what string) bool {
	var most string
	switch {
	case !s.enter(peer):
		most = strconv.Itoa(s.most) + " " + what + " from your address"
	case !tryEnter(places):
		s.leave(peer)
		most = strconv.Itoa(cap(places)) + " " + what
	default:
		return true
	}
	refuse(w, codes.ResourceExhausted, most+" are answered already; try again later")
	return false
}

// dismiss gives back what admit took.
func dismiss(peer netip.Prefix, s *share, places chan struct{}) {
	leave(places)
	s.leave(peer)
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
