package session

import (
	"slices"
	"sync"
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// SYN is a V4 SYN for which nobody has opened: its sender is due a port unreachable that quotes it (RFC 6146 section
// 3.5.2.2, RFC 5382 REQ-4).
type SYN struct {
	Src, Dst packet.Endpoint4
	Packet   []byte // as Store was given it, of which an error quotes no more; the receiver owns it
}

// Store keeps a V4 SYN for which From4 has returned drop.StoredSYN, in case its client opens too (RFC 6146 section
// 3.5.2.2); p is the whole packet as its sender sent it, and is copied. The reason to count is drop.StoredSYN, or
// drop.StoredSYNLimit if too many are stored.
func (t *Table) Store(src, dst packet.Endpoint4, p []byte, now table.Time) drop.Reason {
	return t.syns.store(synKey{mapped: dst, remote: src}, p, now)
}

// SweepSYNs hands out the stored SYNs that have waited for Timeouts.TCPSyn, n of them at most, and returns whether
// there may be more. Those whose connection has come about after all vanish silently. It is for the goroutine that
// calls Sweep.
func (t *Table) SweepSYNs(now table.Time, n int, refuse func(SYN)) (more bool) {
	all := t.syns.expire(now, t.policy.Load().syn, n)
	for _, s := range all {
		if !t.connected(s.Dst, s.Src) {
			refuse(s)
		}
	}
	return len(all) == n
}

// connected reports whether there is a TCP session between (T,t) and (W,w).
func (t *Table) connected(mapped, remote packet.Endpoint4) (ok bool) {
	t.epochs.Guest(func() { ok = t.Known(packet.TCP, mapped, remote) })
	return ok
}

// StoredSYNs returns the stored SYNs as what RFC 6146 has them for: sessions in state V4_INIT, whose client is
// unknown.
func (t *Table) StoredSYNs(now table.Time) []Session { return t.syns.list(now, t.policy.Load().syn) }

// StoredLen returns the number of stored SYNs.
func (t *Table) StoredLen() int { return int(t.syns.stored.Load()) }

// AddStatic is AddStatic of the bindings. A stored SYN for the transport address is discarded: the binding answers when
// it comes again.
func (t *Table) AddStatic(p packet.Proto, c packet.Endpoint6, m packet.Endpoint4) error {
	if err := t.bib.AddStatic(p, c, m); err != nil {
		return err
	}
	if p == packet.TCP {
		t.syns.forget(m)
	}
	return nil
}

// maxQuote is what an ICMPv4 error of 576 bytes has room for (RFC 1812 section 4.3.2.3).
const maxQuote = 576 - packet.IPv4Len - packet.ICMPLen

// maxWanted is how many of the transport addresses that a peer's SYNs wait at are tried for one new binding.
const maxWanted = 8

// synKey is what a stored SYN is found by.
type synKey struct{ mapped, remote packet.Endpoint4 } // (T,t) and (W,w) of RFC 6146

// storedSYN is a V4 SYN that waits for its client to open as well.
type storedSYN struct {
	key          synKey
	since        table.Time
	packet       []byte
	older, newer *storedSYN
}

// syns is the stored SYNs. They are no sessions: there are few, an outsider makes them, and they have no client. All
// methods may be called by any goroutine; those of other flows find out by one atomic load that nothing is stored.
type syns struct {
	stored atomic.Int64

	mu             sync.Mutex // guards what follows
	limits         synLimits
	byKey          map[synKey]*storedSYN
	byRemote       map[packet.Endpoint4][]packet.Endpoint4 // (W,w) to each (T,t), oldest first
	bySource       map[packet.Addr4]int
	byAddress      map[packet.Addr4]int // of pool4
	oldest, newest *storedSYN
}

// synLimits bound how many SYNs are stored; of each, maxQuote bytes are kept at most, so that they bound the memory, too.
// A limit of 0 for one source or one address is none.
type synLimits struct{ total, perSource, perAddress int }

// configure replaces the limits. What is stored stays.
func (s *syns) configure(l synLimits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l
	if s.byKey == nil {
		s.byKey = make(map[synKey]*storedSYN)
		s.byRemote = make(map[packet.Endpoint4][]packet.Endpoint4)
		s.bySource = make(map[packet.Addr4]int)
		s.byAddress = make(map[packet.Addr4]int)
	}
}

// store keeps a SYN. One that comes again does not wait longer.
func (s *syns) store(k synKey, p []byte, now table.Time) drop.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[k] != nil {
		return drop.StoredSYN
	}
	if s.full(k) {
		return drop.StoredSYNLimit
	}
	x := &storedSYN{key: k, since: now, packet: slices.Clone(p[:min(len(p), maxQuote)]), older: s.newest}
	if s.newest == nil {
		s.oldest = x
	} else {
		s.newest.newer = x
	}
	s.newest = x
	s.byKey[k] = x
	s.byRemote[k.remote] = append(s.byRemote[k.remote], k.mapped)
	s.bySource[k.remote.Addr]++
	s.byAddress[k.mapped.Addr]++
	s.stored.Add(1)
	return drop.StoredSYN
}

// full reports whether one of the limits is reached for a SYN to come. The caller holds the lock.
func (s *syns) full(k synKey) bool {
	l := &s.limits
	return len(s.byKey) >= l.total ||
		l.perSource != 0 && s.bySource[k.remote.Addr] >= l.perSource ||
		l.perAddress != 0 && s.byAddress[k.mapped.Addr] >= l.perAddress
}

// claim takes out the SYN with this key, if there is one that still waits.
func (s *syns) claim(k synKey, now, life table.Time) bool {
	if s.stored.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byKey[k]
	if x == nil || x.over(now, life) {
		return false
	}
	s.remove(x)
	return true
}

// wanted returns where SYNs of a remote wait, oldest first and not too many.
func (s *syns) wanted(remote packet.Endpoint4) []packet.Endpoint4 {
	if s.stored.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.byRemote[remote]
	return slices.Clone(all[:min(len(all), maxWanted)])
}

// forget takes out what waits at a transport address.
func (s *syns) forget(m packet.Endpoint4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := s.oldest; x != nil; x = x.newer {
		if x.key.mapped == m {
			s.remove(x)
		}
	}
}

// list returns those that still wait, oldest first.
func (s *syns) list(now, life table.Time) (all []Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := s.oldest; x != nil; x = x.newer {
		if !x.over(now, life) {
			all = append(all, Session{
				Proto: packet.TCP, Mapped: x.key.mapped, Remote: x.key.remote, State: V4Init,
				Remaining: (x.since + life - now).Duration(),
			})
		}
	}
	return all
}

// expire takes out the oldest SYNs that have waited for long enough, n of them at most.
func (s *syns) expire(now, life table.Time, n int) (all []SYN) {
	if s.stored.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := s.oldest; x != nil && x.over(now, life) && len(all) < n; x = s.oldest {
		s.remove(x)
		all = append(all, SYN{Src: x.key.remote, Dst: x.key.mapped, Packet: x.packet})
	}
	return all
}

// over reports whether a SYN has waited for its lifetime; strictly longer, because the clock is coarse.
func (x *storedSYN) over(now, life table.Time) bool {
	return uint64(now) > uint64(x.since)+uint64(life)
}

// remove takes a SYN out of everything; it still leads to the next one. The caller holds the lock.
func (s *syns) remove(x *storedSYN) {
	if x.older == nil {
		s.oldest = x.newer
	} else {
		x.older.newer = x.newer
	}
	if x.newer == nil {
		s.newest = x.older
	} else {
		x.newer.older = x.older
	}
	delete(s.byKey, x.key)
	r := x.key.remote
	at := s.byRemote[r]
	if i := slices.Index(at, x.key.mapped); len(at) > 1 {
		s.byRemote[r] = slices.Delete(at, i, i+1)
	} else {
		delete(s.byRemote, r)
	}
	uncount(s.bySource, r.Addr)
	uncount(s.byAddress, x.key.mapped.Addr)
	s.stored.Add(-1)
}

// uncount takes one off a count, which leaves the map with the last.
func uncount(m map[packet.Addr4]int, a packet.Addr4) {
	if m[a]--; m[a] == 0 {
		delete(m, a)
	}
}
