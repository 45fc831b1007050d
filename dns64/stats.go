package dns64

import (
	"sync/atomic"

	"github.com/miekg/dns"
)

// Stats has counters since the start. Its methods may be called by any number of goroutines.
type Stats struct {
	queries  [len(countedTypes) + 1][len(countedResults) + 1]atomic.Uint64
	counters [counterCount]atomic.Uint64
}

// The types and results with separate counters; one more counts all others.
var (
	countedTypes   = [...]uint16{dns.TypeAAAA, dns.TypeA, dns.TypePTR, dns.TypeHTTPS}
	countedResults = [...]int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError}
)

// counter identifies a counted event.
type counter int

const (
	hits counter = iota
	misses
	made
	prefetched
	staleServed
	truncated
	denied
	limited
	busy
	panics
	counterCount
)

func (s *Stats) add(c counter) { s.counters[c].Add(1) }

// answered counts an answer by type and result.
func (s *Stats) answered(kind uint16, rcode int) {
	t, r := len(countedTypes), len(countedResults)
	for i, k := range countedTypes {
		if k == kind {
			t = i
		}
	}
	for i, k := range countedResults {
		if k == rcode {
			r = i
		}
	}
	s.queries[t][r].Add(1)
}

// Totals is what Stats has counted.
type Totals struct {
	Answers     []Answers // by type and result, always in the same order
	CacheHits   uint64    // queries that were answered from the cache
	CacheMisses uint64
	Synthesized uint64 // answers with synthesized addresses or names
	Prefetches  uint64 // names that were queried again before they expired
	Stale       uint64 // expired answers of upstreams that were used
	Truncated   uint64
	Denied      uint64 // queries of clients that are not served
	RateLimited uint64
	Busy        uint64 // queries answered SERVFAIL because too many were under way
	Panics      uint64
}

// Answers is how many queries of a type had a result. Either may be "other".
type Answers struct {
	Type, Result string
	Count        uint64
}

// Totals returns what was counted.
func (s *Stats) Totals() Totals {
	of := func(c counter) uint64 { return s.counters[c].Load() }
	return Totals{
		Answers: s.answers(), CacheHits: of(hits), CacheMisses: of(misses), Synthesized: of(made), Prefetches: of(prefetched), Stale: of(staleServed),
		Truncated: of(truncated), Denied: of(denied), RateLimited: of(limited), Busy: of(busy), Panics: of(panics),
	}
}

func (s *Stats) answers() (list []Answers) {
	for t := range s.queries {
		for r := range s.queries[t] {
			a := Answers{"other", "other", s.queries[t][r].Load()}
			if t < len(countedTypes) {
				a.Type = dns.TypeToString[countedTypes[t]]
			}
			if r < len(countedResults) {
				a.Result = dns.RcodeToString[countedResults[r]]
			}
			list = append(list, a)
		}
	}
	return list
}
