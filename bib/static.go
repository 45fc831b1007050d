package bib

import (
	"fmt"
	"net/netip"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// AddStatic adds a static binding, which lives until Unlink removes it, with or without sessions (RFC 6146 section
// 3.1). Its IPv4 address is one of pool4; its port need not be in pool4's ranges, and may be held down. A dynamic
// binding of the same two addresses becomes static, and no longer counts against its client's limit.
func (t *Table) AddStatic(p packet.Proto, c packet.Endpoint6, m packet.Endpoint4) error {
	made, err := t.addStatic(p, c, m)
	if err != nil {
		if owner, ok := t.owner(p, m); ok && owner != c {
			return fmt.Errorf("bib: %v %s is in use by %s: remove that binding first, or choose another port", p, text4(m), text6(owner))
		}
		return err
	}
	if made {
		t.log(Binding{Proto: p, Client: c, Mapped: m, Static: true}, Made)
	}
	return nil
}

// addStatic adds a static binding, or makes a dynamic one static, and reports whether it has added one.
func (t *Table) addStatic(p packet.Proto, c packet.Endpoint6, m packet.Endpoint4) (made bool, err error) {
	h := t.hash(p, &c)
	s := t.index6.Lock(h)
	defer s.Unlock()
	if id := t.find6(s.Find(h), p, &c); id != 0 {
		b := t.At(id)
		if b.Mapped != m || b.Static {
			return false, fmt.Errorf("bib: %v %s has a binding to %s: remove that first", p, text6(c), text4(b.Mapped))
		}
		e := t.entries.At(uint32(id))
		e.refs.set(static, 0)
		t.statics[p].Add(1)
		t.leave(c.Addr, e.counted, forBinding(e.proto))
		e.counted = 0
		return false, nil
	}
	return true, t.makeStaticLocked(s, h, Binding{Proto: p, Client: c, Mapped: m, Static: true})
}

// makeStaticLocked adds a static binding whose client has none. The caller holds the lock of s.
func (t *Table) makeStaticLocked(s *table.Shard, h uint64, b Binding) error {
	if t.reserve(b.Proto, t.max) != drop.None {
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
	t.entries.At(slot).counted = 0
	if !t.linkLocked(s, h, slot, b, static) {
		t.cancel(slot, b)
		return t.full()
	}
	t.statics[b.Proto].Add(1)
	return nil
}

// Static returns the number of static bindings of a protocol.
func (t *Table) Static(p packet.Proto) int { return int(t.statics[p].Load()) }

func (t *Table) full() error {
	return fmt.Errorf("bib: the table is full with %d bindings: raise sessions.max", t.max)
}

// owner returns the client that has an IPv4 transport address. The caller need not be in a batch.
func (t *Table) owner(p packet.Proto, m packet.Endpoint4) (c packet.Endpoint6, ok bool) {
	t.epochs.Read(func() { c, ok = t.Lookup4(p, m) })
	return c, ok
}

func text4(e packet.Endpoint4) string {
	return netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port).String()
}

func text6(e packet.Endpoint6) string {
	return netip.AddrPortFrom(netip.AddrFrom16(e.Addr), e.Port).String()
}
