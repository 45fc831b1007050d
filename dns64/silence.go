package dns64

import (
	"context"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

const (
	briefly     = 100 * time.Millisecond // wait for AAAA if upstreams did not answer before
	silentNames = 1 << 10                // size of the cache of names
)

// silence records which questions about AAAA upstreams leave unanswered although they answer others: those for some names,
// whose authoritative servers drop them, or all. Its methods may be called by any number of goroutines.
type silence struct {
	names    *lru.Cache[string, struct{}]
	all      atomic.Bool
	probing  atomic.Bool
	answer   atomic.Int64 // time of the last answer, in nanoseconds since epoch
	answered atomic.Int64 // the same for AAAA
}

func newSilence() *silence {
	s := new(silence)
	s.names, _ = lru.New[string, struct{}](silentNames) // fails only for a size below 1
	return s
}

// expects reports whether a question about AAAA is likely to remain unanswered.
func (s *silence) expects(q Question) bool {
	return q.Type == dns.TypeAAAA && (s.all.Load() || s.names.Contains(q.Name))
}

// hears records that an upstream answered a question.
func (s *silence) hears(q Question) {
	now := sinceEpoch(time.Now())
	s.answer.Store(now)
	if q.Type != dns.TypeAAAA {
		return
	}
	s.answered.Store(now)
	s.all.Store(false)
	s.names.Remove(q.Name)
}

// unheard records that a question about AAAA, sent at the given time, got no answer. If upstreams answered nothing since then,
// it records nothing. If they answered only other types, it assumes that they never answer AAAA, and returns true; otherwise it
// attributes the silence to the name.
func (s *silence) unheard(q Question, began time.Time) bool {
	if s.answer.Load() < sinceEpoch(began) {
		return false
	}
	s.names.Add(q.Name, struct{}{})
	if s.answered.Load() >= sinceEpoch(began) {
		return false
	}
	s.all.Store(true)
	return true
}

// probe sends a question about AAAA that the upstreams of a group can answer by themselves. Its answer corrects the assumption that
// they never answer AAAA.
func (us *Upstreams) probe(ctx context.Context, g *group) {
	if !g.silence.probing.CompareAndSwap(false, true) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	go func() {
		defer g.silence.probing.Store(false)
		defer cancel()
		_, _ = us.Ask(ctx, Question{Name: g.apex, Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}) // Ask records the result
	}()
}
