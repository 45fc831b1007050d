package session

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"nat64d/packet"
	"nat64d/table"
)

// reclaimer lists the sessions that have closed, in that order, so that new sessions can have their ports when no other is
// free. A session is listed when its lifetime becomes one of closed; if it lives on, or ends before, its place in the list
// is void. Ending such a session frees the port if the binding has no other session; late packets of it still pass if
// it has.
//
// There are lists for each protocol, by pool4 address, because a client can only use a port of its own address. Any
// goroutine may call the methods, each of which takes the lock of one list, the last one taken.
type reclaimer struct {
	lists [packet.Protos][reclaimLists]closedList
	taken atomic.Uint64
}

// Our own choices: the number of lists of a protocol and the sessions in each, beyond which the oldest are forgotten; the
// number of places that a packet visits at most; and the time for which an answer over UDP must have been there.
const (
	reclaimLists   = 16
	reclaimMax     = 1 << 16
	reclaimTries   = 32
	reclaimMinimum = time.Second
)

// closedSession names a session in a list.
type closedSession struct {
	generation uint64
	slot       uint32
	since      table.Time // when it closed, plus origin
}

// closedList is a ring that grows.
type closedList struct {
	mu    sync.Mutex
	ring  []closedSession
	begin int
	n     int
}

// add adds a session at the end.
func (l *closedList) add(c closedSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.n < len(l.ring):
	case l.n < reclaimMax:
		grown := make([]closedSession, max(64, 2*l.n))
		copy(grown[copy(grown, l.ring[l.begin:]):], l.ring[:l.begin])
		l.ring, l.begin = grown, 0
	default:
		l.begin, l.n = (l.begin+1)%len(l.ring), l.n-1
	}
	l.ring[(l.begin+l.n)%len(l.ring)] = c
	l.n++
}

// take removes and returns the oldest session, if it closed at latest or before.
func (l *closedList) take(latest table.Time) (c closedSession, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 || l.ring[l.begin].since > latest {
		return c, false
	}
	c = l.ring[l.begin]
	l.begin, l.n = (l.begin+1)%len(l.ring), l.n-1
	return c, true
}

// peek returns the session that the take after skip others would return.
func (l *closedList) peek(skip int, latest table.Time) (c closedSession, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if skip >= l.n {
		return c, false
	}
	c = l.ring[(l.begin+skip)%len(l.ring)]
	return c, c.since <= latest
}

// list returns the list of a pool4 address.
func (x *reclaimer) list(p packet.Proto, mapped packet.Addr4) *closedList {
	return &x.lists[p][binary.BigEndian.Uint32(mapped[:])%reclaimLists]
}

// closed reports whether the session is over for both ends, as far as the gateway has seen: both FINs, a RST, a refused
// SYN, or an answer of DNS or NTP.
func (w word) closed() bool {
	l := w.lifetime()
	return l == lifeTransitory || l == lifeRefused || l == lifeAnswered
}

// noteClosed lists a session whose word is w. The caller is in a batch.
func (t *Table) noteClosed(slot uint32, e *entry, w word, now table.Time) {
	c := closedSession{generation(e.cycle.Load(), w), slot, now}
	t.reclaimer.list(e.proto, t.bib.Mapped(e.binding).Addr).add(c)
}

// noteAllClosed lists the sessions that closed before the list was in use.
func (t *Table) noteAllClosed() {
	t.epochs.Read(func() {
		for slot := uint32(1); slot < t.entries.Slots(); slot++ {
			e := t.entries.At(slot)
			if w := word(e.word.Load()); w.state() != Closed && w.closed() {
				t.noteClosed(slot, e, w, w.since())
			}
		}
	})
}

// reclaim ends a session that closed at latest or before, on the pool4 address of a client, or on any if it has none. It
// reports whether there was one. The caller is a worker in a batch.
func (t *Table) reclaim(client packet.Addr6, latest table.Time, q *event) bool {
	p := q.proto
	mapped, paired := t.paired(client, q)
	for i := range reclaimLists {
		l := &t.reclaimer.lists[p][i]
		if paired {
			l = t.reclaimer.list(p, mapped)
		}
		if t.reclaimFrom(l, latest, q.trial) {
			return true
		}
		if paired {
			break
		}
	}
	return false
}

func (t *Table) reclaimFrom(l *closedList, latest table.Time, tr *Trial) bool {
	for range reclaimTries {
		c, ok := tr.take(l, latest)
		if !ok {
			return false
		}
		x, ended := t.unlinkClosed(c, tr)
		switch {
		case ended && tr != nil:
			tr.finalize(t, x)
			return true
		case ended:
			t.finalize(x)
			t.reclaimer.taken.Add(1)
			return true
		}
	}
	return false
}

// unlinkClosed ends a session if it is still there and closed.
func (t *Table) unlinkClosed(c closedSession, tr *Trial) (x end, ended bool) {
	e := t.entries.At(c.slot)
	is := func(w word) bool {
		return w.state() != Closed && w.closed() && generation(e.cycle.Load(), w) == c.generation
	}
	if !is(word(e.word.Load())) || tr.hasEnded(c.slot) {
		return end{}, false
	}
	h := t.hash(e.key()) // of this session: its slot was in use in this batch
	s := t.index.Lock(h)
	defer s.Unlock()
	for {
		old := word(e.word.Load())
		if !is(old) {
			return end{}, false
		}
		if tr != nil {
			return tr.unlinkLocked(t, c.slot, e, old), true
		}
		if e.word.CompareAndSwap(uint64(old), uint64(old.freed())) {
			t.ended(c.slot, e, old, Evicted, t.observers.now())
			return t.unlinkLocked(s, h, c.slot), true
		}
	}
}

// makePort ends a closed TCP session for a packet that has found no free port, and reports whether there was one.
func (t *Table) makePort(client packet.Addr6, q *event) bool {
	if q.room == maxRoom || q.proto != packet.TCP || !t.policy.Load().reclaims {
		return false
	}
	q.room++
	return t.reclaim(client, q.now, q)
}

// reclaimAhead ends an answered UDP session if more than half of the ports of pool4 are in use. A port of UDP must rest
// before it can be used again, so that it is too late when the last one is in use.
func (t *Table) reclaimAhead(client packet.Addr6, q *event) {
	if q.proto != packet.UDP || !t.policy.Load().reclaims {
		return
	}
	if used, all := t.pool(q).InUse(packet.UDP); 2*used > all {
		t.reclaim(client, q.now-table.TimeOf(reclaimMinimum), q)
	}
}

// Reclaimed returns the number of closed sessions that were ended early for the sake of their ports.
func (t *Table) Reclaimed() uint64 { return t.reclaimer.taken.Load() }
