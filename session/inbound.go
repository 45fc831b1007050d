package session

import (
	"sync"
	"sync/atomic"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
)

// inbound counts the sessions that IPv4 hosts have opened. An outsider can open one with each forged source address,
// so they have quotas: in total, per client and per binding. If a quota is reached, the oldest evictable session ends
// for the new one. Sessions that the client has not answered are evicted first; a SYN+ACK is no answer, since a
// forged SYN gets one as well, but an acknowledgment is, because the client's TCP has verified that the other end
// received the SYN+ACK. UDP and ICMP sessions that the client has answered come next; the next packet in either
// direction opens such a session again, so nothing is lost.
//
// TCP connections are never evicted. If they use up a quota, the new session is refused. Unanswered sessions are also
// evicted where another limit would refuse a session of either side.
//
// All methods are safe for concurrent use. They take one lock, under which no other lock is taken. Packets of
// existing sessions do not get here, except the first answer to each.
type inbound struct {
	sessions atomic.Int64 // as many as records are in use; written under mu
	evicted  atomic.Uint64

	mu         sync.Mutex // guards what follows, and entry.inbound together with the lock of the entry's shard
	quotas     [scopes]uint32
	prefixBits int
	records    pile[record]
	groups     pile[group]
	all        uint32 // the group of all sessions
	byBinding  map[bib.ID]uint32
	byClient   map[packet.Addr6]uint32
}

// scope is what a quota is for.
type scope uint8

const (
	inAll scope = iota
	ofClient
	ofBinding
	scopes
)

// rank is the order in which sessions are evicted.
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

// record is one session, a member of a group of each scope and of a list in each.
type record struct {
	slot         uint32
	rank         rank
	groups       [scopes]uint32
	older, newer [scopes]uint32
}

// configure replaces the quotas and the length of a client's prefix. Sessions that exist stay in their groups.
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

// reserve counts a session to come, and returns its record, or else the scope whose quota is used up. A scope that has
// more sessions than its quota, because the quota has become smaller, is not full if a session of it has been evicted
// already: one newcomer does not end all that are too many.
func (x *inbound) reserve(id bib.ID, client packet.Addr6, evicted [scopes]bool) (n uint32, full scope) {
	x.mu.Lock()
	defer x.mu.Unlock()
	client = packet.Mask6(client, x.prefixBits)
	groups := [scopes]uint32{inAll: x.all, ofClient: x.byClient[client], ofBinding: x.byBinding[id]}
	for s := range scopes {
		s = scopes - 1 - s // the narrowest first: an eviction there also makes room in the wider scopes
		g, quota := groups[s], x.quotas[s]
		if g == 0 || x.groups.at(g).sessions < quota || evicted[s] && x.groups.at(g).sessions > quota {
			continue
		}
		return 0, s
	}
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
	return n, 0
}

// release gives back a record that no session got; 0 is none.
func (x *inbound) release(n uint32) {
	if n == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.free(n)
}

// assign makes n the record of a session, instead of the one that it has; 0 is none. The caller holds the lock of the
// session's shard.
func (x *inbound) assign(e *entry, slot, n uint32) {
	if e.inbound == 0 && n == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.inbound != 0 {
		x.free(e.inbound)
	}
	if e.inbound = n; n != 0 {
		x.records.at(n).slot = slot
		x.list(n, unanswered)
	}
}

// answer notes that the client has answered a session.
func (x *inbound) answer(e *entry, p packet.Proto) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := e.inbound
	if n == 0 { // it has ended meanwhile
		return
	}
	x.unlist(n)
	if p == packet.TCP {
		x.records.at(n).rank = connected
		return
	}
	x.list(n, answered)
}

// began reports whether an IPv4 host has begun a session.
func (x *inbound) began(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return e.inbound != 0
}

// first returns the slot of the next session to evict in a group, with rank at most last, or 0.
func (x *inbound) first(s scope, id bib.ID, client packet.Addr6, last rank) uint32 {
	if x.sessions.Load() == 0 {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.groups.at([scopes]uint32{inAll: x.all, ofClient: x.byClient[packet.Mask6(client, x.prefixBits)], ofBinding: x.byBinding[id]}[s])
	for _, n := range g.oldest[:last+1] {
		if n != 0 {
			return x.records.at(n).slot
		}
	}
	return 0
}

// free gives back a record and what it counts. The caller holds the lock.
func (x *inbound) free(n uint32) {
	x.unlist(n)
	groups := x.records.at(n).groups
	for s, i := range groups {
		g := x.groups.at(i)
		if g.sessions--; g.sessions > 0 || scope(s) == inAll {
			continue
		}
		if scope(s) == ofBinding {
			delete(x.byBinding, g.binding)
		} else {
			delete(x.byClient, g.client)
		}
		x.groups.give(i)
	}
	x.records.give(n)
	x.sessions.Add(-1)
}

// list makes a record the newest of its rank in all of its groups. The caller holds the lock.
func (x *inbound) list(n uint32, r rank) {
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

// unlist takes a record out of its lists, if it is in any. The caller holds the lock.
func (x *inbound) unlist(n uint32) {
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

// evict ends the next session to evict in the given scope, with rank at most last, and reports whether there was one.
// The caller is a worker in a batch.
func (t *Table) evict(s scope, id bib.ID, client packet.Addr6, last rank) bool {
	const tries = 4 // others may end or answer the session first
	for range tries {
		slot := t.inbound.first(s, id, client, last)
		if slot == 0 {
			return false
		}
		if x, ended := t.unlinkEvicted(slot); ended {
			t.finalize(x)
			t.inbound.evicted.Add(1)
			return true
		}
	}
	return false
}

// unlinkEvicted ends a session unless it is no longer evictable. Its slot was in use in this batch, so it is not
// reused before the batch ends.
func (t *Table) unlinkEvicted(slot uint32) (x end, ended bool) {
	e := t.entries.At(slot)
	h := t.hash(e.key())
	s := t.index.Lock(h)
	defer s.Unlock()
	for {
		old := word(e.word.Load())
		if e.inbound == 0 || old.state() != Active && !old.unanswered() {
			return end{}, false
		}
		if e.word.CompareAndSwap(uint64(old), uint64(old.freed())) {
			t.ended(slot, e, old, MadeRoom, t.observers.now())
			return t.unlink(s, h, slot), true
		}
	}
}

// maxRoom is the maximum number of sessions evicted for one packet: our own choice. One is enough unless a limit was
// lowered.
const maxRoom = 8

// makeRoom ends an unanswered session that stands in the way of the one to come, which was refused for r. It reports
// whether there was one.
func (t *Table) makeRoom(r drop.Reason, id bib.ID, client packet.Addr6, q *event) bool {
	if q.room == maxRoom {
		return false
	}
	q.room++
	switch r {
	case drop.SessionLimit:
		return t.evict(inAll, id, client, unanswered)
	case drop.ClientSessions:
		return t.evict(ofClient, id, client, unanswered)
	case drop.BindingSessions:
		return t.evict(ofBinding, id, client, unanswered)
	}
	return false
}

// reserveInbound counts a new session of an IPv4 host against the quotas, and evicts older ones for it if necessary.
func (t *Table) reserveInbound(id bib.ID, client packet.Addr6, q *event) drop.Reason {
	var evicted [scopes]bool
	for {
		var full scope
		if q.inbound, full = t.inbound.reserve(id, client, evicted); q.inbound != 0 {
			return drop.None
		}
		if !t.evict(full, id, client, answered) {
			return drop.InboundLimit
		}
		evicted[full] = true
	}
}

// InboundLen returns the number of sessions that IPv4 hosts have begun, those included that are being made.
func (t *Table) InboundLen() int { return int(t.inbound.sessions.Load()) }

// InboundQuota returns how many there may be.
func (t *Table) InboundQuota() int {
	t.inbound.mu.Lock()
	defer t.inbound.mu.Unlock()
	return int(t.inbound.quotas[inAll])
}

// Evicted returns the number of evicted sessions that IPv4 hosts had opened.
func (t *Table) Evicted() uint64 { return t.inbound.evicted.Load() }

// pile holds values that are named by a number, which is never 0, and that never move. It grows by as many at a time as
// it takes no noticeable time to make. The zero value is empty; its user serializes the calls.
type pile[T any] struct {
	chunks []*[pileChunk]T
	spare  []uint32
	used   uint32
}

const pileChunk = 1024

func (p *pile[T]) at(n uint32) *T { return &p.chunks[n/pileChunk][n%pileChunk] }

// take returns the number of a value that is zero, or that give has made so.
func (p *pile[T]) take() uint32 {
	if last := len(p.spare) - 1; last >= 0 {
		n := p.spare[last]
		p.spare = p.spare[:last]
		return n
	}
	p.used++
	if int(p.used/pileChunk) == len(p.chunks) {
		p.chunks = append(p.chunks, new([pileChunk]T))
	}
	return p.used
}

func (p *pile[T]) give(n uint32) {
	*p.at(n) = *new(T)
	p.spare = append(p.spare, n)
}
