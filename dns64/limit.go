package dns64

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// limiter bounds the answers to each network over UDP, where a sender may be forged: else the server would be a weapon
// against those who did not ask. It may be used by any number of goroutines.
type limiter struct {
	rate    float64 // answers per second; a second's worth may come at once
	buckets *lru.Cache[uint64, *bucket]
}

type bucket struct {
	mu      sync.Mutex
	tokens  float64
	last    time.Time
	refused uint64
}

// maxBuckets bounds the networks that are remembered. Who is forgotten begins anew.
const maxBuckets = 1 << 14

// verdict is what becomes of an answer.
type verdict int

const (
	send verdict = iota
	slip         // send one without records, after which who really asked comes over TCP
	discard
)

func newLimiter(rate int) *limiter {
	if rate == 0 {
		return nil
	}
	l := &limiter{rate: float64(rate)}
	l.buckets, _ = lru.New[uint64, *bucket](maxBuckets) // only a size below 1 is refused
	return l
}

// judge counts an answer. A network is a /24 of IPv4 or a /56 of IPv6. The nil limiter lets all pass.
func (l *limiter) judge(client netip.Addr, now time.Time) verdict {
	if l == nil {
		return send
	}
	b := l.bucket(client)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.tokens = l.rate
	} else {
		b.tokens = min(l.rate, b.tokens+l.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.tokens >= 1 {
		b.tokens--
		return send
	}
	if b.refused++; b.refused%2 == 1 {
		return slip
	}
	return discard
}

func (l *limiter) bucket(client netip.Addr) *bucket {
	var network uint64
	if client.Is4() {
		a := client.As4()
		network = 1<<63 | uint64(binary.BigEndian.Uint32(a[:]))>>8
	} else {
		a := client.As16()
		network = binary.BigEndian.Uint64(a[:]) >> 8
	}
	if b, ok := l.buckets.Get(network); ok {
		return b
	}
	b := new(bucket)
	if before, ok, _ := l.buckets.PeekOrAdd(network, b); ok {
		return before
	}
	return b
}
