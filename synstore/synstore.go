// Package synstore keeps the TCP SYNs from IPv4 that wait for the client's own SYN (RFC 6146 section 3.5.2.2, RFC 5382
// REQ-2 and REQ-4).
package synstore

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// Store holds stored SYNs. They are not sessions: an outsider makes them and they have no client, so their number is
// bounded in all, for each source and for each address of pool4, and of each packet only as much is kept as an ICMP error
// quotes.
//
// All methods may be called by any goroutine. They take one lock; while nothing is stored, Wanted, Claim and Expire only
// load an atomic. Times are durations since the gateway's start. The zero value stores nothing until Configure is called.
type Store struct {
	stored atomic.Int64

	mu             sync.Mutex // guards what follows
	limits         Limits
	byFlow         map[flow]*entry
	byRemote       map[packet.Endpoint4][]packet.Endpoint4 // (W,w) to each (T,t), oldest first
	bySource       map[packet.Addr4]int
	byAddress      map[packet.Addr4]int // of pool4
	oldest, newest *entry
}

// Limits bound a Store.
type Limits struct {
	Total     int           // SYNs; 0: none is stored
	PerSource int           // SYNs of one IPv4 address; 0: no limit but Total
	PerPool4  int           // SYNs to one address of pool4; 0: no limit but Total
	Lifetime  time.Duration // TCP_INCOMING_SYN of RFC 6146 section 4
}

// SYN is a stored SYN whose client has not opened the connection: its sender is due a port unreachable that quotes it.
type SYN struct {
	Src, Dst packet.Endpoint4 // (W,w) and (T,t) of RFC 6146
	Packet   []byte           // the beginning of what Add was given; the receiver owns it
}

// Waiting is a SYN whose lifetime is not over.
type Waiting struct {
	Src, Dst  packet.Endpoint4
	Remaining time.Duration
}

// flow identifies a stored SYN.
type flow struct{ mapped, remote packet.Endpoint4 } // (T,t) and (W,w) of RFC 6146

// entry is one stored SYN, in a list by age.
type entry struct {
	flow
	since        time.Duration
	packet       []byte
	older, newer *entry
}

const (
	maxQuote  = 576 - packet.IPv4Len - packet.ICMPLen // length of the quote in an ICMPv4 error of 576 bytes (RFC 1812 section 4.3.2.3)
	maxWanted = 8                                     // transport addresses that Wanted returns at most
)

// Configure replaces the limits. SYNs that are stored already stay, and wait for the new lifetime.
func (s *Store) Configure(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l
	if s.byFlow == nil {
		s.byFlow = make(map[flow]*entry)
		s.byRemote = make(map[packet.Endpoint4][]packet.Endpoint4)
		s.bySource = make(map[packet.Addr4]int)
		s.byAddress = make(map[packet.Addr4]int)
	}
}

// Add stores a SYN from src to dst; p is the whole packet as its sender sent it, and is copied. A SYN that is stored already
// does not wait longer. The result is the reason to count: drop.StoredSYN, or drop.StoredSYNLimit if a limit is reached.
func (s *Store) Add(src, dst packet.Endpoint4, p []byte, now time.Duration) drop.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := flow{mapped: dst, remote: src}
	if r := s.wouldLocked(f); r != drop.StoredSYN || s.byFlow[f] != nil {
		return r
	}
	e := &entry{flow: f, since: now, packet: slices.Clone(p[:min(len(p), maxQuote)]), older: s.newest}
	if s.newest == nil {
		s.oldest = e
	} else {
		s.newest.newer = e
	}
	s.newest = e
	s.byFlow[f] = e
	s.byRemote[f.remote] = append(s.byRemote[f.remote], f.mapped)
	s.bySource[f.remote.Addr]++
	s.byAddress[f.mapped.Addr]++
	s.stored.Add(1)
	return drop.StoredSYN
}

// Would returns what Add would return, and stores nothing.
func (s *Store) Would(src, dst packet.Endpoint4) drop.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wouldLocked(flow{mapped: dst, remote: src})
}

// wouldLocked is Would for a flow. The caller holds s.mu.
func (s *Store) wouldLocked(f flow) drop.Reason {
	if s.byFlow[f] == nil && s.fullLocked(f) {
		return drop.StoredSYNLimit
	}
	return drop.StoredSYN
}

// fullLocked reports whether a limit leaves no room for one more SYN of a flow. The caller holds s.mu.
func (s *Store) fullLocked(f flow) bool {
	l := &s.limits
	return len(s.byFlow) >= l.Total ||
		l.PerSource != 0 && s.bySource[f.remote.Addr] >= l.PerSource ||
		l.PerPool4 != 0 && s.byAddress[f.mapped.Addr] >= l.PerPool4
}

// Wanted returns the transport addresses of pool4 at which SYNs of a remote wait, the oldest first and not more than
// eight. A client that opens a connection to the remote can meet it only there.
func (s *Store) Wanted(remote packet.Endpoint4) []packet.Endpoint4 {
	if s.stored.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.byRemote[remote]
	return slices.Clone(all[:min(len(all), maxWanted)])
}

// Claim takes out the SYN from remote to mapped and reports whether there was one whose lifetime is not over.
func (s *Store) Claim(mapped, remote packet.Endpoint4, now time.Duration) bool {
	if s.stored.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.waitingLocked(flow{mapped, remote}, now)
	if e == nil {
		return false
	}
	s.removeLocked(e)
	return true
}

// Waits reports whether Claim would find a SYN.
func (s *Store) Waits(mapped, remote packet.Endpoint4, now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitingLocked(flow{mapped, remote}, now) != nil
}

// waitingLocked returns the SYN of a flow whose lifetime is not over, or nil. The caller holds s.mu.
func (s *Store) waitingLocked(f flow, now time.Duration) *entry {
	if e := s.byFlow[f]; e != nil && !s.overLocked(e, now) {
		return e
	}
	return nil
}

// Forget takes out the SYNs that wait at a transport address of pool4.
func (s *Store) Forget(mapped packet.Endpoint4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.oldest; e != nil; e = e.newer {
		if e.mapped == mapped {
			s.removeLocked(e)
		}
	}
}

// Expire takes out and returns the SYNs whose lifetime is over, oldest first and n at most.
func (s *Store) Expire(now time.Duration, n int) (all []SYN) {
	if s.stored.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.oldest; e != nil && s.overLocked(e, now) && len(all) < n; e = s.oldest {
		s.removeLocked(e)
		all = append(all, SYN{Src: e.remote, Dst: e.mapped, Packet: e.packet})
	}
	return all
}

// List returns the SYNs whose lifetime is not over, oldest first.
func (s *Store) List(now time.Duration) (all []Waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.oldest; e != nil; e = e.newer {
		if !s.overLocked(e, now) {
			all = append(all, Waiting{Src: e.remote, Dst: e.mapped, Remaining: e.since + s.limits.Lifetime - now})
		}
	}
	return all
}

// Len returns the number of stored SYNs, those included whose lifetime is over and that Expire has not taken out.
func (s *Store) Len() int { return int(s.stored.Load()) }

// overLocked reports whether the lifetime of a SYN is over. The caller holds s.mu.
func (s *Store) overLocked(e *entry, now time.Duration) bool { return now-e.since > s.limits.Lifetime }

// removeLocked takes a SYN out of all maps and of the list; its newer field still leads on. The caller holds s.mu.
func (s *Store) removeLocked(e *entry) {
	if e.older == nil {
		s.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
	if e.newer == nil {
		s.newest = e.older
	} else {
		e.newer.older = e.older
	}
	delete(s.byFlow, e.flow)
	at := s.byRemote[e.remote]
	if i := slices.Index(at, e.mapped); len(at) > 1 {
		s.byRemote[e.remote] = slices.Delete(at, i, i+1)
	} else {
		delete(s.byRemote, e.remote)
	}
	decrement(s.bySource, e.remote.Addr)
	decrement(s.byAddress, e.mapped.Addr)
	s.stored.Add(-1)
}

// decrement lowers a count, and deletes it when it reaches zero.
func decrement(m map[packet.Addr4]int, a packet.Addr4) {
	if m[a]--; m[a] == 0 {
		delete(m, a)
	}
}
