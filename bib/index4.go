package bib

import (
	"sync/atomic"

	"nat64d/packet"
)

// index4 finds bindings by their IPv4 transport address without a hash: a trie over 12, 12 and 8 bits of the address,
// and for each address and protocol pages of cells, one per port. set makes pages when they are first needed; they stay
// when they are empty, so their number is bounded by the ports that pool4 has had.
//
// get takes no lock. Only the owner of a transport address sets its cell: pool4 allocates it to one binding at a time.
type index4 struct {
	top [1 << 12]atomic.Pointer[middle]
}

type middle [1 << 12]atomic.Pointer[bottom]

type bottom [1 << 8]atomic.Pointer[address]

type address [packet.Protos][1 << 16 / pagePorts]atomic.Pointer[page]

// page holds the slots of bindings by port; 0 is none.
type page [pagePorts]atomic.Uint32

const pagePorts = 512

// get returns the slot of a binding, or 0.
func (x *index4) get(p packet.Proto, e packet.Endpoint4) uint32 {
	c := x.cell(p, e)
	if c == nil {
		return 0
	}
	return c.Load()
}

// cell returns the cell of a transport address, or nil if it has never had a binding.
func (x *index4) cell(p packet.Proto, e packet.Endpoint4) *atomic.Uint32 {
	i, j, k := split(e.Addr)
	m := x.top[i].Load()
	if m == nil {
		return nil
	}
	b := m[j].Load()
	if b == nil {
		return nil
	}
	a := b[k].Load()
	if a == nil {
		return nil
	}
	g := a[p][e.Port/pagePorts].Load()
	if g == nil {
		return nil
	}
	return &g[e.Port%pagePorts]
}

// set stores slot as the binding of a transport address; 0 removes it.
func (x *index4) set(p packet.Proto, e packet.Endpoint4, slot uint32) {
	i, j, k := split(e.Addr)
	a := made(&made(&made(&x.top[i])[j])[k])
	made(&a[p][e.Port/pagePorts])[e.Port%pagePorts].Store(slot)
}

// made returns the value of p, which it makes if it is nil.
func made[T any](p *atomic.Pointer[T]) *T {
	if v := p.Load(); v != nil {
		return v
	}
	p.CompareAndSwap(nil, new(T))
	return p.Load()
}

func split(a packet.Addr4) (i, j, k uint32) {
	return uint32(a[0])<<4 | uint32(a[1])>>4, uint32(a[1])&15<<8 | uint32(a[2]), uint32(a[3])
}
