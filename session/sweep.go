package session

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/table"
)

// Probe is the TCP segment that RFC 6146 section 3.5.2.2 has sent when an ESTABLISHED session has been idle for
// TCP_EST: no data, sequence number 0, acknowledgment number 0, only ACK set. A host that still has the connection
// answers it.
type Probe struct {
	Proto  packet.Proto
	Client packet.Endpoint6 // (X',x)
	Mapped packet.Endpoint4 // (T,t)
	Remote packet.Endpoint4 // (Z,z)
	Prefix uint8            // number of the NAT64 prefix that makes (Y',y) of (Z,z)
}

// round is a pass of Sweep over all slots. Only the goroutine that sweeps uses it, except for overtaken.
type round struct {
	cursor    uint32      // the next slot; 0: between two passes
	began     table.Time  // plus origin
	soonest   uint64      // the last tick of the session that ends first among the visited ones
	due       uint64      // the tick from which the next pass may have work
	overtaken atomic.Bool // sessions may end before due
}

// Sweep visits the next slots, budget of them at most, and frees expired sessions and the bindings that lose their last
// session by that; it also ends up to budget hold-downs. It calls probe for every TCP session that has become idle;
// probe must not call Sweep, Purge or List. It reports whether there is more to do now; if not, the next call begins a
// new pass, which has nothing to do before SweepDue. Lifetimes do not depend on the interval between calls; only memory,
// the times of probes, of ends of bindings and of ends of hold-downs do.
//
// One goroutine calls Sweep. A slot without work takes about 2 ns.
func (t *Table) Sweep(now table.Time, budget int, probe func(Probe)) (more bool) {
	t.observers.advance(now + origin)
	t.epochs.Read(func() {
		p := &t.round
		if p.cursor == 0 {
			p.overtaken.Store(false)
			p.cursor, p.began, p.soonest = 1, now+origin, math.MaxUint64
		}
		limits := &t.policy.Load().limits
		end := t.entries.Slots()
		var block uint32
		p.cursor, block = t.entries.NextBlock(p.cursor)
		to := uint32(min(uint64(p.cursor)+uint64(max(budget, 1)), uint64(block)))
		soonest := p.soonest
		for slot := p.cursor; slot < to; slot++ {
			w := word(t.entries.At(slot).word.Load())
			if w.state() == Closed {
				continue
			}
			ends := w.end(limits)
			if uint64(now+origin) > ends {
				ends = t.sweep(slot, now+origin, limits, probe)
			}
			soonest = min(soonest, ends)
		}
		p.cursor, p.soonest = to, soonest
		if more = to < end; !more {
			p.finish(limits)
		}
	})
	return t.bib.Pool().Expire(now.Duration(), budget) || more
}

// finish ends a pass. Sessions that have begun or changed behind the cursor live for the shortest lifetime at least; a worker
// may have read the clock some time before the pass began.
func (p *round) finish(limits *limits) {
	const late = table.Time(time.Second / table.Tick)
	p.cursor = 0
	p.due = min(p.soonest, uint64(p.began-late)+uint64(slices.Min(limits[:]))) + 1
}

// SweepDue returns the time from which a new pass of Sweep may have work. Ends of hold-downs do not count.
func (t *Table) SweepDue() table.Time {
	if t.round.overtaken.Load() {
		return 0
	}
	return table.Time(min(max(t.round.due, uint64(origin))-uint64(origin), math.MaxUint32))
}

// Maintain prepares the memory that the tables will soon need, and gives back memory that they no longer use. It takes up to
// some milliseconds, and reports whether there may be more to give back. The goroutine that calls Sweep calls it ten times a
// second while sessions are made or there is more.
func (t *Table) Maintain() (more bool) {
	more = t.entries.Maintain()
	more = t.index.Maintain() || more
	more = t.bib.Maintain() || more
	if p := t.peers.Load(); p != nil {
		more = p.rows.Maintain() || more
	}
	return more
}

// sweep does the work for a session that has expired, and returns when it ends if it lives on.
func (t *Table) sweep(slot uint32, now table.Time, limits *limits, probe func(Probe)) (end uint64) {
	e := t.entries.At(slot)
	old := word(e.word.Load())
	w := old.settle(now, limits)
	switch {
	case old.state() == Closed:
		return math.MaxUint64
	case w.expired(now, limits):
		t.kill(slot, e, now, limits)
		return math.MaxUint64
	case w != old && e.word.CompareAndSwap(uint64(old), uint64(w)):
		t.changed(slot, e, old, w, now)
		c := t.copy(e, w)
		probe(Probe{Proto: c.Proto, Client: c.Client, Mapped: c.Mapped, Remote: c.Remote, Prefix: c.Prefix})
	}
	return w.end(limits)
}

// kill ends a session if it is still expired under the lock of its shard.
func (t *Table) kill(slot uint32, e *entry, now table.Time, limits *limits) {
	if x, ended := t.unlinkExpired(slot, e, now, limits); ended {
		t.finalize(x)
	}
}

func (t *Table) unlinkExpired(slot uint32, e *entry, now table.Time, limits *limits) (x end, ended bool) {
	h := t.hash(e.key())
	s := t.index.Lock(h)
	defer s.Unlock()
	for {
		old := word(e.word.Load())
		if old.state() == Closed || !old.settle(now, limits).expired(now, limits) {
			return end{}, false
		}
		if e.word.CompareAndSwap(uint64(old), uint64(old.freed())) {
			w := old.settle(now, limits)
			t.ended(slot, e, w, causeOf(w), now)
			return t.unlinkLocked(s, h, slot), true
		}
	}
}

// end is a session that is in no index, but has not released its binding yet.
type end struct {
	binding bib.ID
	remote  packet.Endpoint4
	proto   packet.Proto
	client  table.Generation
}

// unlinkLocked removes a session whose word is freed from the index and retires its slot. The caller holds the lock of
// the shard, and calls finalize after it has released the lock.
func (t *Table) unlinkLocked(s *table.Shard, h uint64, slot uint32) end {
	e := t.entries.At(slot)
	s.Remove(h, slot)
	x := end{e.binding, packet.Endpoint4{Addr: e.remote, Port: e.port}, e.proto, e.client}
	t.retireLocked(slot)
	return x
}

// retireLocked gives back the slot of a session that is not in the index, and its places in the counts that the lock of its
// shard guards. The caller holds that lock.
func (t *Table) retireLocked(slot uint32) {
	e := t.entries.At(slot)
	if p := t.peers.Load(); p != nil && e.peers == p.generation {
		p.remove(e.binding, e.remote)
	}
	t.inbound.assignLocked(e, slot, 0)
	t.entries.Retire(slot)
}

// finalize gives back all resources of a session that has ended.
func (t *Table) finalize(x end) {
	t.bib.Leave(t.bib.Client(x.binding).Addr, x.client)
	t.unreserve(x.proto)
	t.bib.Release(x.binding)
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
	Remaining time.Duration // lifetime
	Idle      time.Duration // since its lifetime began, or a packet has prolonged it
}

// List copies sessions that are alive into buf, from a cursor on that is 0 at first, and returns their number and the
// next cursor, which is 0 at the end. It visits a bounded number of slots, so n may be 0 before the end. A listing
// contains each session that lives throughout it once. Packets do not wait for it.
func (t *Table) List(cursor uint32, buf []Session, now table.Time) (n int, next uint32) {
	t.epochs.Read(func() { n, next = t.list(max(cursor, 1), buf, now) })
	return n, next
}

func (t *Table) list(cursor uint32, buf []Session, now table.Time) (n int, next uint32) {
	limits := &t.policy.Load().limits
	return t.each(cursor, len(buf), now, func(i int, _ uint32, e *entry, w word) {
		buf[i] = t.copy(e, w)
		buf[i].Remaining, buf[i].Idle = w.remaining(limits, now+origin), w.idle(now+origin)
	})
}

// each calls f for the sessions that live from a cursor on, most of them at most, with the number of the call, and returns
// how many and the next cursor, 0 at the end. It looks at a bounded number of slots. The caller is in Epochs.Read.
func (t *Table) each(cursor uint32, most int, now table.Time, f func(i int, slot uint32, e *entry, w word)) (n int, next uint32) {
	const step = 8192 // slots at a time, so that freed slots do not wait for long
	limits := &t.policy.Load().limits
	all := t.entries.Slots()
	cursor, block := t.entries.NextBlock(cursor)
	end := min(cursor+step, block)
	for ; cursor < end && n < most; cursor++ {
		e := t.entries.At(cursor)
		w := word(e.word.Load()).settle(now+origin, limits)
		if w.state() == Closed || w.expired(now+origin, limits) {
			continue
		}
		f(n, cursor, e, w)
		n++
	}
	if cursor >= all {
		return n, 0
	}
	return n, cursor
}

// copy returns a session without its times. The caller is in Epochs.Read, so that neither slot is reused.
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
