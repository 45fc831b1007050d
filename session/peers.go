package session

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/table"
)

// peers counts the sessions that each binding has with each IPv4 address, whatever the port: what address-dependent
// filtering asks for (RFC 6146 section 3.5.1). There is one only while that mode is on, each with another number, its
// edition; a session remembers the edition that counts it.
//
// has takes no lock and is for workers in a batch. add and remove take the lock of a shard, which is always the last
// lock taken. A session whose lifetime is over counts until the sweep has come by.
type peers struct {
	edition uint8 // never 0
	key     table.Key
	index   *table.Index
	pairs   *table.Slab[pair]
}

// pair is a binding and an address: 12 bytes without pointers. The key is written before the slot is published and
// stays until the slot has been retired and every batch of that time has ended.
type pair struct {
	binding  bib.ID
	addr     packet.Addr4
	sessions atomic.Uint32
}

func newPeers(max int64, key table.Key, e *table.Epochs) *peers {
	return &peers{
		key:   key,
		index: table.NewIndex(int(max), e),
		pairs: table.NewSlab[pair](int(max), e),
	}
}

// has reports whether a binding has a session with an address.
func (p *peers) has(id bib.ID, a packet.Addr4) bool {
	defer runtime.KeepAlive(p) // the last configuration's may be garbage already, but for us
	slot := p.find(p.index.Find(p.hash(id, a)), id, a)
	return slot != 0 && p.pairs.At(slot).sessions.Load() != 0
}

// add counts a session. It fails if there is no room.
func (p *peers) add(id bib.ID, a packet.Addr4) bool {
	defer runtime.KeepAlive(p)
	h := p.hash(id, a)
	s := p.index.Lock(h)
	defer s.Unlock()
	if slot := p.find(s.Find(h), id, a); slot != 0 {
		p.pairs.At(slot).sessions.Add(1)
		return true
	}
	slot := p.pairs.Alloc(uint32(h))
	if slot == 0 {
		return false
	}
	x := p.pairs.At(slot)
	x.binding, x.addr = id, a
	x.sessions.Store(1)
	s.Insert(h, slot)
	return true
}

// remove gives back a session that add has counted.
func (p *peers) remove(id bib.ID, a packet.Addr4) {
	defer runtime.KeepAlive(p)
	h := p.hash(id, a)
	s := p.index.Lock(h)
	defer s.Unlock()
	slot := p.find(s.Find(h), id, a)
	if p.pairs.At(slot).sessions.Add(^uint32(0)) == 0 {
		s.Remove(h, slot)
		p.pairs.Retire(slot)
	}
}

func (p *peers) find(probe table.Probe, id bib.ID, a packet.Addr4) uint32 {
	slot := probe.Next()
	for slot != 0 {
		if x := p.pairs.At(slot); x.binding == id && x.addr == a {
			return slot
		}
		slot = probe.Next()
	}
	return 0
}

func (p *peers) hash(id bib.ID, a packet.Addr4) uint64 {
	return p.key.Hash(uint64(id), uint64(binary.BigEndian.Uint32(a[:])), 1)
}
