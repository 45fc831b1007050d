package dns64

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// limiter bounds the answers to each network over UDP. An attacker can forge the sender of a query to direct answers at a
// victim; the limit makes such an attack useless. Its methods may be called by any number of goroutines.
type limiter struct {
	rate    int // answers per second; a second's worth may come at once
	buckets *lru.Cache[uint64, *bucket]
}

// bucket counts the answers to one network.
type bucket struct {
	*rate.Limiter
	refused atomic.Uint64
}

// maxBuckets bounds the networks that the limiter remembers. The oldest is forgotten and starts again with a full bucket.
const maxBuckets = 1 << 14

// verdict is the decision about one answer.
type verdict int

const (
	send verdict = iota
	slip         // send an empty answer with TC: a client that really asked repeats its query over TCP
	discard
)

func newLimiter(rate int) *limiter {
	if rate == 0 {
		return nil
	}
	l := &limiter{rate: rate}
	l.buckets, _ = lru.New[uint64, *bucket](maxBuckets) // fails only for a size below 1
	return l
}

// judge counts an answer and decides whether to send it. A network is a /24 of IPv4 or a /56 of IPv6. Every second answer
// above the limit is sent empty. The nil limiter sends everything.
func (l *limiter) judge(client netip.Addr, now time.Time) verdict {
	if l == nil {
		return send
	}
	b := l.bucket(client)
	switch {
	case b.AllowN(now, 1):
		return send
	case b.refused.Add(1)%2 == 1:
		return slip
	default:
		return discard
	}
}

// bucket returns the bucket of the client's network.
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
	b := &bucket{Limiter: rate.NewLimiter(rate.Limit(l.rate), l.rate)}
	if before, ok, _ := l.buckets.PeekOrAdd(network, b); ok {
		return before
	}
	return b
}
