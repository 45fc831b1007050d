package bib

import (
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// subscribers counts what each client has, a client being a prefix of so many bits. The lock of a client's row is always
// the last lock taken.
//
// There is one only while there are limits, each with another generation. Every binding and session remembers the
// generation that counts it, so that none is counted twice or given back to the wrong one.
type subscribers struct {
	generation table.Generation // never 0
	bits       int
	rows       *table.Counted[addrKey, subscriber]
}

// subscriber is what a row holds. With its key it takes 32 bytes.
type subscriber struct {
	counts [things]uint32
	spent  uint32     // of the token bucket of NewPerSecond, in ticks' worth of a token; it flows back with time
	since  table.Time // when spent was right
}

// thing is what a subscriber may have.
type thing int

const (
	forBinding thing = iota
	forSession
	things
)

// newSubscribers returns those that Prepare has made, or others.
func (t *Table) newSubscribers(bits int) *subscribers {
	s := t.prepared
	if s == nil || s.bits != bits {
		s = t.makeSubscribers(bits)
	}
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

// Admit counts a session that a client is about to have; begins says that the client's own packet makes it. The
// result is for JoinLocked or Leave. The reason is drop.ClientSessions or drop.ClientRate if the client may not have it.
func (t *Table) Admit(c packet.Addr6, begins bool, now table.Time) (counted table.Generation, r drop.Reason) {
	s := t.subscribers.Load()
	if s == nil {
		return 0, drop.None
	}
	l := &t.conf.Load().Limits
	r = s.admit(c, drop.SessionLimit, func(row *subscriber) drop.Reason {
		if l.Sessions != 0 && row.counts[forSession] >= uint32(l.Sessions) {
			return drop.ClientSessions
		}
		if begins && l.NewPerSecond != 0 && !row.spend(l.NewPerSecond, now) {
			return drop.ClientRate
		}
		row.counts[forSession]++
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

// Leave gives back what Admit or JoinLocked have counted.
func (t *Table) Leave(c packet.Addr6, counted table.Generation) { t.leave(c, counted, forSession) }

// joinLocked counts a thing, whatever the limits, unless it is counted already. The caller holds the lock of the shard that
// the thing is in.
func (t *Table) joinLocked(c packet.Addr6, counted table.Generation, what thing) table.Generation {
	s := t.subscribers.Load()
	if s == nil {
		return 0
	}
	if counted == s.generation {
		return counted
	}
	if !s.rows.Update(s.key(c), func(row *subscriber) bool { row.counts[what]++; return true }) {
		return 0 // no room for a row: the thing is not counted
	}
	return s.generation
}

// leave gives back what was counted.
func (t *Table) leave(c packet.Addr6, counted table.Generation, what thing) {
	s := t.subscribers.Load()
	if s == nil || counted != s.generation {
		return
	}
	s.rows.Update(s.key(c), func(row *subscriber) bool { row.counts[what]--; return row.any() })
}

// admitBinding counts a dynamic binding that a client is about to have.
func (t *Table) admitBinding(c packet.Addr6) (counted table.Generation, r drop.Reason) {
	s := t.subscribers.Load()
	if s == nil {
		return 0, drop.None
	}
	most := t.conf.Load().Limits.Bindings
	r = s.admit(c, drop.BindingLimit, func(row *subscriber) drop.Reason {
		if most != 0 && row.counts[forBinding] >= uint32(most) {
			return drop.ClientBindings
		}
		row.counts[forBinding]++
		return drop.None
	})
	if r != drop.None {
		return 0, r
	}
	return s.generation, drop.None
}

// admit calls f, which counts a thing or refuses it, for a client's row. The reason is that of f, or full if there is no room
// for the row.
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

// any reports whether the client has something.
func (r *subscriber) any() bool { return r.counts != [things]uint32{} }

// spend takes a session from what a client may begin, perSecond of them at once, if there is one left.
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

// maxPerSecond is the highest rate that spent has room for; it is no limit any more.
const maxPerSecond = 1 << 27
