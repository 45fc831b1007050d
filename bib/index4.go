package bib

import (
	"runtime"
	"sync/atomic"

	"nat64d/packet"
)

// index4 finds bindings by their IPv4 transport address without a hash: a trie over 12, 12 and 8 bits of the address,
// and for each address and protocol pages of cells, one per port. set makes pages when they are first needed, and tidy removes
// those without bindings.
//
// get takes no lock. Only the owner of a transport address sets its cell: pool4 allocates it to one binding at a time.
type index4 struct {
	top    [1 << 12]atomic.Pointer[middle]
	pages  atomic.Int64 // number of pages
	cursor uint64       // the address that tidy visits next
	calm   int          // how often tidy has reached the end since it has removed a page
}

type middle [1 << 12]atomic.Pointer[bottom]

type bottom [1 << 8]atomic.Pointer[address]

// address is the pages of one address, and the number of cells in each that are not 0. The number is removing while tidy removes
// the page.
type address struct {
	pages [packet.Protos][pagesEach]atomic.Pointer[page]
	used  [packet.Protos][pagesEach]atomic.Int32
}

// page holds the slots of bindings by port; 0 is none. Random ports of many addresses fill many pages, so pages are small.
type page [pagePorts]atomic.Uint32

const (
	pagePorts = 128
	pagesEach = 1 << 16 / pagePorts
	removing  = -1
)

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
	g := a.pages[p][e.Port/pagePorts].Load()
	if g == nil {
		return nil
	}
	return &g[e.Port%pagePorts]
}

// set stores slot as the binding of a transport address; 0 removes it.
func (x *index4) set(p packet.Proto, e packet.Endpoint4, slot uint32) {
	i, j, k := split(e.Addr)
	a, n := made(&made(&made(&x.top[i], nil)[j], nil)[k], nil), e.Port/pagePorts
	used := &a.used[p][n]
	for u := used.Load(); u == removing || !used.CompareAndSwap(u, u+1); u = used.Load() { // tidy leaves the page now
		if u == removing {
			runtime.Gosched()
		}
	}
	old := made(&a.pages[p][n], &x.pages)[e.Port%pagePorts].Swap(slot)
	if slot == 0 {
		used.Add(-1)
	}
	if old != 0 {
		used.Add(-1)
	}
}

// made returns the value of p. If p is nil, made makes the value and counts it in n, unless n is nil.
func made[T any](p *atomic.Pointer[T], n *atomic.Int64) *T {
	if v := p.Load(); v != nil {
		return v
	}
	if p.CompareAndSwap(nil, new(T)) && n != nil {
		n.Add(1)
	}
	return p.Load()
}

// Our own choices: the number of pages up to which tidy removes none, 256 KiB, and the number of addresses that it visits in one
// call, which takes about 100 µs each.
const (
	fewPages = 512
	tidyStep = 4
)

// tidy removes pages without bindings at some addresses, and reports whether there may be more of them. One goroutine calls it.
func (x *index4) tidy() (more bool) {
	for range tidyStep {
		if x.pages.Load() <= fewPages {
			return false
		}
		a := x.next()
		if a == nil {
			x.calm++
			continue
		}
		for p := range a.pages {
			for n := range a.pages[p] {
				x.remove(a, p, n)
			}
		}
	}
	return x.calm < 2
}

// remove removes a page if it has no bindings.
func (x *index4) remove(a *address, p, n int) {
	if a.pages[p][n].Load() == nil || !a.used[p][n].CompareAndSwap(0, removing) {
		return
	}
	a.pages[p][n].Store(nil)
	a.used[p][n].Store(0)
	x.pages.Add(-1)
	x.calm = 0
}

// next returns the next address that has had a binding, or nil at the end of the trie.
func (x *index4) next() *address {
	for n := x.cursor; n < 1<<32; n++ {
		m := x.top[n>>20].Load()
		if m == nil {
			n |= 1<<20 - 1
			continue
		}
		b := m[n>>8&0xfff].Load()
		if b == nil {
			n |= 1<<8 - 1
			continue
		}
		if a := b[n&0xff].Load(); a != nil {
			x.cursor = n + 1
			return a
		}
	}
	x.cursor = 0
	return nil
}

func split(a packet.Addr4) (i, j, k uint32) {
	return uint32(a[0])<<4 | uint32(a[1])>>4, uint32(a[1])&15<<8 | uint32(a[2]), uint32(a[3])
}
