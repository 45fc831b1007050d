package session

import (
	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// open6 makes a session, and a binding if the client has none, for a packet from IPv6.
func (t *Table) open6(src *packet.Endpoint6, q *event) (bib.ID, drop.Reason) {
	t.observers.advance(q.now)
	for {
		r := t.admit(src.Addr, q)
		for r != drop.None && t.makeRoom(r, 0, src.Addr, q) {
			r = t.admit(src.Addr, q)
		}
		if r != drop.None {
			return 0, r
		}
		request := pool4.Request{Proto: q.proto, Client: *src, Remote: q.remote}
		if q.proto == packet.TCP {
			request.Wanted = t.syns.Wanted(q.remote)
		}
		id, r := t.bib.Acquire6(request)
		for r == drop.BindingSessions && t.makeRoom(r, t.bib.Find6(q.proto, src), src.Addr, q) {
			id, r = t.bib.Acquire6(request)
		}
		if r != drop.None {
			t.dismiss(src.Addr, q)
			return 0, r
		}
		mapped := t.bib.Mapped(id)
		q.met = q.met || q.proto == packet.TCP && t.syns.Claim(mapped, q.remote, (q.now-origin).Duration())
		if r = t.insert(id, q); r != drop.NoBinding {
			return id, r
		}
		// A purge took the binding away in this very moment. The next turn makes another one.
	}
}

// open4 makes a session for a packet from IPv4. It never makes a binding (RFC 6146 section 5.3).
func (t *Table) open4(id bib.ID, q *event) drop.Reason {
	t.observers.advance(q.now)
	client := t.bib.Client(id)
	r := t.admit(client.Addr, q)
	for r != drop.None && t.makeRoom(r, id, client.Addr, q) {
		r = t.admit(client.Addr, q)
	}
	if r != drop.None {
		return r
	}
	r = t.bib.Acquire(id)
	for r == drop.BindingSessions && t.makeRoom(r, id, client.Addr, q) {
		r = t.bib.Acquire(id)
	}
	if r != drop.None {
		t.dismiss(client.Addr, q)
		return r
	}
	if r = t.reserveInbound(id, client.Addr, q); r != drop.None {
		t.dismiss(client.Addr, q)
		t.bib.Release(id)
		return r
	}
	return t.insert(id, q)
}

// admit counts a session to come, in all and of its client, if there is room for it.
func (t *Table) admit(client packet.Addr6, q *event) (r drop.Reason) {
	if !t.reserve(q.proto) {
		return drop.SessionLimit
	}
	if q.counted, r = t.bib.Admit(client, q.from == v6, q.now); r != drop.None {
		t.unreserve(q.proto)
	}
	return r
}

// dismiss takes back what admit has counted.
func (t *Table) dismiss(client packet.Addr6, q *event) {
	t.bib.Leave(client, q.counted)
	t.unreserve(q.proto)
}

// insert adds a session of a binding, or passes the packet to one that another worker has added in the meantime. The
// caller holds the binding and has had a session admitted; insert passes both on to the session, or releases them.
// The reason is drop.NoBinding if the binding has left the table: a purge, which checks every shard under its lock,
// then either finds the new session or was detected here.
func (t *Table) insert(id bib.ID, q *event) drop.Reason {
	made, r := t.place(id, q)
	if made {
		return r
	}
	t.dismiss(t.bib.Client(id).Addr, q)
	t.inbound.release(q.inbound)
	t.bib.Release(id)
	return r
}

// place is what insert does under the lock of the shard.
func (t *Table) place(id bib.ID, q *event) (made bool, r drop.Reason) {
	h := t.hash(id, q.remote)
	s := t.index.Lock(h)
	defer s.Unlock()
	if !t.bib.Linked(id) {
		return false, drop.NoBinding
	}
	if slot, e := t.find(s.Find(h), id, q.remote); e != nil {
		if q.restored != nil {
			return false, drop.None
		}
		t.examine(slot, e, q)
		t.reopen(slot, e, q)
		return false, drop.None
	}
	slot := t.entries.Alloc(uint32(h))
	if slot == 0 {
		return false, drop.SessionLimit
	}
	e := t.entries.At(slot)
	e.binding, e.remote, e.port, e.proto = id, q.remote.Addr, q.remote.Port, q.proto
	if !t.enlist(e, q) {
		t.entries.Retire(slot)
		return false, drop.SessionLimit
	}
	t.assignInbound(e, slot, q)
	first := q.first()
	t.resetWindows(slot)
	if q.restored != nil {
		first = q.restored.word(q, &t.policy.Load().limits)
		t.finish(slot, e, q.restored)
	}
	w := e.begin(word(e.word.Load()), first)
	e.word.Store(uint64(w))
	t.examine(slot, e, q)
	if !s.Insert(h, slot) {
		e.word.Store(uint64(w.freed()))
		q.counted = e.client // which may be newer than that of admit
		t.retireLocked(slot)
		return false, drop.SessionLimit
	}
	q.identify(slot, e, w)
	t.made(slot, e, w, q.now)
	return true, drop.None
}

// enlist counts a new session where it has to be. The caller holds the shard's lock.
func (t *Table) enlist(e *entry, q *event) bool {
	e.peers = 0
	if p := t.peers.Load(); p != nil {
		if !p.add(e.binding, e.remote) {
			return false
		}
		e.peers = p.generation
	}
	e.client = t.bib.JoinLocked(t.bib.Client(e.binding).Addr, q.counted)
	return true
}

// reopen passes the packet to an existing session, or restarts the session if it has expired but was not swept yet.
// The caller holds the shard's lock, so that the session is not removed.
func (t *Table) reopen(slot uint32, e *entry, q *event) {
	for !t.update(slot, e, q) {
		old := word(e.word.Load())
		if limits := &t.policy.Load().limits; !old.settle(q.now, limits).expired(q.now, limits) {
			continue
		}
		t.assignInbound(e, slot, q) // before a packet can answer it
		w := e.begin(old.freed(), q.first())
		if e.word.CompareAndSwap(uint64(old), uint64(w)) {
			t.ended(slot, e, old, Replaced, q.now)
			q.identify(slot, e, w)
			t.made(slot, e, w, q.now)
			return
		}
	}
}

// assignInbound gives a session that begins the record that was reserved for it, if the packet comes from IPv4. The
// caller holds the shard's lock.
func (t *Table) assignInbound(e *entry, slot uint32, q *event) {
	t.inbound.assign(e, slot, q.inbound)
	q.inbound = 0
}

// begin returns the word of a session that begins in the generation of old. The caller holds the shard's lock.
func (e *entry) begin(old, first word) word {
	w := old.with(first)
	if w.generation() == 0 {
		e.cycle.Add(1)
	}
	return w
}

// first returns the word of the session that the packet makes (RFC 6146 section 3.5.2.2, state CLOSED).
func (q *event) first() word {
	w := q.begin()
	if q.from == v4 {
		w |= unansweredBit
	}
	return w
}

func (q *event) begin() word {
	switch {
	case q.proto == packet.UDP:
		return makeWord(q.now, q.prefix, Active, lifeUDP)
	case q.proto == packet.ICMP:
		return makeWord(q.now, q.prefix, Active, lifeICMP)
	case q.met:
		return makeWord(q.now, q.prefix, Established, lifeEstablished)
	case q.from == v6:
		return makeWord(q.now, q.prefix, V6Init, lifeOpening)
	default:
		return makeWord(q.now, q.prefix, V4Init, lifeOpening)
	}
}

// reserve counts a session to come, if there is room for it. A full table evicts none of the sessions that clients have begun.
func (t *Table) reserve(p packet.Proto) bool {
	for {
		n := t.total.Load()
		if n >= t.max {
			return false
		}
		if t.total.CompareAndSwap(n, n+1) {
			t.count[p].Add(1)
			return true
		}
	}
}

// unreserve counts a session that has ended, or did not come.
func (t *Table) unreserve(p packet.Proto) {
	t.count[p].Add(-1)
	t.total.Add(-1)
}
