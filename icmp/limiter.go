package icmp

import "time"

const buckets = 1024 // 16 KiB; two sources that share a bucket share its tokens

// Burst is how many errors a silent source may be sent at once (RFC 4443 section 2.4(f)).
const Burst = 10

// Limiter bounds the errors that we originate by token buckets, one for each of the sources that hash to it (RFC
// 4443 section 2.4(f)). It has no pointers and needs no cleaning up. It belongs to one goroutine; the zero value
// is ready.
type Limiter struct {
	slots [buckets]bucket
}

type bucket struct {
	tokens float64 // taken, not left, so that the zero value is full
	last   time.Duration
}

// Allow takes a token of the bucket to which the source hashes. rate is in errors per second, 0 means no limit; now is
// any clock that does not go back.
func (l *Limiter) Allow(hash uint32, rate int, now time.Duration) bool {
	if rate == 0 {
		return true
	}
	s := &l.slots[hash%buckets]
	s.tokens = max(0, s.tokens-(now-s.last).Seconds()*float64(rate))
	s.last = now
	if s.tokens > Burst-1 {
		return false
	}
	s.tokens++
	return true
}
