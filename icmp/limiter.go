package icmp

import "time"

const buckets = 1024 // two destinations that share a bucket share its tokens

// Bursts are how many errors of a kind a silent destination may be sent at once (RFC 4443 section 2.4(f)): our own choices.
// A traceroute has up to 60 probes under way, no two of them alike; the same packet again is a loop or a flood.
const (
	Burst       = 10
	ProbesBurst = 64
)

// Kind is what an error tells its destination, which decides the limits that it falls under.
type Kind uint8

// The kinds. Connections hang without Size, so it has a limit of its own that no other error uses up.
const (
	Other Kind = iota
	Hops       // Time Exceeded
	Size       // Packet Too Big, Fragmentation Needed
	kinds
)

// Limiter bounds the errors of one family that we originate, by token buckets of each kind: one for all of them and one
// for each destination, shared by those that hash to it (RFC 4443 section 2.4(f)). It has no pointers and needs no
// cleaning up. It belongs to one goroutine; the zero value is ready.
type Limiter struct {
	total        [kinds]bucket
	destinations [kinds][buckets]bucket
	probes       [buckets]bucket // by destination and packet that is answered
}

// Rates are errors a second of each kind; 0 means no limit. Those of Size have no total: each is smaller than the packet
// that it answers, so a sender who forges many sources gains nothing, but would silence the others.
type Rates struct{ PerDestination, Total, SizePerDestination int }

// Allow takes a token for an error of a kind to the destination that hashes to hash, about a packet that hashes to probe.
// Only Hops asks for the latter. now is any clock that does not go back.
func (l *Limiter) Allow(k Kind, hash, probe uint32, r Rates, now time.Duration) bool {
	b := &l.destinations[k][hash%buckets]
	switch k {
	case Size:
		return b.take(r.SizePerDestination, r.SizePerDestination, now)
	case Hops:
		return l.probes[(hash^probe)%buckets].take(r.PerDestination, Burst, now) &&
			b.take(r.PerDestination, ProbesBurst, now) && l.total[k].take(r.Total, r.Total, now)
	}
	return b.take(r.PerDestination, Burst, now) && l.total[k].take(r.Total, r.Total, now)
}

type bucket struct {
	taken float64 // taken, not left, so that the zero value is full
	last  time.Duration
}

func (b *bucket) take(rate, burst int, now time.Duration) bool {
	if rate == 0 {
		return true
	}
	b.taken = max(0, b.taken-(now-b.last).Seconds()*float64(rate))
	b.last = now
	if b.taken > float64(burst)-1 {
		return false
	}
	b.taken++
	return true
}
