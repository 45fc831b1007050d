package icmp

import "time"

const buckets = 1024 // destinations with the same hash share a bucket

// Burst is how many equal errors one destination may receive at once, ProbesBurst how many different Time Exceeded
// errors (RFC 4443 section 2.4(f)). The values are our own choice. A traceroute has up to 60 different probes in
// flight; many equal packets are a loop or a flood.
const (
	Burst       = 10
	ProbesBurst = 64
)

// Kind is the class of an error. Each class has its own limits.
type Kind uint8

// The kinds. Size is separate from the others because connections hang without it: other errors must not use up its
// tokens.
const (
	Other Kind = iota
	Hops       // Time Exceeded
	Size       // Packet Too Big, Fragmentation Needed
	kinds
)

// Limiter limits the rate of the errors that the gateway originates in one family. It has token buckets for each
// kind: one for the total and one for each destination; destinations with the same hash share a bucket (RFC 4443
// section 2.4(f)). Limiter contains no pointers and needs no cleanup. It is not safe for concurrent use; the zero
// value is ready to use.
type Limiter struct {
	total        [kinds]bucket
	destinations [kinds][buckets]bucket
	probes       [buckets]bucket // by destination and by the packet that causes the error
}

// Rates are errors per second of each kind; 0 means no limit. Size has no total: its errors are smaller than the
// packets that cause them, so a flood from forged sources would gain no amplification, but would use up the total for
// everyone else.
type Rates struct{ PerDestination, Total, SizePerDestination int }

// Allow takes a token for an error of kind k to the destination with the given hash. probe is the hash of the packet
// that causes the error; only Hops uses it. now may be any monotonic clock.
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
	taken float64 // tokens taken, not tokens left, so that the zero value is a full bucket
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
