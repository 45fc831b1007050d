package session

import (
	"time"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/table"
)

// Probe is the TCP segment that RFC 6146 section 3.5.2.2 has sent when an ESTABLISHED session has been idle for
// TCP_EST: no data, sequence number 0, acknowledgment number 0, only ACK set. Whoever still has the connection
// answers it.
type Probe struct {
	Proto  packet.Proto
	Client packet.Endpoint6 // (X',x)
	Mapped packet.Endpoint4 // (T,t)
	Remote packet.Endpoint4 // (Z,z)
	Prefix uint8            // number of the NAT64 prefix that makes (Y',y) of (Z,z)
}

// Sweep looks at the next slots, budget of them at most, and frees the sessions whose lifetime is over and the
// bindings that have lost their last session. It calls probe for every TCP session that has become idle; probe must
// not call Sweep, Purge or List. It returns whether the pass is not at its end: then there is more to do now,
// otherwise the next call begins a new pass. Lifetimes do not depend on how often it is called, only the memory does,
// the time of probes, and how long a binding outlives its last session.
//
// Sweep is for one goroutine. It takes about 2 ns for a slot in which nothing is to be done.
func (t *Table) Sweep(now table.Time, budget int, probe func(Probe)) (more bool) {
	t.epochs.Guest(func() {
		limits := &t.policy.Load().limits
		end := t.entries.Slots()
		from := max(t.cursor, 1)
		to := uint32(min(uint64(from)+uint64(max(budget, 1)), uint64(end)))
		for slot := from; slot < to; slot++ {
			t.sweep(slot, now, limits, probe)
		}
		t.cursor = to
		if more = to < end; !more {
			t.cursor = 0
		}
	})
	return more
}

// sweep does what one slot needs.
func (t *Table) sweep(slot uint32, now table.Time, limits *limits, probe func(Probe)) {
	e := t.entries.At(slot)
	old := word(e.word.Load())
	if old.state() == Closed || !old.expired(now, limits) {
		return
	}
	w := old.settle(now, limits)
	if w.expired(now, limits) {
		t.kill(slot, e, now, limits)
		return
	}
	if e.word.CompareAndSwap(uint64(old), uint64(w)) {
		c := t.copy(e, w)
		probe(Probe{Proto: c.Proto, Client: c.Client, Mapped: c.Mapped, Remote: c.Remote, Prefix: c.Prefix})
	}
}

// kill frees a session if, under its lock, its lifetime is still over.
func (t *Table) kill(slot uint32, e *entry, now table.Time, limits *limits) {
	h := t.hash(e.key())
	s := t.index.Lock(h)
	defer s.Unlock()
	for {
		old := word(e.word.Load())
		if old.state() == Closed || !old.settle(now, limits).expired(now, limits) {
			return
		}
		if e.word.CompareAndSwap(uint64(old), uint64(old.freed())) {
			t.remove(s, h, slot)
			return
		}
	}
}

// remove takes a session whose word is freed out of the index. The caller holds the shard's lock.
func (t *Table) remove(s *table.Shard, h uint64, slot uint32) {
	e := t.entries.At(slot)
	id := e.binding
	s.Remove(h, slot)
	t.unreserve(e.proto)
	t.entries.Retire(slot)
	t.bib.Drop(id)
}

// Purge ends the bindings that match, static ones included, and their sessions, and nothing else: after transport
// addresses have left pool4, or a static binding has been removed, it leaves the tables as if they had never been
// there. It returns how many of both there were. A packet that arrives meanwhile either finds the binding that is
// about to end, or makes a new one. Locks are held for one shard at a time; match is called under a lock and must not
// call the tables.
func (t *Table) Purge(match func(bib.Binding) bool) (bindings, sessions int) {
	if bindings = t.bib.Unlink(match); bindings == 0 {
		return 0, 0
	}
	for i := range t.index.Shards() {
		sessions += t.purge(t.index.LockShard(i), func(e *entry) bool {
			if t.bib.Linked(e.binding) {
				return false
			}
			e.word.Store(uint64(word(e.word.Load()).freed()))
			return true
		})
	}
	return bindings, sessions
}

// purge ends the sessions of a locked shard whose words free has freed, and unlocks it.
func (t *Table) purge(s *table.Shard, free func(*entry) bool) (n int) {
	defer s.Unlock()
	s.Each(func(slot uint32) {
		if e := t.entries.At(slot); free(e) {
			t.remove(s, t.hash(e.key()), slot)
			n++
		}
	})
	return n
}

// PurgePrefix ends the sessions whose clients used NAT64 prefix n last, and bindings that lose their last session by
// that, before the number gets another meaning. The caller has taken the prefix out of pool6 and let the batches end
// that may not know it (table.Epochs.Wait). It returns how many sessions there were. Locks are held for one shard at a
// time.
func (t *Table) PurgePrefix(n uint8) (sessions int) {
	for i := range t.index.Shards() {
		sessions += t.purge(t.index.LockShard(i), func(e *entry) bool {
			for {
				w := word(e.word.Load())
				if w.prefix() != n {
					return false
				}
				if e.word.CompareAndSwap(uint64(w), uint64(w.freed())) {
					return true
				}
			}
		})
	}
	return sessions
}

// Session is a copy of one session.
type Session struct {
	Proto     packet.Proto
	Client    packet.Endpoint6 // (X',x) of RFC 6146
	Mapped    packet.Endpoint4 // (T,t)
	Remote    packet.Endpoint4 // (Z,z)
	State     State
	Prefix    uint8         // number of the NAT64 prefix that makes (Y',y) of (Z,z)
	Static    bool          // its binding is static
	Remaining time.Duration // until its lifetime is over
}

// List copies sessions that live into buf, from a cursor on that is 0 at first, and returns how many and the next
// cursor, 0 at the end. It looks at a bounded number of slots, so n may be 0 before the end. A session that lives
// throughout a listing is in it once. Traffic does not wait for it.
func (t *Table) List(cursor uint32, buf []Session, now table.Time) (n int, next uint32) {
	t.epochs.Guest(func() { n, next = t.list(max(cursor, 1), buf, now) })
	return n, next
}

func (t *Table) list(cursor uint32, buf []Session, now table.Time) (n int, next uint32) {
	const step = 8192 // slots at a time, so that freed slots do not wait for long
	limits := &t.policy.Load().limits
	all := t.entries.Slots()
	end := min(cursor+step, all)
	for ; cursor < end && n < len(buf); cursor++ {
		e := t.entries.At(cursor)
		w := word(e.word.Load()).settle(now, limits)
		if w.state() == Closed || w.expired(now, limits) {
			continue
		}
		buf[n] = t.copy(e, w)
		buf[n].Remaining = time.Duration(w.end(limits)-uint64(now)) * table.Tick
		n++
	}
	if cursor >= all {
		return n, 0
	}
	return n, cursor
}

// copy returns a session without its remaining lifetime. The caller is a guest, so that neither slot changes hands.
func (t *Table) copy(e *entry, w word) Session {
	b := t.bib.At(e.binding)
	return Session{
		Proto:  e.proto,
		Client: b.Client,
		Mapped: b.Mapped,
		Remote: packet.Endpoint4{Addr: e.remote, Port: e.port},
		State:  w.state(),
		Prefix: w.prefix(),
		Static: b.Static,
	}
}
