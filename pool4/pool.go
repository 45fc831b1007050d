// Package pool4 owns the IPv4 transport addresses that bindings are made of and chooses a free one for each new
// binding (RFC 6146 section 3.5.1.1, RFC 6056, RFC 6888).
package pool4

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
)

// Pool is the set of IPv4 transport addresses, and which of them are in use. All methods may be called by any
// goroutine. Contains and Holds take no lock; Allocate, Reserve and Release take the lock of one address and
// protocol for a fraction of a microsecond; what changes the pool works aside and then publishes its result, so that
// packets never wait for it.
type Pool struct {
	key  sipKey
	view atomic.Pointer[view]

	mu   sync.RWMutex // guards rows; held for writing by whoever changes the pool
	rows [packet.Protos]map[uint32]*row
}

// New returns an empty pool, which is legal: Allocate then answers drop.PoolEmpty. The key is the secret of RFC 6056
// section 3.3.3, 16 bytes from a cryptographic source.
func New(key [16]byte) *Pool {
	p := &Pool{key: newSipKey(key)}
	for proto := range p.rows {
		p.rows[proto] = make(map[uint32]*row)
	}
	p.view.Store(newView(&p.rows))
	return p
}

// Contains reports whether a transport address is in the pool, free or in use.
func (p *Pool) Contains(proto packet.Proto, e packet.Endpoint4) bool {
	a := &p.view.Load()[proto]
	i, ok := a.find(binary.BigEndian.Uint32(e.Addr[:]))
	return ok && covers(a.spans[i], span{e.Port, e.Port})
}

// Holds reports whether an address is in the pool for a protocol, with whatever ports.
func (p *Pool) Holds(proto packet.Proto, addr packet.Addr4) bool {
	_, ok := p.view.Load()[proto].find(binary.BigEndian.Uint32(addr[:]))
	return ok
}

// Request is what Allocate chooses a transport address for.
type Request struct {
	Proto  packet.Proto
	Client packet.Endpoint6
	Remote packet.Endpoint4 // to whom the first packet goes
	Paired packet.Addr4     // the address that the client has already; zero if none
}

// Allocate takes a free transport address. A client that has an address gets a port of that one or none (RFC 6888
// REQ-2, no soft pairing), unless the pool does not hold it for this protocol. A new client's address follows from
// its own by a keyed hash; when that is full, the next one that is not. The reason is drop.PoolEmpty or
// drop.PoolExhausted if there is none.
func (p *Pool) Allocate(q Request) (packet.Endpoint4, drop.Reason) {
	a := &p.view.Load()[q.Proto]
	if len(a.addrs) == 0 {
		return packet.Endpoint4{}, drop.PoolEmpty
	}
	c0, c1 := binary.BigEndian.Uint64(q.Client.Addr[:8]), binary.BigEndian.Uint64(q.Client.Addr[8:])
	f := p.key.sum(c0, c1, uint64(binary.BigEndian.Uint32(q.Remote.Addr[:]))<<32|uint64(q.Client.Port)<<16|uint64(q.Remote.Port))
	if i, ok := a.find(binary.BigEndian.Uint32(q.Paired[:])); ok {
		return a.allocate(i, &q, f)
	}
	start := int(p.key.sum(c0, c1) % uint64(len(a.addrs)))
	for i := a.open.from(start); i >= 0; i = a.open.from(i + 1) {
		if e, r := a.allocate(i, &q, f); r == drop.None {
			return e, r
		}
	}
	for i := a.open.from(0); i >= 0 && i < start; i = a.open.from(i + 1) {
		if e, r := a.allocate(i, &q, f); r == drop.None {
			return e, r
		}
	}
	return packet.Endpoint4{}, drop.PoolExhausted
}

func (a *addresses) allocate(i int, q *Request, f uint64) (packet.Endpoint4, drop.Reason) {
	port, ok := a.rows[i].allocate(q.Proto, q.Client.Port, f)
	if !ok {
		return packet.Endpoint4{}, drop.PoolExhausted
	}
	return packet.Endpoint4{Addr: addr4Of(a.addrs[i]), Port: port}, drop.None
}

// Reserve takes one transport address for a static binding. Its address must be in the pool, for whatever protocol;
// its port need not be.
func (p *Pool) Reserve(proto packet.Proto, e packet.Endpoint4) error {
	if e.Port == 0 && proto != packet.ICMP {
		return fmt.Errorf("pool4: %v has no port 0: the lowest is 1", proto)
	}
	n := binary.BigEndian.Uint32(e.Addr[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	held := false
	for i := range p.rows {
		r := p.rows[i][n]
		held = held || r != nil && len(r.spans) > 0
	}
	if !held {
		return fmt.Errorf("pool4: %v is not in pool4: add it with a range of ports first", netip.AddrFrom4(e.Addr))
	}
	r := p.rows[proto][n]
	if r == nil {
		r = new(row)
		p.rows[proto][n] = r
	}
	if !r.reserve(e.Port) {
		return fmt.Errorf("pool4: %v %v is in use: choose another port, or end the binding that has it", proto, netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port))
	}
	return nil
}

// Release gives back what Allocate or Reserve took.
func (p *Pool) Release(proto packet.Proto, e packet.Endpoint4) {
	n := binary.BigEndian.Uint32(e.Addr[:])
	if p.row(proto, n).release(e.Port) {
		p.forget(proto, n)
	}
}

// row returns the row of an address that has ports in use. The lock is needed only if the address has left the pool.
func (p *Pool) row(proto packet.Proto, n uint32) *row {
	a := &p.view.Load()[proto]
	if i, ok := a.find(n); ok {
		return a.rows[i]
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.rows[proto][n]
}

// forget drops the row of an address that left the pool, once its last port is free.
func (p *Pool) forget(proto packet.Proto, n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.rows[proto][n]; r != nil && r.unused() {
		delete(p.rows[proto], n)
	}
}

// Entries returns what the pool holds, sorted by address, protocol and port, ranges merged.
func (p *Pool) Entries() []Usage {
	var list []Usage
	for proto, a := range p.view.Load() {
		for i, r := range a.rows {
			spans, used := r.usage()
			for j, s := range spans {
				e := Entry{Addr: addrOf(a.addrs[i]), Proto: packet.Proto(proto), Lo: s.lo, Hi: s.hi}
				list = append(list, Usage{e, used[j]})
			}
		}
	}
	sortUsage(list)
	return list
}
