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

// CacheLimits bound what is remembered.
type CacheLimits struct {
	Size           int           // answers of upstreams, and as many that were made of them; 0: none
	MinTTL, MaxTTL time.Duration // TTLs are raised and lowered to them
	MaxNegativeTTL time.Duration // the same for answers without a record
	Prefetch       bool          // names that are asked for often are asked for again before they expire
	ServeStale     bool          // what has expired is served while no upstream answers (RFC 8767)
}

const (
	maxCached  = 4096                            // bytes of an answer: with CacheLimits.Size it bounds the memory
	staleFor   = 24 * time.Hour                  // RFC 8767 section 5 has one to three days
	staleAfter = patience - 100*time.Millisecond // RFC 8767 section 5 has 1.8 s, but what has expired comes before what is made
	staleTTL   = 30                              // RFC 8767 section 4
	hastyFor   = 5 * time.Second                 // an answer given without one about AAAA, which may yet come
	failureTTL = 1                               // seconds that a failure is remembered: a name that fails must not be a way to flood upstreams
)

// cache remembers answers as they are sent. It may be used by any number of goroutines.
type cache struct {
	limits CacheLimits
	seed   maphash.Seed
	lru    *lru.Cache[key, *entry] // nil: nothing is remembered
}

// key names an answer. It has no pointers and no room for the name: an entry is compared with the question.
type key struct {
	hash        uint64
	kind, class uint16
	pick        uint8 // which prefix was used where there was a choice
	do, cd, rd  bool
}

// entry is an answer. It never changes but for its counters.
type entry struct {
	wire    []byte // without OPT; the question is in small letters
	layout         // of wire
	stored  int64  // nanoseconds since 1970
	expires int64
	made    bool // it has records that were made up

	hits  atomic.Uint32
	renew atomic.Int64 // not before this it is asked for again
}

func newCache(l CacheLimits, seed maphash.Seed) *cache {
	c := &cache{limits: l, seed: seed}
	if l.Size > 0 {
		c.lru, _ = lru.New[key, *entry](l.Size) // only a size below 1 is refused
	}
	return c
}

func (e *entry) question() []byte { return e.wire[headerLen : headerLen+nameLen(e.wire[headerLen:])+4] }

func (e *entry) rcode() int { return int(e.wire[3] & 15) }

// get returns the entry of a question, in small letters, even if it has expired.
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

// put remembers an entry while it holds, or longer if it may be served stale.
func (c *cache) put(k key, e *entry) {
	if c.lru != nil && e.expires > e.stored && len(e.wire) <= maxCached {
		c.lru.Add(k, e)
	}
}

// len returns how many entries there are.
func (c *cache) len() int {
	if c.lru == nil {
		return 0
	}
	return c.lru.Len()
}

// flush forgets everything and returns how much that was.
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

// bound puts the TTLs of an upstream's answer within the limits. That of the SOA in a negative answer becomes what clients may
// take from it (RFC 2308 section 3): it must not begin anew with each answer that is given from the cache.
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

// cut lowers the TTLs of an answer to clients. Upstreams' records are within the limits already; those that were made here need
// not be. Clients keep no record of a hasty answer beyond the time at which upstreams are asked again, or one slow answer about
// AAAA would pin them to the NAT64.
func (c *cache) cut(kind uint16, a *Answer) {
	most := c.limits.MaxTTL
	if negative(kind, a.Msg) {
		most = min(most, c.limits.MaxNegativeTTL)
	}
	if a.Hasty {
		most = min(most, hastyFor)
	}
	for _, section := range [][]dns.RR{a.Answer, a.Ns, a.Extra} {
		for _, rr := range section {
			rr.Header().Ttl = min(rr.Header().Ttl, uint32(most/time.Second))
		}
	}
}

// negative says whether an answer is that there is nothing of a type, be it at the end of CNAMEs.
func negative(kind uint16, m *dns.Msg) bool {
	return m.Rcode != dns.RcodeSuccess || !slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == kind || kind == dns.TypeANY
	})
}

// newEntry packs an answer. It holds as long as all of its records do, and a negative one as long as its SOA says (RFC
// 2308 section 5).
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
	e := &entry{wire: wire, layout: l, stored: now.UnixNano(), made: made}
	e.expires = now.Add(time.Duration(lifetime(m)) * time.Second).UnixNano()
	return e, nil
}

// newReadableEntry packs what an upstream answered, of which some records can be written and not read again.
func newReadableEntry(q Question, m *dns.Msg, now time.Time) (*entry, error) {
	e, err := newEntry(q, m, false, now)
	if err == nil {
		_, err = e.message(now)
	}
	return e, err
}

// lifetime returns for how many seconds an answer holds.
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

// conclusive says whether an answer says something about the name, and not about who was asked.
func conclusive(rcode int) bool { return rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError }

// fresh says whether an entry still holds; stale, whether it may be served when nothing better is to be had.
func (e *entry) fresh(now time.Time) bool { return now.UnixNano() < e.expires }
func (e *entry) stale(now time.Time) bool { return now.UnixNano() < e.expires+int64(staleFor) }

// due says that an entry is worth being asked for again: it is asked for often, and about to expire. It says so once in
// the time that the question may take.
func (e *entry) due(now time.Time) bool {
	const often, least, tenth = 3, int64(10 * time.Second), 10
	life, rest, at := e.expires-e.stored, e.expires-now.UnixNano(), e.renew.Load()
	return life >= least && rest < life/tenth && e.hits.Load() >= often && now.UnixNano() >= at &&
		e.renew.CompareAndSwap(at, now.UnixNano()+int64(resolveTimeout))
}

// message returns the answer as it is now.
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

// append appends the answer with the TTLs as they are now: all of it, or without its additional section.
func (e *entry) append(dst []byte, now time.Time, all bool) []byte {
	at, wire, ttls := len(dst), e.wire, e.ttls
	if !all {
		wire, ttls = wire[:e.extra], ttls[:e.needs]
	}
	dst = append(dst, wire...)
	if !all {
		dst[at+10], dst[at+11] = 0, 0
	}
	age := uint32(max(0, now.UnixNano()-e.stored) / int64(time.Second))
	for _, i := range ttls {
		ttl := dst[at+int(i):]
		left := binary.BigEndian.Uint32(ttl)
		binary.BigEndian.PutUint32(ttl, left-min(left, age))
	}
	return dst
}

// appendTo appends the answer to a query: its ID, its name in its letters, its flags. Of one that is too long for the client
// the additional section is left out (RFC 2181 section 9). If that is not enough nothing is left, so that the client comes
// again over TCP.
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
		flags &^= flagAD // whoever does not ask for it would not understand it (RFC 6840 section 5.7)
	}
	binary.BigEndian.PutUint16(b[2:], flags)
	copy(b[headerLen:], q.question)
	return q.appendOPT(dst, at, 0, size)
}
