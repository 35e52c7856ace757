package hubble

import (
	"hash/fnv"
	"io"
	"sync"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Identities that Cilium reserves (pkg/identity/numericidentity.go of github.com/cilium/cilium).
const (
	identityUnknown    = 0
	identityHost       = 1
	identityWorld      = 2
	identityRemoteNode = 6
	// identityMin and identityMax bound those of workloads. Above are Cilium's local ones.
	identityMin = 1 << 8
	identityMax = 1<<24 - 1
)

// maxIdentities bounds the workloads whose identities are kept apart.
const maxIdentities = 1 << 16

// identities gives each workload a number, as Cilium does for each set of labels. Hubble UI
// draws one card for each. A number is a hash of the workload's name, so it is the same in all
// replicas and after a restart, unless another workload has it already. Any number of goroutines
// may use it at once.
type identities struct {
	mu    sync.RWMutex
	byKey map[unique.Handle[flow.Workload]]uint32
	taken map[uint32]bool
}

func newIdentities() *identities {
	return &identities{byKey: make(map[unique.Handle[flow.Workload]]uint32), taken: make(map[uint32]bool)}
}

// of returns the identity of an object's workload.
func (ids *identities) of(o *flow.Object) uint32 {
	key := workloadOf(o)
	ids.mu.RLock()
	id, ok := ids.byKey[key]
	full := len(ids.byKey) >= maxIdentities
	ids.mu.RUnlock()
	if ok {
		return id
	}
	if id = hashed(key.Value()); full {
		return id // two may have the same from here on
	}
	ids.mu.Lock()
	defer ids.mu.Unlock()
	if id, ok := ids.byKey[key]; ok {
		return id
	}
	if len(ids.byKey) >= maxIdentities {
		return id
	}
	for ids.taken[id] {
		if id++; id > identityMax {
			id = identityMin
		}
	}
	ids.byKey[key], ids.taken[id] = id, true
	return id
}

func hashed(w flow.Workload) uint32 {
	h := fnv.New64a()
	for _, s := range [...]string{w.Kind, w.Namespace, w.Name} {
		_, _ = io.WriteString(h, s)
		_, _ = h.Write([]byte{0})
	}
	return uint32(h.Sum64()%(identityMax-identityMin+1)) + identityMin
}
