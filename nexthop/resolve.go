package nexthop

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"nat64d/drop"
)

// maxAsks bounds the requests that wait for Run. More are dropped: their packets wait in a bounded queue anyway, and
// the next one asks again.
const maxAsks = 256

// ask is a request to Run: find the link-layer address of addr.
type ask struct {
	side side
	addr netip.Addr
}

// resolve passes on what a look-up of f is waiting for.
func (t *Table) resolve(d side, f flow) {
	w := t.state.Load().way(d, &f)
	if w.reason != drop.None {
		return
	}
	a := ask{side: d, addr: w.hop.target(f.dst)}
	if !t.asked.first(a) {
		return
	}
	select {
	case t.asks <- a:
	default:
		t.asked.forget(a)
	}
}

// askFilter lets one of several equal requests through in each epoch. It is lossy: two requests that share a slot may
// each pass more than once. The hash is keyed, so nobody outside can choose two that suppress each other.
type askFilter struct {
	seed  maphash.Seed
	epoch atomic.Uint64 // Run counts it up once a second
	slots [1024]atomic.Uint64
}

// first says whether a has not passed in this epoch.
func (f *askFilter) first(a ask) bool {
	slot, mark := f.slot(a)
	return slot.Swap(mark) != mark
}

// forget lets a through once more: it was not passed on.
func (f *askFilter) forget(a ask) {
	slot, mark := f.slot(a)
	slot.CompareAndSwap(mark, 0)
}

// slot returns where a is noted, and what is noted in this epoch.
func (f *askFilter) slot(a ask) (slot *atomic.Uint64, mark uint64) {
	h := maphash.Comparable(f.seed, a)
	return &f.slots[h%uint64(len(f.slots))], h + f.epoch.Load()
}
