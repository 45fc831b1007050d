package dns64

import (
	"context"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

const (
	briefly     = 100 * time.Millisecond // that AAAA is waited for where it was not answered before
	silentNames = 1 << 10                // names that are remembered
)

// silence remembers which questions about AAAA upstreams leave unanswered while they answer others: those about some names, whose
// authorities drop them, or all. Its methods may be called by any number of goroutines.
type silence struct {
	names    *lru.Cache[string, struct{}]
	all      atomic.Bool
	probing  atomic.Bool
	answer   atomic.Int64 // when the last question was answered, in nanoseconds since 1970
	answered atomic.Int64 // the same of the last about AAAA
}

func newSilence() *silence {
	s := new(silence)
	s.names, _ = lru.New[string, struct{}](silentNames) // only a size below 1 is refused
	return s
}

// expects reports whether a question about AAAA is likely to remain unanswered.
func (s *silence) expects(q Question) bool {
	return q.Type == dns.TypeAAAA && (s.all.Load() || s.names.Contains(q.Name))
}

// hears is called with each question that an upstream has answered.
func (s *silence) hears(q Question) {
	now := time.Now().UnixNano()
	s.answer.Store(now)
	if q.Type != dns.TypeAAAA {
		return
	}
	s.answered.Store(now)
	s.all.Store(false)
	s.names.Remove(q.Name)
}

// unheard is called with a question about AAAA that began then and was waited for in vain. It is the name's fault, or that of the
// upstreams if these answer nothing else about AAAA, but not when they answer nothing at all. It reports whether it may be
// the upstreams'.
func (s *silence) unheard(q Question, began time.Time) bool {
	if s.answer.Load() < began.UnixNano() {
		return false
	}
	s.names.Add(q.Name, struct{}{})
	if s.answered.Load() >= began.UnixNano() {
		return false
	}
	s.all.Store(true)
	return true
}

// probe asks a question about AAAA that every resolver can answer by itself, so that one name that is not answered does
// not shorten the wait for others.
func (us *Upstreams) probe(ctx context.Context) {
	if !us.silence.probing.CompareAndSwap(false, true) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	go func() {
		defer us.silence.probing.Store(false)
		defer cancel()
		_, _ = us.Ask(ctx, Question{Name: ".", Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}) // it counts by itself
	}()
}
