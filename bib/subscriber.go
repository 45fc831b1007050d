package bib

import (
	"sync/atomic"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// subscribers counts the bindings and sessions of each client, where a client is a prefix of bits bits. The lock of a
// client's row is always the last lock taken.
//
// The table has subscribers only while there are limits, each time of a new generation. A binding or session holds the
// generation that counts it, so that it is counted once and given back to the subscribers that count it.
type subscribers struct {
	generation table.Generation // never 0
	bits       int
	sessions   bool                        // it counts sessions, too
	active     [packet.Protos]atomic.Int64 // clients that have bindings of a protocol
	rows       *table.Counted[addrKey, subscriber]
}

// subscriber is the value of a row. With its key it takes 40 bytes.
type subscriber struct {
	counts [things]uint32
	spent  uint32     // of the token bucket of NewPerSecond, in 1/16 of a token; time refills the bucket
	since  table.Time // when spent was last updated
}

// thing is a kind of entry that subscribers count: the bindings of a protocol, whose number it is, or sessions.
type thing int

const (
	forSession = thing(packet.Protos)
	things     = forSession + 1
)

func forBinding(p packet.Proto) thing { return thing(p) }

// add counts a thing in a client's row, and the client if it is its first one.
func (s *subscribers) add(row *subscriber, what thing) {
	if row.counts[what]++; row.counts[what] == 1 && what != forSession {
		s.active[what].Add(1)
	}
}

// remove gives back what add has counted.
func (s *subscribers) remove(row *subscriber, what thing) {
	if row.counts[what]--; row.counts[what] == 0 && what != forSession {
		s.active[what].Add(-1)
	}
}

// bindings returns the number of bindings of all protocols.
func (r *subscriber) bindings() (n uint32) {
	for _, k := range r.counts[:forSession] {
		n += k
	}
	return n
}

// Our own choices for Limits.FairShare: the part of pool4 below which it has an effect, a quarter, the size of a pool of which a
// part is kept for clients that have no binding yet, and that part.
const (
	scarcePart = 4
	largePool  = 1024
	newcomers  = 32
)

// share returns the number of bindings of a protocol above which a client gets no further one, or false while there is no
// limit because a quarter of the ports is free. A lone client may fill a small pool, but not a large one.
func (s *subscribers) share(p packet.Proto, pool *pool4.Pool) (most uint32, scarce bool) {
	used, all := pool.InUse(p)
	if (all-used)*scarcePart >= all {
		return 0, false
	}
	clients := int(s.active[p].Load())
	if all >= largePool && (all-used)*newcomers < all {
		clients++
	}
	return uint32(all / max(clients, 1)), true
}

// newSubscribers returns the subscribers that Prepare has made, or new ones.
func (t *Table) newSubscribers(l *Limits) *subscribers {
	s := t.prepared
	if s == nil || s.bits != l.PrefixLen {
		s = t.makeSubscribers(l.PrefixLen)
	}
	s.sessions = l.ofSessions()
	t.generation = t.generation.Next()
	t.prepared, s.generation = nil, t.generation
	return s
}

func (t *Table) makeSubscribers(bits int) *subscribers {
	return &subscribers{
		bits: bits,
		rows: table.NewCounted[addrKey, subscriber](int(t.max), t.key, t.epochs),
	}
}

// Admit counts a new session of a client; begins is set if a packet of the client makes it. The result is for
// JoinLocked or Leave. The reason is drop.ClientSessions or drop.ClientRate if a limit refuses the session.
func (t *Table) Admit(c packet.Addr6, begins bool, now table.Time) (counted table.Generation, r drop.Reason) {
	l := t.ledger()
	return l.admitSession(c, begins, now)
}

func (l *ledger) admitSession(c packet.Addr6, begins bool, now table.Time) (counted table.Generation, r drop.Reason) {
	s, most := l.subscribers, &l.conf.Limits
	if s == nil || !s.sessions {
		return 0, drop.None
	}
	r = s.admit(c, drop.SessionLimit, func(row *subscriber) drop.Reason {
		if most.Sessions != 0 && row.counts[forSession] >= uint32(most.Sessions) {
			return drop.ClientSessions
		}
		if begins && most.NewPerSecond != 0 && !row.spend(most.NewPerSecond, now) {
			return drop.ClientRate
		}
		s.add(row, forSession)
		return drop.None
	})
	if r != drop.None {
		return 0, r
	}
	return s.generation, drop.None
}

// JoinLocked returns the generation that counts a session now. It counts the session unless that generation does so
// already. The caller holds the lock of the session's shard.
func (t *Table) JoinLocked(c packet.Addr6, counted table.Generation) table.Generation {
	return t.joinLocked(c, counted, forSession)
}

// Leave gives back the count of Admit or JoinLocked.
func (t *Table) Leave(c packet.Addr6, counted table.Generation) { t.leave(c, counted, forSession) }

// joinLocked counts a thing, regardless of the limits, unless it is counted already. The caller holds the lock of the
// thing's shard.
func (t *Table) joinLocked(c packet.Addr6, counted table.Generation, what thing) table.Generation {
	s := t.subscribers.Load()
	if s == nil || what == forSession && !s.sessions {
		return 0
	}
	if counted == s.generation {
		return counted
	}
	if !s.rows.Update(s.key(c), func(row *subscriber) bool { s.add(row, what); return true }) {
		return 0 // without room for a row the thing is not counted
	}
	return s.generation
}

// leave gives back a count.
func (t *Table) leave(c packet.Addr6, counted table.Generation, what thing) {
	t.subscribers.Load().leave(c, counted, what)
}

// leave gives back a count. s may be nil.
func (s *subscribers) leave(c packet.Addr6, counted table.Generation, what thing) {
	if s == nil || counted != s.generation {
		return
	}
	s.rows.Update(s.key(c), func(row *subscriber) bool { s.remove(row, what); return row.any() })
}

// admitBinding counts a new dynamic binding of a client. With always it ignores the limits.
func (l *ledger) admitBinding(c packet.Addr6, p packet.Proto, always bool) (counted table.Generation, r drop.Reason) {
	s, limits := l.subscribers, &l.conf.Limits
	if s == nil {
		return 0, drop.None
	}
	r = s.admit(c, drop.BindingLimit, func(row *subscriber) drop.Reason {
		if limits.Bindings != 0 && !always && row.bindings() >= uint32(limits.Bindings) {
			return drop.ClientBindings
		}
		if limits.FairShare && !always {
			if most, scarce := s.share(p, l.pool); scarce && row.counts[forBinding(p)] > most {
				return drop.ClientShare
			}
		}
		s.add(row, forBinding(p))
		return drop.None
	})
	if r != drop.None {
		return 0, r
	}
	return s.generation, drop.None
}

// admit calls f, which counts a thing or refuses it, for a client's row. The reason is that of f, or full if there is
// no room for the row.
func (s *subscribers) admit(c packet.Addr6, full drop.Reason, f func(*subscriber) drop.Reason) (r drop.Reason) {
	r = full
	s.rows.Update(s.key(c), func(row *subscriber) bool {
		r = f(row)
		return row.any()
	})
	return r
}

// key returns the key of a client's row.
func (s *subscribers) key(c packet.Addr6) addrKey { return addrKey(packet.Mask6(c, s.bits)) }

// any reports whether the row counts something.
func (r *subscriber) any() bool { return r.counts != [things]uint32{} }

// spend takes a token for a session from the client's bucket, which holds perSecond tokens, and reports whether there
// was one.
func (r *subscriber) spend(perSecond int, now table.Time) bool {
	const one = uint64(time.Second / table.Tick)
	rate := uint64(min(perSecond, maxPerSecond))
	if now > r.since { // workers' clocks may differ by a batch
		r.spent -= uint32(min(uint64(r.spent), uint64(now-r.since)*rate))
		r.since = now
	}
	if uint64(r.spent)+one > rate*one {
		return false
	}
	r.spent += uint32(one)
	return true
}

// maxPerSecond is the highest rate for which spent has room; a gateway cannot reach it.
const maxPerSecond = 1 << 27
