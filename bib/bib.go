// Package bib holds the binding information bases, which map IPv6 transport addresses to IPv4 transport addresses (RFC 6146
// sections 3.1 and 3.2).
package bib

import (
	"encoding/binary"
	"sync/atomic"

	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Binding is a copy of one row of a BIB.
type Binding struct {
	Proto    packet.Proto
	Client   packet.Endpoint6 // (X',x) of RFC 6146
	Mapped   packet.Endpoint4 // (T,t)
	Static   bool             // made by the administrator, lives without sessions
	Sessions int
}

// ID identifies a binding: within the batch in which it was found, or until the caller releases it. 0 is none.
type ID uint32

// Table is the three BIBs. Each IPv6 and each IPv4 transport address occurs at most once per protocol.
//
// Concurrency: Lookup6, Lookup4, Find6, Find4, At and Acquire take no lock; they are for workers in a batch (between
// Enter and Leave of the table.Epochs given to New), or for a caller that has acquired the binding. Any goroutine may
// call the other methods. Those that make or end a binding take the lock of its shard, which the hash of the IPv6
// transport address selects, then that of the client's shard, then those of pool4 or that of the subscriber's shard.
// They never wait for a reader.
type Table struct {
	pool        *pool4.Pool
	epochs      *table.Epochs
	key         table.Key
	max         int64
	conf        atomic.Pointer[Config]
	subscribers atomic.Pointer[subscribers] // nil without limits
	generation  table.Generation            // of the last subscribers; for Configure
	prepared    *subscribers                // for Configure, by Prepare; without a generation
	entries     *table.Slab[entry]
	index6      *table.Index
	index4      index4
	clients     clients

	_ [64]byte // the fields below are written for every new binding, those above are read for every packet
	counts
}

// New returns an empty table for at most max bindings, whose IPv4 transport addresses come from p. The key is 16 random
// bytes, so that no host can predict which entries share a shard. f keeps the bindings in files; it may be nil.
func New(p *pool4.Pool, e *table.Epochs, max int, key [16]byte, f table.Files) *Table {
	k := table.NewKey(key)
	t := &Table{
		pool:    p,
		epochs:  e,
		key:     k,
		max:     int64(max),
		entries: table.NewKeptSlab[entry](max, e, f, keptName),
		index6:  table.NewIndex(max, e),
		clients: clients{table.NewCounted[addrKey, client](max, k, e)},
	}
	t.conf.Store(new(Config))
	return t
}

// Lookup6 returns the IPv4 transport address of a client. It changes nothing, as ICMP errors require (RFC 6146 section 3.5).
func (t *Table) Lookup6(p packet.Proto, c packet.Endpoint6) (packet.Endpoint4, bool) {
	id := t.Find6(p, &c)
	if id == 0 {
		return packet.Endpoint4{}, false
	}
	return t.entries.At(uint32(id)).mapped, true
}

// Lookup4 returns the client that has an IPv4 transport address. It changes nothing.
func (t *Table) Lookup4(p packet.Proto, m packet.Endpoint4) (packet.Endpoint6, bool) {
	id := t.Find4(p, m)
	if id == 0 {
		return packet.Endpoint6{}, false
	}
	return t.entries.At(uint32(id)).client, true
}

// Find6 returns the binding of a client, or 0. It and its callees take a pointer: the 18 bytes of an endpoint are
// copied by two overlapping stores, and a load of such a copy stalls until all earlier instructions have retired, cache
// misses included, which could otherwise overlap with those of the next packet.
func (t *Table) Find6(p packet.Proto, c *packet.Endpoint6) ID {
	return t.find6(t.index6.Find(t.hash(p, c)), p, c)
}

// Find4 returns the binding of an IPv4 transport address, or 0.
func (t *Table) Find4(p packet.Proto, m packet.Endpoint4) ID {
	slot := t.index4.get(p, m)
	if slot == 0 || !alive(t.entries.At(slot).refs.Load()) {
		return 0
	}
	return ID(slot)
}

// At returns a copy of a binding that the caller has found in its batch, or acquired.
func (t *Table) At(id ID) Binding {
	b := t.entries.At(uint32(id))
	w := b.refs.Load()
	return Binding{Proto: b.proto, Client: b.client, Mapped: b.mapped, Static: w&static != 0, Sessions: int(w & sessions)}
}

// Client returns the IPv6 side of a binding that the caller has found in its batch, or acquired. The table owns the
// memory, which does not change while the caller has the binding.
func (t *Table) Client(id ID) *packet.Endpoint6 { return &t.entries.At(uint32(id)).client }

// Mapped returns the IPv4 side of a binding that the caller has found in its batch, or acquired.
func (t *Table) Mapped(id ID) packet.Endpoint4 { return t.entries.At(uint32(id)).mapped }

// Key returns the secret of the table's hashes, for tables whose entries refer to bindings.
func (t *Table) Key() table.Key { return t.key }

// Pool returns the transport addresses of the bindings.
func (t *Table) Pool() *pool4.Pool { return t.pool }

// Orphan reports whether pool4 no longer contains the transport address of a dynamic binding, or no longer contains any
// port of the address of a static binding, whose own port need not be in pool4.
func (t *Table) Orphan(b Binding) bool {
	if b.Static {
		return !t.pool.Has(b.Mapped.Addr)
	}
	return !t.pool.Contains(b.Proto, b.Mapped)
}

// Maintain prepares memory for new bindings and gives back memory that is no longer used. It reports whether there may be
// more to give back. One goroutine calls it ten times a second, outside of a batch.
func (t *Table) Maintain() (more bool) {
	more = t.entries.Maintain()
	more = t.index6.Maintain() || more
	more = t.index4.tidy() || more
	more = t.clients.rows.Maintain() || more
	if s := t.subscribers.Load(); s != nil {
		more = s.rows.Maintain() || more
	}
	return more
}

// Len returns the number of bindings of a protocol.
func (t *Table) Len(p packet.Proto) int { return int(t.count[p].Load()) }

// List copies bindings into buf, from a cursor on that is 0 at first, and returns their number and the next cursor,
// which is 0 at the end. It visits a bounded number of slots, so n may be 0 before the end. A listing contains each
// binding that lives throughout it once. Packets do not wait for it.
func (t *Table) List(cursor uint32, buf []Binding) (n int, next uint32) {
	t.epochs.Read(func() { n, next = t.list(max(cursor, 1), buf) })
	return n, next
}

func (t *Table) list(cursor uint32, buf []Binding) (n int, next uint32) {
	const step = 8192 // slots at a time, so that freed slots do not wait for long
	all := t.entries.Slots()
	cursor, block := t.entries.NextBlock(cursor)
	end := min(cursor+step, block)
	for ; cursor < end && n < len(buf); cursor++ {
		if alive(t.entries.At(cursor).refs.Load()) {
			buf[n] = t.At(ID(cursor))
			n++
		}
	}
	if cursor >= all {
		return n, 0
	}
	return n, cursor
}

func (t *Table) find6(p table.Probe, proto packet.Proto, c *packet.Endpoint6) ID {
	for slot := p.Next(); slot != 0; slot = p.Next() {
		b := t.entries.At(slot)
		if b.client == *c && b.proto == proto && alive(b.refs.Load()) {
			return ID(slot)
		}
	}
	return 0
}

func (t *Table) hash(p packet.Proto, c *packet.Endpoint6) uint64 {
	return t.key.Hash(binary.BigEndian.Uint64(c.Addr[:8]), binary.BigEndian.Uint64(c.Addr[8:]), uint64(p)<<16|uint64(c.Port))
}
