package icmp

import "time"

const buckets = 1024 // 16 KiB; two sources that share a bucket share its tokens

// Burst is how many errors a silent source may be sent at once (RFC 4443 section 2.4(f)).
const Burst = 10

// Limiter bounds the errors of one family that we originate, by token buckets: one for all of them and one for each
// source, shared by those that hash to it (RFC 4443 section 2.4(f)). It has no pointers and needs no cleaning up. It
// belongs to one goroutine; the zero value is ready.
type Limiter struct {
	total   bucket
	sources [buckets]bucket
}

// Rates are errors per second; 0 means no limit.
type Rates struct{ PerSource, Total int }

// Allow takes a token for an error to the source that hashes to hash. now is any clock that does not go back.
func (l *Limiter) Allow(hash uint32, r Rates, now time.Duration) bool {
	return l.sources[hash%buckets].take(r.PerSource, Burst, now) && l.total.take(r.Total, r.Total, now)
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
