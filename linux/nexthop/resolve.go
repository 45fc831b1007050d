//go:build linux

package nexthop

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
)

// maxAsks bounds the requests that wait for Run, and asksPerClient those that an address has in a second. More are
// dropped: the packets that wait for the answer have it asked for again.
const (
	maxAsks       = 256
	asksPerClient = 128
)

// ask is a request to Run: find the link-layer address of addr. It is made on behalf of a client, the zero Client for none.
type ask struct {
	side   side
	addr   netip.Addr
	client packet.Client
}

// resolve passes on what a look-up of f is waiting for.
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

// askFilter lets one of several equal requests of a client through in each epoch. It is lossy: two requests that share a slot may
// each pass more than once. The hash is keyed, so nobody outside can choose two that suppress each other.
type askFilter struct {
	seed  maphash.Seed
	epoch atomic.Uint64 // Run counts it up once a second
	slots [1024]atomic.Uint64
	spent [4096]atomic.Uint64 // by address: the requests of an epoch, which is the upper half
}

// spend counts a request of an address and reports whether it may have it in this epoch. Two share a counter with
// probability 1/4096, and in each epoch others do.
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
	c.CompareAndSwap(old, epoch<<32|n) // that of another worker may count for both
	return true
}

// spender is an address in an epoch.
type spender struct {
	addr  packet.Addr6
	epoch uint64
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
