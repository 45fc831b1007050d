//go:build linux

package nexthop

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
)

// maxAsks bounds the pending requests to Run, and asksPerClient the requests of an address per second. Further
// requests are dropped; the packets that wait for the answer cause them to be repeated.
const (
	maxAsks       = 256
	asksPerClient = 128
)

// ask is a request to Run to resolve the link-layer address of addr for a client; the zero Client means none.
type ask struct {
	side   side
	addr   netip.Addr
	client packet.Client
}

// resolve sends the request that a look-up of f is waiting for to Run.
func (t *Table) resolve(d side, f flow, client packet.Client) {
	w := t.state.Load().way(d, &f)
	if w.reason != drop.None {
		return
	}
	a := ask{side: d, addr: w.hop.target(f.dst), client: client}
	if !t.asked.first(a) {
		return
	}
	if !t.asked.spend(client.Addr) {
		t.asked.forget(a)
		return
	}
	select {
	case t.asks <- a:
	default:
		t.asked.forget(a)
	}
}

// askFilter passes one of several equal requests of a client in each epoch. It is lossy: two requests that share a
// slot may each pass more than once. The hash is keyed, so that an outsider cannot choose two requests that suppress
// each other.
type askFilter struct {
	seed  maphash.Seed
	epoch atomic.Uint64 // Run increments it once a second
	slots [1024]atomic.Uint64
	spent [4096]atomic.Uint64 // number of requests by address; the upper half is the epoch
}

// spend counts a request of an address and reports whether it is allowed in this epoch. Two addresses share a counter
// with probability 1/4096; the sharing changes in each epoch.
func (f *askFilter) spend(addr packet.Addr6) bool {
	epoch := f.epoch.Load()
	c := &f.spent[maphash.Comparable(f.seed, spender{addr, epoch})%uint64(len(f.spent))]
	old := c.Load()
	n := uint64(1)
	if old>>32 == epoch&0xffffffff {
		n = old&0xffffffff + 1
	}
	if n > asksPerClient {
		return false
	}
	c.CompareAndSwap(old, epoch<<32|n) // on failure, the request of another worker counts for both
	return true
}

// spender is an address in an epoch, the input of the hash.
type spender struct {
	addr  packet.Addr6
	epoch uint64
}

// first reports whether a has not passed in this epoch.
func (f *askFilter) first(a ask) bool {
	slot, mark := f.slot(a)
	return slot.Swap(mark) != mark
}

// forget allows a to pass again, because it was not sent to Run.
func (f *askFilter) forget(a ask) {
	slot, mark := f.slot(a)
	slot.CompareAndSwap(mark, 0)
}

// slot returns the slot of a and its mark for this epoch.
func (f *askFilter) slot(a ask) (slot *atomic.Uint64, mark uint64) {
	h := maphash.Comparable(f.seed, a)
	return &f.slots[h%uint64(len(f.slots))], h + f.epoch.Load()
}
