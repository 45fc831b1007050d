package bib

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// clients remembers which pool4 address each IPv6 address has, over all protocols, so that all its bindings get the
// same one (RFC 6888 REQ-2, paired pooling). A row counts the bindings of its client. allocate calls pool4 under the
// lock of the client's row, so that two flows of a new client cannot get two addresses.
type clients struct {
	rows *table.Counted[addrKey, client]
}

// addrKey is the key of a row: an IPv6 address, or one masked to the prefix of a client.
type addrKey packet.Addr6

// Hash returns the keyed hash of an address.
func (a addrKey) Hash(key table.Key) uint64 {
	return key.Hash(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), 0)
}

// client is the value of a row.
type client struct {
	mapped   packet.Addr4
	bindings uint32
}

// allocate takes a transport address for a new dynamic binding.
func (c clients) allocate(p *pool4.Pool, q pool4.Request) (e packet.Endpoint4, r drop.Reason) {
	ok := c.rows.Update(addrKey(q.Client.Addr), func(row *client) bool {
		if row.bindings != 0 {
			q.Paired = row.mapped
		}
		if e, r = p.Allocate(q); r != drop.None {
			return row.bindings != 0
		}
		if row.bindings == 0 || e.Addr != q.Paired && (!p.Has(q.Paired) || p.Avoids(q.Paired) || !p.Serves(q.Client.Addr, q.Paired)) {
			row.mapped = e.Addr // the client had none, or its address has left pool4, is avoided, or is for other clients
		}
		row.bindings++
		return true
	})
	if !ok {
		return e, drop.BindingLimit
	}
	return e, r
}

// Clients returns the number of IPv6 addresses that have a binding.
func (t *Table) Clients() int { return t.clients.rows.Len() }

// Paired returns the pool4 address of the other bindings of a client, if it has any. The caller is a worker in a batch.
func (t *Table) Paired(addr packet.Addr6) (mapped packet.Addr4, ok bool) {
	return t.clients.paired(addr)
}

func (c clients) paired(addr packet.Addr6) (mapped packet.Addr4, ok bool) {
	c.rows.Update(addrKey(addr), func(row *client) bool {
		mapped, ok = row.mapped, row.bindings != 0
		return ok
	})
	return mapped, ok
}

// join counts a static binding. It returns false if there is no room for the client's row.
func (c clients) join(addr packet.Addr6, mapped packet.Addr4) bool {
	return c.rows.Update(addrKey(addr), func(row *client) bool {
		if row.bindings == 0 {
			row.mapped = mapped
		}
		row.bindings++
		return true
	})
}

// leave gives back a binding that has ended.
func (c clients) leave(addr packet.Addr6) {
	c.rows.Update(addrKey(addr), func(row *client) bool {
		row.bindings--
		return row.bindings != 0
	})
}
