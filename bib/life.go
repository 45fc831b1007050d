package bib

import (
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Acquire6 returns the binding of a client, which it makes if there is none, for a packet to q.Remote (RFC 6146
// sections 3.5.1, 3.5.2 and 3.5.3). It fills in q.Paired and q.Owner, and takes a count of the binding for the session
// that the caller will make; Release gives the count back. No limit refuses a request for an exact transport address: it
// restores what the limits have let pass before.
func (t *Table) Acquire6(q pool4.Request) (ID, drop.Reason) {
	if id := t.Find6(q.Proto, &q.Client); id != 0 {
		if r := t.acquire(id, &q); r != drop.NoBinding {
			return id, r
		}
	}
	id, made, r := t.make6(q)
	if made {
		t.log(t.At(id), Made)
	}
	return id, r
}

// make6 makes and acquires a binding, or acquires the one that another goroutine has made meanwhile.
func (t *Table) make6(q pool4.Request) (id ID, made bool, r drop.Reason) {
	h := t.hash(q.Proto, &q.Client)
	s := t.index6.Lock(h)
	defer s.Unlock()
	if id := t.find6(s.Find(h), q.Proto, &q.Client); id != 0 {
		return id, false, t.acquire(id, &q) // it cannot end while the lock is held
	}
	l := t.ledger()
	counted, r := l.admit(&q)
	if r != drop.None {
		return 0, false, r
	}
	slot, m, r := t.allocate(&l, uint32(h), q)
	if r != drop.None {
		l.cancel(&q, counted)
		return 0, false, r
	}
	t.entries.At(slot).counted = counted
	if b := (Binding{Proto: q.Proto, Client: q.Client, Mapped: m}); !t.linkLocked(s, h, slot, b, 1) {
		t.cancel(slot, b)
		t.leave(q.Client.Addr, counted, forBinding(q.Proto))
		return 0, false, drop.BindingLimit
	}
	return ID(slot), true, drop.None
}

// allocate takes a slot and a transport address for a new dynamic binding.
func (t *Table) allocate(l *ledger, hint uint32, q pool4.Request) (slot uint32, m packet.Endpoint4, r drop.Reason) {
	if slot = t.entries.Alloc(hint); slot == 0 {
		return 0, m, drop.BindingLimit
	}
	if m, r = l.allocate(q); r != drop.None {
		t.entries.Retire(slot)
	}
	return slot, m, r
}

// Acquire takes a count of a binding found in this batch. The reason is drop.NoBinding if the binding has ended since, and
// drop.BindingSessions if it has as many sessions as it may.
func (t *Table) Acquire(id ID) drop.Reason {
	return t.entries.At(uint32(id)).refs.acquire(uint32(t.conf.Load().SessionsPerBinding))
}

// acquire is Acquire for a request.
func (t *Table) acquire(id ID, q *pool4.Request) drop.Reason {
	if q.Exact != (packet.Endpoint4{}) {
		return t.entries.At(uint32(id)).refs.acquire(0)
	}
	return t.Acquire(id)
}

// Linked reports whether a binding that the caller has acquired is still in the table. Unlink removes bindings from it.
func (t *Table) Linked(id ID) bool { return alive(t.entries.At(uint32(id)).refs.Load()) }

// Release gives back a count. The last count ends a dynamic binding, and its IPv4 transport address is free after
// hold-down (RFC 6146 section 3.5.1). The caller holds no lock that packets wait for, because Release calls Config.Log.
func (t *Table) Release(id ID) {
	b := t.entries.At(uint32(id))
	if done, last := b.refs.tryRelease(); done {
		if last {
			t.entries.Retire(uint32(id))
		}
		return
	}
	if e, ended := t.releaseLast(id); ended {
		t.finalize(e, Idle)
	}
}

// releaseLast gives back a count that may be the last one.
func (t *Table) releaseLast(id ID) (e end, ended bool) {
	slot := uint32(id)
	b := t.entries.At(slot)
	h := t.hash(b.proto, &b.client)
	s := t.index6.Lock(h)
	defer s.Unlock()
	switch b.refs.Add(^uint32(0)) { // others may have acquired or unlinked it before this goroutine got the lock
	case 0:
		b.refs.Store(gone)
		return t.unlinkLocked(s, h, slot, true), true
	case gone:
		t.entries.Retire(slot)
	}
	return end{}, false
}

// Unlink removes the bindings that match, static ones included, from the table, so that packets do not find them, frees
// their IPv4 transport addresses, and returns their number. The caller ends their sessions; the memory of a binding is
// free when the last of them has released it.
//
// Unlink locks one shard at a time and calls match for each of its about 1,000 bindings under the lock. It sees
// bindings that were being made when it was called.
func (t *Table) Unlink(match func(Binding) bool) (n int) {
	var ends []end
	for i := range t.index6.Shards() {
		ends = t.unlinkShard(i, match, ends[:0])
		for _, e := range ends {
			t.finalize(e, Unlinked)
		}
		n += len(ends)
	}
	return n
}

func (t *Table) unlinkShard(i int, match func(Binding) bool, ends []end) []end {
	s := t.index6.LockShard(i)
	defer s.Unlock()
	s.Each(func(slot uint32) {
		b := t.At(ID(slot))
		if !match(b) {
			return
		}
		free := t.entries.At(slot).refs.set(gone, static) == gone
		e := t.unlinkLocked(s, t.hash(b.Proto, &b.Client), slot, free)
		e.Static = b.Static
		if b.Static {
			t.statics[b.Proto].Add(-1)
		}
		ends = append(ends, e)
	})
	return ends
}

// linkLocked writes a binding into its slot and publishes it, or reports that the shard is full. The caller holds the lock
// of s.
func (t *Table) linkLocked(s *table.Shard, h uint64, slot uint32, b Binding, word uint32) bool {
	e := t.entries.At(slot)
	e.client, e.mapped, e.proto = b.Client, b.Mapped, b.Proto
	t.entries.Seal(slot, check(slot, &b))
	e.refs.Store(word)
	if !s.Insert(h, slot) {
		e.refs.Store(0)
		return false
	}
	t.index4.set(b.Proto, b.Mapped, slot)
	return true
}

// cancel gives back the resources of a binding that linkLocked has refused: its transport address, which no packet has
// used, its slot, and its counts.
func (t *Table) cancel(slot uint32, b Binding) {
	t.pool.Release(b.Proto, b.Mapped)
	t.clients.leave(b.Client.Addr)
	t.entries.Retire(slot)
	t.unreserve(b.Proto)
}

// end is a binding that is in no index, but still owns its transport address.
type end struct {
	Binding
	counted table.Generation
}

// unlinkLocked takes a binding out of the indexes; with free, nothing refers to the binding, so that its slot is free as
// well. The caller holds the lock of s, and calls finalize after it has unlocked s.
func (t *Table) unlinkLocked(s *table.Shard, h uint64, slot uint32, free bool) end {
	e := t.entries.At(slot)
	s.Remove(h, slot)
	t.index4.set(e.proto, e.mapped, 0)
	x := end{Binding{Proto: e.proto, Client: e.client, Mapped: e.mapped}, e.counted}
	if free {
		t.entries.Retire(slot)
	}
	return x
}

// finalize gives back all resources of a binding that has ended. It logs the end before that, so that the log has the
// next owner of the transport address after the last one.
func (t *Table) finalize(e end, why Change) {
	t.log(e.Binding, why)
	l := t.ledger()
	l.end(&e)
}
