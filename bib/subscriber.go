package bib

import (
	"encoding/binary"
	"runtime"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// subscribers counts what each client has, a client being a prefix of so many bits. Everything happens under the lock
// of the client's shard, which is always the last lock taken. A row lives as long as its client has something.
//
// There is one only while there are limits, each with another number, its edition. Every binding and session
// remembers the edition that counts it, so that none is counted twice or given back to the wrong one.
type subscribers struct {
	edition uint8 // never 0
	bits    int
	key     table.Key
	index   *table.Index
	rows    *table.Slab[subscriber]
}

// subscriber is a row: 32 bytes without pointers.
type subscriber struct {
	prefix packet.Addr6
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
	t.edition++
	if t.edition == 0 {
		t.edition = 1
	}
	t.prepared, s.edition = nil, t.edition
	return s
}

func (t *Table) makeSubscribers(bits int) *subscribers {
	return &subscribers{
		bits:  bits,
		key:   t.key,
		index: table.NewIndex(int(t.max), t.epochs),
		rows:  table.NewSlab[subscriber](int(t.max), t.epochs),
	}
}

// Admit counts a session that a client is about to have; begins says that the client's own packet makes it. The
// result is for Join or Leave. The reason is drop.ClientSessions or drop.ClientRate if the client may not have it.
func (t *Table) Admit(c packet.Addr6, begins bool, now table.Time) (counted uint8, r drop.Reason) {
	s := t.subscribers.Load()
	if s == nil {
		return 0, drop.None
	}
	l := &t.conf.Load().Limits
	r = s.change(c, func(row *subscriber) drop.Reason {
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
	return s.edition, drop.None
}

// Join returns the edition that counts a session now, after it has counted it if another did so before. The caller
// holds the lock under which it shows the session to recounts.
func (t *Table) Join(c packet.Addr6, counted uint8) uint8 { return t.join(c, counted, forSession) }

// Leave gives back what Admit or Join have counted.
func (t *Table) Leave(c packet.Addr6, counted uint8) { t.leave(c, counted, forSession) }

// join counts a thing, whatever the limits, unless it is counted already.
func (t *Table) join(c packet.Addr6, counted uint8, what thing) uint8 {
	s := t.subscribers.Load()
	if s == nil {
		return 0
	}
	if counted == s.edition {
		return counted
	}
	if s.change(c, func(row *subscriber) drop.Reason { row.counts[what]++; return drop.None }) != drop.None {
		return 0 // no room for a row: the thing is not counted
	}
	return s.edition
}

// leave gives back what was counted.
func (t *Table) leave(c packet.Addr6, counted uint8, what thing) {
	s := t.subscribers.Load()
	if s == nil || counted != s.edition {
		return
	}
	s.change(c, func(row *subscriber) drop.Reason { row.counts[what]--; return drop.None })
}

// admitBinding counts a dynamic binding that a client is about to have.
func (t *Table) admitBinding(c packet.Addr6) (counted uint8, r drop.Reason) {
	s := t.subscribers.Load()
	if s == nil {
		return 0, drop.None
	}
	most := t.conf.Load().Limits.Bindings
	r = s.change(c, func(row *subscriber) drop.Reason {
		if most != 0 && row.counts[forBinding] >= uint32(most) {
			return drop.ClientBindings
		}
		row.counts[forBinding]++
		return drop.None
	})
	if r != drop.None {
		return 0, r
	}
	return s.edition, drop.None
}

// change calls f for a client's row under its lock. The row is made if need be, and goes if nothing is left in it.
func (s *subscribers) change(c packet.Addr6, f func(*subscriber) drop.Reason) drop.Reason {
	defer runtime.KeepAlive(s) // the last configuration's may be garbage already, but for us
	prefix := packet.Mask6(c, s.bits)
	h := s.key.Hash(binary.BigEndian.Uint64(prefix[:8]), binary.BigEndian.Uint64(prefix[8:]), uint64(s.bits))
	shard := s.index.Lock(h)
	defer shard.Unlock()
	slot := s.find(shard, h, prefix)
	if slot == 0 {
		if slot = s.rows.Alloc(uint32(h)); slot == 0 {
			return drop.SessionLimit
		}
		*s.rows.At(slot) = subscriber{prefix: prefix}
		shard.Insert(h, slot)
	}
	row := s.rows.At(slot)
	r := f(row)
	if row.counts == [things]uint32{} {
		shard.Remove(h, slot)
		s.rows.Retire(slot)
	}
	return r
}

func (s *subscribers) find(shard *table.Shard, h uint64, prefix packet.Addr6) uint32 {
	p := shard.Find(h)
	slot := p.Next()
	for slot != 0 && s.rows.At(slot).prefix != prefix {
		slot = p.Next()
	}
	return slot
}

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
