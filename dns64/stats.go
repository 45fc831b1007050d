package dns64

import (
	"sync/atomic"

	"github.com/miekg/dns"
)

// Stats counts since the start. It may be used by any number of goroutines.
type Stats struct {
	queries  [len(countedTypes) + 1][len(countedResults) + 1]atomic.Uint64
	counters [counterCount]atomic.Uint64
}

// The types and results that are told apart; there is one more for the rest.
var (
	countedTypes   = [...]uint16{dns.TypeAAAA, dns.TypeA, dns.TypePTR, dns.TypeHTTPS}
	countedResults = [...]int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError}
)

// counter is an event that is counted.
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

var counterWords = [counterCount]struct{ name, help string }{
	hits:        {"dns64_cache_hits", "queries that were answered from the cache"},
	misses:      {"dns64_cache_misses", "queries that were not in the cache"},
	made:        {"dns64_synthesized", "answers with addresses or names that were made up"},
	prefetched:  {"dns64_prefetches", "names that were asked for again before they expired"},
	staleServed: {"dns64_stale", "answers of upstreams that were used although they had expired"},
	truncated:   {"dns64_truncated", "answers that did not fit UDP, for the client to ask over TCP"},
	denied:      {"dns64_denied", "queries of clients that are not served"},
	limited:     {"dns64_rate_limited", "answers over UDP that were cut down or not sent: too many to one network"},
	busy:        {"dns64_busy", "queries that were answered SERVFAIL because too many were under way"},
	panics:      {"dns64_panics", "queries that nat64d stumbled over; please report it"},
}

// Count is one number with what it means.
type Count struct {
	Name   string
	Labels map[string]string
	Value  uint64
	Help   string
}

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

// All returns the counters, always in the same order.
func (s *Stats) All() (list []Count) {
	for t := range s.queries {
		for r := range s.queries[t] {
			labels := map[string]string{"type": "other", "result": "other"}
			if t < len(countedTypes) {
				labels["type"] = dns.TypeToString[countedTypes[t]]
			}
			if r < len(countedResults) {
				labels["result"] = dns.RcodeToString[countedResults[r]]
			}
			list = append(list, Count{"dns64_queries", labels, s.queries[t][r].Load(), "queries that were answered, by type and result"})
		}
	}
	for c := range counterCount {
		list = append(list, Count{Name: counterWords[c].name, Value: s.counters[c].Load(), Help: counterWords[c].help})
	}
	return list
}
