package bib

import (
	"fmt"
	"net/netip"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Hold6 returns the binding of a client, which it makes if there is none, for a packet to remote (RFC 6146 sections
// 3.5.1, 3.5.2 and 3.5.3). The binding has a count for the session that the caller is about to make; Drop gives it
// back.
func (t *Table) Hold6(p packet.Proto, c packet.Endpoint6, remote packet.Endpoint4) (ID, drop.Reason) {
	if id := t.Find6(p, c); id != 0 && t.Hold(id) {
		return id, drop.None
	}
	h := t.hash(p, c)
	s := t.index6.Lock(h)
	defer s.Unlock()
	if id := t.find6(s.Find(h), p, c); id != 0 && t.Hold(id) {
		return id, drop.None
	}
	if r := t.reserve(p); r != drop.None {
		return 0, r
	}
	slot := t.entries.Alloc(uint32(h))
	if slot == 0 {
		t.unreserve(p)
		return 0, drop.BindingLimit
	}
	m, r := t.clients.allocate(t.pool, pool4.Request{Proto: p, Client: c, Remote: remote})
	if r != drop.None {
		t.entries.Retire(slot)
		t.unreserve(p)
		return 0, r
	}
	t.link(s, h, slot, Binding{Proto: p, Client: c, Mapped: m}, 1)
	return ID(slot), drop.None
}

// Hold takes a count of a binding found in this batch. It fails if the binding has ended since.
func (t *Table) Hold(id ID) bool { return t.entries.At(uint32(id)).refs.hold() }

// Linked reports whether a binding that the caller holds is still in the table. It is not if Unlink has taken it out.
func (t *Table) Linked(id ID) bool { return alive(t.entries.At(uint32(id)).refs.Load()) }

// Drop gives back a count. With the last one, a dynamic binding ends and its IPv4 transport address is free (RFC 6146
// section 3.5.1).
func (t *Table) Drop(id ID) {
	b := t.entries.At(uint32(id))
	if done, last := b.refs.yield(); done {
		if last {
			t.entries.Retire(uint32(id))
		}
		return
	}
	h := t.hash(b.proto, b.client)
	s := t.index6.Lock(h)
	defer s.Unlock()
	switch b.refs.Add(^uint32(0)) { // others may have held or unlinked it before the lock was ours
	case 0:
		t.end(s, h, uint32(id))
	case gone:
		t.entries.Retire(uint32(id))
	}
}

// end takes a binding that nothing refers to out of the table. The caller holds the shard's lock.
func (t *Table) end(s *table.Shard, h uint64, slot uint32) {
	t.entries.At(slot).refs.Store(gone)
	t.unlink(s, h, slot)
	t.entries.Retire(slot)
}

// AddStatic adds a row that lives until RemoveStatic, with or without sessions (RFC 6146 section 3.1). Its IPv4
// address is one of pool4; its port need not be in pool4's ranges. A dynamic row with just these addresses becomes
// static.
func (t *Table) AddStatic(p packet.Proto, c packet.Endpoint6, m packet.Endpoint4) error {
	h := t.hash(p, c)
	s := t.index6.Lock(h)
	defer s.Unlock()
	if id := t.find6(s.Find(h), p, c); id != 0 {
		b := t.At(id)
		if b.Mapped != m || b.Static {
			return fmt.Errorf("bib: %v %s has a binding to %s: remove that first", p, text6(c), text4(b.Mapped))
		}
		t.entries.At(uint32(id)).refs.set(static, 0)
		return nil
	}
	return t.addStatic(s, h, Binding{Proto: p, Client: c, Mapped: m, Static: true})
}

// addStatic adds a row whose client has none. The caller holds the shard's lock.
func (t *Table) addStatic(s *table.Shard, h uint64, b Binding) error {
	if t.reserve(b.Proto) != drop.None {
		return t.full()
	}
	if err := t.pool.Reserve(b.Proto, b.Mapped); err != nil {
		t.unreserve(b.Proto)
		return fmt.Errorf("bib: %w", err)
	}
	slot := t.entries.Alloc(uint32(h))
	if slot == 0 || !t.clients.join(b.Client.Addr, b.Mapped.Addr) {
		if slot != 0 {
			t.entries.Retire(slot)
		}
		t.pool.Release(b.Proto, b.Mapped)
		t.unreserve(b.Proto)
		return t.full()
	}
	t.link(s, h, slot, b, static)
	return nil
}

func (t *Table) full() error {
	return fmt.Errorf("bib: the table is full with %d bindings: raise sessions.max", t.max)
}

// RemoveStatic makes a static row dynamic: it ends at once if it has no sessions, and otherwise with the last one.
func (t *Table) RemoveStatic(p packet.Proto, m packet.Endpoint4) error {
	none := fmt.Errorf("bib: %v %s has no static binding", p, text4(m))
	var b Binding
	var id ID
	t.epochs.Guest(func() {
		if id = t.Find4(p, m); id != 0 {
			b = t.At(id)
		}
	})
	if id == 0 {
		return none
	}
	h := t.hash(p, b.Client)
	s := t.index6.Lock(h)
	defer s.Unlock()
	if id = t.find6(s.Find(h), p, b.Client); id == 0 || t.Mapped(id) != m || !t.At(id).Static {
		return none
	}
	if t.entries.At(uint32(id)).refs.set(0, static) == 0 {
		t.end(s, h, uint32(id))
	}
	return nil
}

// Unlink takes the bindings that match, static ones included, out of the table and frees their IPv4 transport
// addresses. From then on packets do not find them. It returns how many there were. Their sessions are the caller's
// to end; the memory of a binding is free when the last of them is dropped.
//
// It goes from shard to shard and holds the lock of one at a time, while match is called for each of about a thousand
// bindings. A binding that was being made when Unlink was called is seen.
func (t *Table) Unlink(match func(Binding) bool) (n int) {
	for i := range t.index6.Shards() {
		s := t.index6.LockShard(i)
		s.Each(func(slot uint32) {
			b := t.At(ID(slot))
			if !match(b) {
				return
			}
			t.unlink(s, t.hash(b.Proto, b.Client), slot)
			if t.entries.At(slot).refs.set(gone, static) == gone {
				t.entries.Retire(slot)
			}
			n++
		})
		s.Unlock()
	}
	return n
}

// link writes a binding into its slot and publishes it. The caller holds the shard's lock.
func (t *Table) link(s *table.Shard, h uint64, slot uint32, b Binding, word uint32) {
	e := t.entries.At(slot)
	e.client, e.mapped, e.proto = b.Client, b.Mapped, b.Proto
	e.refs.Store(word)
	t.index4.set(b.Proto, b.Mapped, slot)
	s.Insert(h, slot)
}

// unlink takes a binding out of the indexes and frees its IPv4 transport address; in this order, because the next
// owner of that address may come at once. The caller holds the shard's lock.
func (t *Table) unlink(s *table.Shard, h uint64, slot uint32) {
	e := t.entries.At(slot)
	s.Remove(h, slot)
	t.index4.set(e.proto, e.mapped, 0)
	t.pool.Release(e.proto, e.mapped)
	t.clients.leave(e.client.Addr)
	t.unreserve(e.proto)
}

func text4(e packet.Endpoint4) string {
	return netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port).String()
}

func text6(e packet.Endpoint6) string {
	return netip.AddrPortFrom(netip.AddrFrom16(e.Addr), e.Port).String()
}
