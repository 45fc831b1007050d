package session

import (
	"sync"
	"sync/atomic"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
)

// inbound counts the sessions that IPv4 hosts have opened. A host can open one with each source address that it forges,
// so they have quotas: in all, per client and per binding. If a quota is full, a new session evicts the oldest one of
// the lowest rank:
//
//   - first sessions that the client has not answered. A SYN+ACK is no answer, because a forged SYN gets one, too; an
//     acknowledgment is, because the client's TCP has checked that the other end has received the SYN+ACK.
//   - then UDP and ICMP sessions that the client has answered. The next packet in either direction makes such a session
//     again, so that no conversation breaks.
//
// TCP connections are never evicted. If a quota is full of them, the new session is refused. A new session of either
// side also evicts an unanswered one if another limit would refuse it.
//
// Any goroutine may call the methods. They take one lock, which is the last one taken. Packets of existing sessions do
// not call them, except with the first answer to each.
type inbound struct {
	sessions atomic.Int64 // number of records in use; written under mu
	evicted  atomic.Uint64

	mu         sync.Mutex // guards what follows, and entry.inbound together with the lock of the entry's shard
	quotas     [scopes]uint32
	prefixBits int
	records    numbered[record]
	groups     numbered[group]
	all        uint32 // the group of all sessions
	byBinding  map[bib.ID]uint32
	byClient   map[packet.Addr6]uint32
	peak       struct{ bindings, clients int } // for shrink
}

// scope is a set of sessions that has a quota.
type scope uint8

const (
	inAll scope = iota
	ofClient
	ofBinding
	scopes
)

// rank orders sessions for eviction, lowest first.
type rank uint8

const (
	unanswered rank = iota
	answered        // UDP and ICMP only
	ranks
	connected // TCP: never
	unlisted  // reserved for a session that is being made
)

// group is the sessions that share a quota.
type group struct {
	sessions       uint32
	oldest, newest [ranks]uint32 // records
	binding        bib.ID        // of scope ofBinding
	client         packet.Addr6  // of scope ofClient: the prefix
}

// record is one session, which is in a group of each scope and in a list of each group.
type record struct {
	slot         uint32
	rank         rank
	groups       [scopes]uint32
	older, newer [scopes]uint32
}

// configure replaces the quotas and the length of a client's prefix. Existing sessions stay in their groups.
func (x *inbound) configure(quotas [scopes]uint32, prefixBits int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.quotas, x.prefixBits = quotas, prefixBits
	if x.byBinding == nil {
		x.byBinding = make(map[bib.ID]uint32)
		x.byClient = make(map[packet.Addr6]uint32)
		x.all = x.groups.take()
	}
}

// reserve counts a new session and returns its record, or else the scope whose quota is full. A scope with more
// sessions than its quota, after the quota was lowered, is not full if one of its sessions has been evicted for this
// one already: a new session does not evict all that exceed the quota.
func (x *inbound) reserve(id bib.ID, client packet.Addr6, evicted [scopes]bool, tr *Trial) (n uint32, full scope) {
	x.mu.Lock()
	defer x.mu.Unlock()
	client = packet.Mask6(client, x.prefixBits)
	groups := [scopes]uint32{inAll: x.all, ofClient: x.byClient[client], ofBinding: x.byBinding[id]}
	for s := range scopes {
		s = scopes - 1 - s // the narrowest first: an eviction there makes room in all scopes
		g, quota := groups[s], x.quotas[s]
		if g == 0 {
			continue
		}
		if have := x.groups.at(g).sessions - tr.endedIn(g); have >= quota && !(evicted[s] && have > quota) {
			return 0, s
		}
	}
	if tr != nil {
		return triedRecord, 0
	}
	return x.takeLocked(id, client, groups), 0
}

// restore counts a restored session, regardless of the quotas, and returns its record.
func (x *inbound) restore(id bib.ID, client packet.Addr6) uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	client = packet.Mask6(client, x.prefixBits)
	return x.takeLocked(id, client, [scopes]uint32{inAll: x.all, ofClient: x.byClient[client], ofBinding: x.byBinding[id]})
}

// takeLocked returns the record of a new session in its groups, which it makes if they do not exist. The caller holds
// x.mu.
func (x *inbound) takeLocked(id bib.ID, client packet.Addr6, groups [scopes]uint32) (n uint32) {
	if groups[ofClient] == 0 {
		groups[ofClient] = x.groups.take()
		x.groups.at(groups[ofClient]).client = client
		x.byClient[client] = groups[ofClient]
	}
	if groups[ofBinding] == 0 {
		groups[ofBinding] = x.groups.take()
		x.groups.at(groups[ofBinding]).binding = id
		x.byBinding[id] = groups[ofBinding]
	}
	n = x.records.take()
	*x.records.at(n) = record{rank: unlisted, groups: groups}
	for _, g := range groups {
		x.groups.at(g).sessions++
	}
	x.sessions.Add(1)
	return n
}

// release gives back a record that no session has; 0 is none.
func (x *inbound) release(n uint32) {
	if n == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.freeLocked(n)
}

// assignLocked replaces the record of a session by n; 0 is none. The caller holds the lock of the session's shard.
func (x *inbound) assignLocked(e *entry, slot, n uint32) {
	if e.inbound == 0 && n == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.inbound != 0 {
		x.freeLocked(e.inbound)
	}
	if e.inbound = n; n != 0 {
		x.records.at(n).slot = slot
		x.listLocked(n, unanswered)
	}
}

// answer moves a session to its rank after the client's answer.
func (x *inbound) answer(e *entry, p packet.Proto) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := e.inbound
	if n == 0 { // it has ended meanwhile
		return
	}
	x.unlistLocked(n)
	if p == packet.TCP {
		x.records.at(n).rank = connected
		return
	}
	x.listLocked(n, answered)
}

// began reports whether an IPv4 host has begun a session.
func (x *inbound) began(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return e.inbound != 0
}

// first returns the slot of the first session to evict in a group, of rank last at most, or 0. Those that tr, which may be nil, has
// ended do not count.
func (x *inbound) first(s scope, id bib.ID, client packet.Addr6, last rank, tr *Trial) uint32 {
	if x.sessions.Load() == 0 {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.groups.at([scopes]uint32{inAll: x.all, ofClient: x.byClient[packet.Mask6(client, x.prefixBits)], ofBinding: x.byBinding[id]}[s])
	for _, n := range g.oldest[:last+1] {
		for ; n != 0; n = x.records.at(n).newer[s] {
			if slot := x.records.at(n).slot; !tr.hasEnded(slot) {
				return slot
			}
		}
	}
	return 0
}

// freeLocked gives back a record and its counts. The caller holds x.mu.
func (x *inbound) freeLocked(n uint32) {
	x.unlistLocked(n)
	groups := x.records.at(n).groups
	for s, i := range groups {
		g := x.groups.at(i)
		if g.sessions--; g.sessions > 0 || scope(s) == inAll {
			continue
		}
		if scope(s) == ofBinding {
			delete(x.byBinding, g.binding)
			x.byBinding = shrink(x.byBinding, &x.peak.bindings)
		} else {
			delete(x.byClient, g.client)
			x.byClient = shrink(x.byClient, &x.peak.clients)
		}
		x.groups.give(i)
	}
	x.records.give(n)
	x.sessions.Add(-1)
}

// listLocked makes a record the newest of its rank in all its groups. The caller holds x.mu.
func (x *inbound) listLocked(n uint32, r rank) {
	rec := x.records.at(n)
	rec.rank = r
	for s, i := range rec.groups {
		g := x.groups.at(i)
		rec.older[s], rec.newer[s] = g.newest[r], 0
		if g.newest[r] == 0 {
			g.oldest[r] = n
		} else {
			x.records.at(g.newest[r]).newer[s] = n
		}
		g.newest[r] = n
	}
}

// unlistLocked removes a record from its lists, if it is in any. The caller holds x.mu.
func (x *inbound) unlistLocked(n uint32) {
	rec := x.records.at(n)
	r := rec.rank
	if r >= ranks {
		return
	}
	for s, i := range rec.groups {
		g, older, newer := x.groups.at(i), rec.older[s], rec.newer[s]
		if older == 0 {
			g.oldest[r] = newer
		} else {
			x.records.at(older).newer[s] = newer
		}
		if newer == 0 {
			g.newest[r] = older
		} else {
			x.records.at(newer).older[s] = older
		}
	}
}

// evict ends the first session to evict in a scope, of rank last at most, and reports whether there was one. The caller
// is a worker in a batch.
func (t *Table) evict(s scope, id bib.ID, client packet.Addr6, last rank, q *event) bool {
	const tries = 4 // others may end or answer the session first
	for range tries {
		slot := t.inbound.first(s, id, client, last, q.trial)
		if slot == 0 {
			return false
		}
		x, ended := t.unlinkEvicted(slot, q.trial)
		switch {
		case ended && q.trial != nil:
			q.trial.finalize(t, x)
			return true
		case ended:
			t.finalize(x)
			t.inbound.evicted.Add(1)
			return true
		}
	}
	return false
}

// unlinkEvicted ends a session unless it can no longer be evicted. Its slot was in use in this batch, so no other
// session gets the slot before the batch ends.
func (t *Table) unlinkEvicted(slot uint32, tr *Trial) (x end, ended bool) {
	e := t.entries.At(slot)
	h := t.hash(e.key())
	s := t.index.Lock(h)
	defer s.Unlock()
	for {
		old := word(e.word.Load())
		if e.inbound == 0 || old.state() != Active && !old.unanswered() {
			return end{}, false
		}
		if tr != nil {
			return tr.unlinkLocked(t, slot, e, old), true
		}
		if e.word.CompareAndSwap(uint64(old), uint64(old.freed())) {
			t.ended(slot, e, old, Evicted, t.observers.now())
			return t.unlinkLocked(s, h, slot), true
		}
	}
}

// maxRoom is the number of sessions that one packet evicts at most: our own choice. One suffices unless a limit was lowered.
const maxRoom = 8

// makeRoom evicts an unanswered session to make room for the new one, which was refused for r. It reports whether there
// was one.
func (t *Table) makeRoom(r drop.Reason, id bib.ID, client packet.Addr6, q *event) bool {
	if q.room == maxRoom {
		return false
	}
	q.room++
	switch r {
	case drop.SessionLimit, drop.MemoryLimit:
		return t.evict(inAll, id, client, unanswered, q)
	case drop.ClientSessions:
		return t.evict(ofClient, id, client, unanswered, q)
	case drop.BindingSessions:
		return t.evict(ofBinding, id, client, unanswered, q)
	}
	return false
}

// reserveInbound counts a new session of an IPv4 host against the quotas, and evicts older ones for it.
func (t *Table) reserveInbound(id bib.ID, client packet.Addr6, q *event) drop.Reason {
	var evicted [scopes]bool
	for {
		var full scope
		if q.inbound, full = t.inbound.reserve(id, client, evicted, q.trial); q.inbound != 0 {
			return drop.None
		}
		if !t.evict(full, id, client, answered, q) {
			return drop.InboundLimit
		}
		evicted[full] = true
	}
}

// InboundLen returns the number of sessions that IPv4 hosts have opened, including those that are being made.
func (t *Table) InboundLen() int { return int(t.inbound.sessions.Load()) }

// InboundQuota returns their quota.
func (t *Table) InboundQuota() int {
	t.inbound.mu.Lock()
	defer t.inbound.mu.Unlock()
	return int(t.inbound.quotas[inAll])
}

// Evicted returns the number of sessions of IPv4 hosts that were evicted for newer ones.
func (t *Table) Evicted() uint64 { return t.inbound.evicted.Load() }
