package dns64

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

// CacheLimits bounds the caches.
type CacheLimits struct {
	Size           int           // answers of upstreams, and as many synthesized ones; 0: none
	MinTTL, MaxTTL time.Duration // lower and upper bound of TTLs
	MaxNegativeTTL time.Duration // upper bound of the TTL of negative answers
	Prefetch       bool          // refresh popular names before they expire
	ServeStale     bool          // serve expired answers while no upstream answers (RFC 8767)
}

const (
	maxCached      = 4096                            // bytes of one answer; together with CacheLimits.Size it bounds the memory
	staleFor       = 24 * time.Hour                  // RFC 8767 section 5 suggests one to three days
	staleAfter     = patience - 100*time.Millisecond // RFC 8767 section 5 suggests 1.8 s, but a stale answer takes precedence over a synthesized one
	staleTTL       = 30                              // RFC 8767 section 4
	provisionalFor = 5 * time.Second                 // TTL of an answer that was given before the answer about AAAA arrived
	failureTTL     = 1                               // seconds; without caching, an attacker could flood upstreams with a name that fails
)

// cache holds answers in wire format. Its methods may be called by any number of goroutines.
type cache struct {
	limits CacheLimits
	seed   maphash.Seed
	lru    *lru.Cache[key, *entry] // nil: no caching
}

// key identifies an answer. It has no pointers and only a hash of the name, so the question of an entry must be compared, too.
type key struct {
	hash        uint64
	kind, class uint16
	pick        uint8 // index of the chosen prefix
	do, cd, rd  bool
}

// entry is a cached answer. Only its counters change.
type entry struct {
	wire    []byte // without OPT; the question is in lower case
	layout         // of wire
	stored  int64  // nanoseconds since epoch
	expires int64
	made    bool // has synthesized records

	hits  atomic.Uint32
	renew atomic.Int64 // time of the next prefetch
}

func newCache(l CacheLimits, seed maphash.Seed) *cache {
	c := &cache{limits: l, seed: seed}
	if l.Size > 0 {
		c.lru, _ = lru.New[key, *entry](l.Size) // fails only for a size below 1
	}
	return c
}

func (e *entry) question() []byte { return e.wire[headerLen : headerLen+nameLen(e.wire[headerLen:])+4] }

func (e *entry) rcode() int { return int(e.wire[3] & 15) }

// get returns the entry for a question in lower case, even if it has expired.
func (c *cache) get(k key, question []byte) *entry {
	if c.lru == nil {
		return nil
	}
	e, ok := c.lru.Get(k)
	if !ok || string(e.question()) != string(question) {
		return nil
	}
	return e
}

func (c *cache) key(question []byte, do, cd, rd bool, pick int) key {
	n := len(question) - 4
	return key{
		hash: maphash.Bytes(c.seed, question[:n]),
		kind: binary.BigEndian.Uint16(question[n:]), class: binary.BigEndian.Uint16(question[n+2:]),
		do: do, cd: cd, rd: rd, pick: uint8(pick),
	}
}

// put adds an entry.
func (c *cache) put(k key, e *entry) {
	if c.lru != nil && e.expires > e.stored && len(e.wire) <= maxCached {
		c.lru.Add(k, e)
	}
}

// len returns the number of entries.
func (c *cache) len() int {
	if c.lru == nil {
		return 0
	}
	return c.lru.Len()
}

// flush removes all entries and returns their number.
func (c *cache) flush() int {
	n := c.len()
	if c.lru != nil {
		c.lru.Purge()
	}
	return n
}

// entries returns all entries, the oldest first.
func (c *cache) entries() []*entry {
	if c.lru == nil {
		return nil
	}
	return c.lru.Values()
}

// bound limits the TTLs of an upstream's answer. The TTL of the SOA in a negative answer becomes the negative TTL (RFC 2308
// section 3), so that it decreases while the answer is in the cache.
func (c *cache) bound(kind uint16, m *dns.Msg) {
	most := c.limits.MaxTTL
	negative := negative(kind, m)
	if negative {
		most = min(most, c.limits.MaxNegativeTTL)
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			if soa, is := rr.(*dns.SOA); is && negative {
				h.Ttl = min(h.Ttl, soa.Minttl)
			}
			h.Ttl = min(max(h.Ttl, uint32(c.limits.MinTTL/time.Second)), uint32(most/time.Second))
		}
	}
}

// cut limits the TTLs of an answer to clients. Records of upstreams are already within the limits, synthesized ones may not be.
// A provisional answer, given before the one about AAAA arrived, gets the short TTL provisionalFor: otherwise one slow upstream answer
// would keep clients on the NAT64.
func (c *cache) cut(kind uint16, a *Answer) {
	most := c.limits.MaxTTL
	if negative(kind, a.Msg) {
		most = min(most, c.limits.MaxNegativeTTL)
	}
	if a.Provisional {
		most = min(most, provisionalFor)
	}
	for _, section := range [][]dns.RR{a.Answer, a.Ns, a.Extra} {
		for _, rr := range section {
			rr.Header().Ttl = min(rr.Header().Ttl, uint32(most/time.Second))
		}
	}
}

// negative reports whether an answer has no record of the type, even after following CNAMEs.
func negative(kind uint16, m *dns.Msg) bool {
	return m.Rcode != dns.RcodeSuccess || !slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == kind || kind == dns.TypeANY
	})
}

// newEntry packs an answer. The entry is valid until the first of its records expires, and a negative one for the TTL of its
// SOA (RFC 2308 section 5).
func newEntry(q Question, m *dns.Msg, made bool, now time.Time) (*entry, error) {
	m.Question = []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: q.Class}}
	m.Response, m.RecursionAvailable, m.Authoritative, m.Truncated, m.Compress = true, true, false, false, true
	m.Id, m.Zero, m.Opcode = 0, false, dns.OpcodeQuery
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	l, err := layOut(wire)
	if err != nil {
		return nil, err
	}
	e := &entry{wire: wire, layout: l, stored: sinceEpoch(now), made: made}
	e.expires = e.stored + int64(time.Duration(lifetime(m))*time.Second)
	return e, nil
}

// newReadableEntry packs an upstream's answer. It refuses records that can be packed but not unpacked again.
func newReadableEntry(q Question, m *dns.Msg, now time.Time) (*entry, error) {
	e, err := newEntry(q, m, false, now)
	if err == nil {
		_, err = e.message(now)
	}
	return e, err
}

// lifetime returns the number of seconds for which an answer is valid.
func lifetime(m *dns.Msg) uint32 {
	if !conclusive(m.Rcode) {
		return failureTTL
	}
	least, proven := ^uint32(0), len(m.Answer) > 0
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			least = min(least, rr.Header().Ttl)
			proven = proven || rr.Header().Rrtype == dns.TypeSOA
		}
	}
	if !proven {
		return 0
	}
	return least
}

// conclusive reports whether an answer describes the name, not a failure of the server.
func conclusive(rcode int) bool { return rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError }

// fresh reports whether an entry is still valid, and stale whether it may be served if no upstream answers.
func (e *entry) fresh(now time.Time) bool { return sinceEpoch(now) < e.expires }
func (e *entry) stale(now time.Time) bool { return sinceEpoch(now) < e.expires+int64(staleFor) }

// due reports whether to prefetch an entry: clients ask for it often, and it expires soon. It returns true only once in the
// time that a query to upstreams may take.
func (e *entry) due(now time.Time) bool {
	const often, least, tenth = 3, int64(10 * time.Second), 10
	life, rest, at := e.expires-e.stored, e.expires-sinceEpoch(now), e.renew.Load()
	return life >= least && rest < life/tenth && e.hits.Load() >= often && sinceEpoch(now) >= at &&
		e.renew.CompareAndSwap(at, sinceEpoch(now)+int64(resolveTimeout))
}

// message returns the answer with its current TTLs.
func (e *entry) message(now time.Time) (*dns.Msg, error) {
	m := new(dns.Msg)
	return m, m.Unpack(e.append(nil, now, true))
}

// staleMessage returns the answer of an entry that has expired.
func (e *entry) staleMessage() (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(e.wire); err != nil {
		return nil, err
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			rr.Header().Ttl = staleTTL
		}
	}
	return m, nil
}

// append appends the answer with its current TTLs, with or without its additional section.
func (e *entry) append(dst []byte, now time.Time, all bool) []byte {
	at, wire, ttls := len(dst), e.wire, e.ttls
	if !all {
		wire, ttls = wire[:e.extra], ttls[:e.needs]
	}
	dst = append(dst, wire...)
	if !all {
		dst[at+10], dst[at+11] = 0, 0
	}
	age := uint32(max(0, sinceEpoch(now)-e.stored) / int64(time.Second))
	for _, i := range ttls {
		ttl := dst[at+int(i):]
		left := binary.BigEndian.Uint32(ttl)
		binary.BigEndian.PutUint32(ttl, left-min(left, age))
	}
	return dst
}

// appendTo appends the answer to a query, with the query's ID, flags and case of the name. If the answer is too long for the
// client, appendTo omits the additional section (RFC 2181 section 9). If that is not enough, it sends no records and sets TC,
// so that the client retries over TCP.
func (e *entry) appendTo(dst []byte, q *query, now time.Time, limit int, size uint16) []byte {
	if q.edns {
		limit -= optLen
	}
	if e.extra > limit {
		return q.appendRefusal(dst, e.rcode(), flagTC, size)
	}
	at := len(dst)
	dst = e.append(dst, now, len(e.wire) <= limit)
	b := dst[at:]
	binary.BigEndian.PutUint16(b, q.id)
	flags := binary.BigEndian.Uint16(b[2:])&^(flagRD|flagCD) | q.flags&(flagRD|flagCD)
	if !q.do && q.flags&flagAD == 0 {
		flags &^= flagAD // the client did not ask for it (RFC 6840 section 5.7)
	}
	binary.BigEndian.PutUint16(b[2:], flags)
	copy(b[headerLen:], q.question)
	return q.appendOPT(dst, at, 0, size)
}
