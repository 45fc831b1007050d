package session

import (
	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// open6 makes a session, and a binding if the client has none, for a packet from IPv6.
func (t *Table) open6(src *packet.Endpoint6, q *event) (bib.ID, drop.Reason) {
	t.advance(q)
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
		t.reclaimAhead(src.Addr, q)
		id, r := t.acquire6(request, q)
		for r == drop.PoolExhausted && t.makePort(src.Addr, q) {
			id, r = t.acquire6(request, q)
		}
		for r == drop.BindingSessions && t.makeRoom(r, t.find6(src, q), src.Addr, q) {
			id, r = t.acquire6(request, q)
		}
		if r != drop.None {
			t.cancelAdmission(src.Addr, q)
			return 0, r
		}
		q.simultaneous = q.simultaneous || q.proto == packet.TCP && t.claim(id, q)
		if r = t.insert(id, q); r != drop.NoBinding {
			return id, r
		}
		// A purge has ended the binding meanwhile. The next iteration makes a new one.
	}
}

// open4 makes a session for a packet from IPv4. It never makes a binding (RFC 6146 section 5.3).
func (t *Table) open4(id bib.ID, q *event) drop.Reason {
	t.advance(q)
	client := t.client(id, q)
	r := t.admit(client.Addr, q)
	for r != drop.None && t.makeRoom(r, id, client.Addr, q) {
		r = t.admit(client.Addr, q)
	}
	if r != drop.None {
		return r
	}
	r = t.acquire(id, q)
	for r == drop.BindingSessions && t.makeRoom(r, id, client.Addr, q) {
		r = t.acquire(id, q)
	}
	if r != drop.None {
		t.cancelAdmission(client.Addr, q)
		return r
	}
	if r = t.reserveInbound(id, client.Addr, q); r != drop.None {
		t.cancelAdmission(client.Addr, q)
		t.release(id, q)
		return r
	}
	return t.insert(id, q)
}

// admit counts a new session, in the table and for its client, if the limits allow it.
func (t *Table) admit(client packet.Addr6, q *event) (r drop.Reason) {
	if t.restoring.Load() {
		return drop.Restoring
	}
	if q.trial != nil {
		return q.trial.admit(t, client, q)
	}
	if r = t.reserve(q.proto, t.room.Load()); r != drop.None {
		return r
	}
	if q.counted, r = t.bib.Admit(client, q.from == v6, q.now); r != drop.None {
		t.unreserve(q.proto)
	}
	return r
}

// cancelAdmission gives back the counts of admit.
func (t *Table) cancelAdmission(client packet.Addr6, q *event) {
	if q.trial != nil {
		q.trial.cancelAdmission(client, q)
		return
	}
	t.bib.Leave(client, q.counted)
	t.unreserve(q.proto)
}

// insert makes a session of a binding, or passes the packet to the session that another goroutine has made meanwhile.
// The caller has acquired the binding and admitted the session; the session takes both over, or insert gives them back.
// The reason is drop.NoBinding if the binding has left the table. A purge visits every shard under its lock, so it
// either finds the new session, or insert has seen that the binding is unlinked.
func (t *Table) insert(id bib.ID, q *event) drop.Reason {
	if q.trial != nil {
		return q.trial.insert(t, id, q)
	}
	made, r := t.place(id, q)
	if made {
		return r
	}
	t.cancelAdmission(t.bib.Client(id).Addr, q)
	t.inbound.release(q.inbound)
	t.bib.Release(id)
	return r
}

// place is the part of insert under the lock of the shard.
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
		t.reopenLocked(slot, e, q)
		return false, drop.None
	}
	slot := t.entries.Alloc(uint32(h))
	if slot == 0 {
		return false, drop.SessionLimit
	}
	e := t.entries.At(slot)
	e.binding, e.remote, e.port, e.proto = id, q.remote.Addr, q.remote.Port, q.proto
	if !t.countLocked(e, q) {
		t.entries.Retire(slot)
		return false, drop.SessionLimit
	}
	t.assignInboundLocked(e, slot, q)
	first := q.first()
	t.resetWindowsLocked(slot)
	if q.restored != nil {
		first = q.restored.word(q, &t.policy.Load().limits)
		t.finishLocked(slot, e, q.restored)
	}
	w := t.beginLocked(e, word(e.word.Load()), first)
	t.seal(slot, e, w)
	e.word.Store(uint64(w))
	t.examine(slot, e, q)
	if !s.Insert(h, slot) {
		e.word.Store(uint64(w.freed()))
		q.counted = e.client // a newer generation than that of admit, perhaps
		t.retireLocked(slot)
		return false, drop.SessionLimit
	}
	if q.restored != nil && w.closed() && t.policy.Load().reclaims {
		t.noteClosed(slot, e, w, w.since())
	}
	q.identify(slot, e, w)
	q.begun(w)
	t.made(slot, e, w, q.now)
	return true, drop.None
}

// countLocked counts a new session in peers and for the limits of its client. The caller holds the lock of the shard.
func (t *Table) countLocked(e *entry, q *event) bool {
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

// reopenLocked passes the packet to an existing session, or restarts an expired one that the sweep has not removed yet.
// The caller holds the lock of the shard, so that the session does not end.
func (t *Table) reopenLocked(slot uint32, e *entry, q *event) {
	for !t.update(slot, e, q) {
		old := word(e.word.Load())
		if limits := &t.policy.Load().limits; !old.settle(q.now, limits).expired(q.now, limits) {
			continue
		}
		t.assignInboundLocked(e, slot, q) // before a packet can answer it
		w := t.beginLocked(e, old.freed(), q.first())
		if e.word.CompareAndSwap(uint64(old), uint64(w)) {
			t.seal(slot, e, w)
			t.ended(slot, e, old, Replaced, q.now)
			q.identify(slot, e, w)
			q.begun(w)
			t.made(slot, e, w, q.now)
			return
		}
	}
}

// assignInboundLocked assigns the reserved record to a new session, if the packet comes from IPv4. The caller holds the
// lock of the shard.
func (t *Table) assignInboundLocked(e *entry, slot uint32, q *event) {
	t.inbound.assignLocked(e, slot, q.inbound)
	q.inbound = 0
}

// beginLocked returns the word of a session that begins in the generation of old. A slot whose memory was given back continues
// behind the cycles of before. The caller holds the lock of the shard.
func (t *Table) beginLocked(e *entry, old, first word) word {
	w := old.with(first)
	if w.generation() == 0 {
		e.cycle.Store(max(e.cycle.Load(), t.cycles.Load()) + 1)
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
	case q.simultaneous:
		return makeWord(q.now, q.prefix, Established, lifeEstablished)
	case q.from == v6:
		return makeWord(q.now, q.prefix, V6Init, lifeOpening)
	default:
		return makeWord(q.now, q.prefix, V4Init, lifeOpening)
	}
}

// reserve counts a new session, if there is room for it: at most room sessions. A full table evicts no session that a client has
// opened.
func (t *Table) reserve(p packet.Proto, room int64) drop.Reason {
	for {
		n := t.total.Load()
		if r := t.full(n, room); r != drop.None {
			return r
		}
		if t.total.CompareAndSwap(n, n+1) {
			t.count[p].Add(1)
			return drop.None
		}
	}
}

// full returns drop.None if there is room for a session besides n others.
func (t *Table) full(n, room int64) drop.Reason {
	switch {
	case n < room:
		return drop.None
	case n >= t.limit:
		return drop.SessionLimit
	}
	return drop.MemoryLimit
}

// minRoom is the number of sessions for which there is room even if memory is scarce.
const minRoom = 1024

// Confine with true limits the sessions to their present number, so that each new one takes the memory of one that has
// ended; further calls with true change nothing. Confine with false removes that limit. One goroutine calls it.
func (t *Table) Confine(confined bool) {
	switch {
	case !confined:
		t.room.Store(t.limit)
	case t.room.Load() == t.limit:
		t.room.Store(min(max(t.total.Load(), minRoom), t.limit))
	}
}

// unreserve gives back the count of a session that has ended, or was not made.
func (t *Table) unreserve(p packet.Proto) {
	t.count[p].Add(-1)
	t.total.Add(-1)
}
