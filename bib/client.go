package bib

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// clients remembers which pool4 address each IPv6 address has, over all protocols, so that all its bindings get the
// same one (RFC 6888 REQ-2, paired pooling). A row lives as long as the client has a binding. Everything happens
// under the lock of the client's shard, so that two flows of a new client cannot get two addresses.
type clients struct {
	key   table.Key
	index *table.Index
	rows  *table.Slab[client]
}

// client is a row: 24 bytes without pointers.
type client struct {
	addr     packet.Addr6
	mapped   packet.Addr4
	bindings uint32
}

func newClients(e *table.Epochs, max int, key table.Key) clients {
	return clients{key: key, index: table.NewIndex(max, e), rows: table.NewSlab[client](max, e)}
}

// allocate takes a transport address for a new dynamic binding.
func (c *clients) allocate(p *pool4.Pool, q pool4.Request) (packet.Endpoint4, drop.Reason) {
	h := c.hash(q.Client.Addr)
	s := c.index.Lock(h)
	defer s.Unlock()
	slot := c.find(s, h, q.Client.Addr)
	if slot != 0 {
		q.Paired = c.rows.At(slot).mapped
	}
	e, r := p.Allocate(q)
	if r == drop.None && !c.count(s, h, slot, q.Client.Addr, e.Addr) {
		p.Release(q.Proto, e)
		return packet.Endpoint4{}, drop.BindingLimit
	}
	if r == drop.None && slot != 0 && (!p.Has(q.Paired) || p.Avoids(q.Paired)) {
		c.rows.At(slot).mapped = e.Addr // the one that it had has left pool4, or is avoided
	}
	return e, r
}

// join counts a static binding.
func (c *clients) join(addr packet.Addr6, mapped packet.Addr4) bool {
	h := c.hash(addr)
	s := c.index.Lock(h)
	defer s.Unlock()
	return c.count(s, h, c.find(s, h, addr), addr, mapped)
}

// leave counts a binding that has ended.
func (c *clients) leave(addr packet.Addr6) {
	h := c.hash(addr)
	s := c.index.Lock(h)
	defer s.Unlock()
	slot := c.find(s, h, addr)
	row := c.rows.At(slot)
	if row.bindings--; row.bindings == 0 {
		s.Remove(h, slot)
		c.rows.Retire(slot)
	}
}

// count adds a binding to the row in slot, or to a new row if slot is 0. The caller holds the shard's lock.
func (c *clients) count(s *table.Shard, h uint64, slot uint32, addr packet.Addr6, mapped packet.Addr4) bool {
	if slot != 0 {
		c.rows.At(slot).bindings++
		return true
	}
	if slot = c.rows.Alloc(uint32(h)); slot == 0 {
		return false
	}
	*c.rows.At(slot) = client{addr, mapped, 1}
	s.Insert(h, slot)
	return true
}

func (c *clients) find(s *table.Shard, h uint64, addr packet.Addr6) uint32 {
	p := s.Find(h)
	slot := p.Next()
	for slot != 0 && c.rows.At(slot).addr != addr {
		slot = p.Next()
	}
	return slot
}

func (c *clients) hash(addr packet.Addr6) uint64 {
	return c.key.Hash(binary.BigEndian.Uint64(addr[:8]), binary.BigEndian.Uint64(addr[8:]), 0)
}
