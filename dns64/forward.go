package dns64

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"github.com/miekg/dns"
)

// Config configures a Forwarder. It must not change while it is in use.
type Config struct {
	Policy    Policy
	Clients   []netip.Prefix // clients that are served
	Upstreams *Upstreams
	Cache     CacheLimits
	Rate      int    // answers over UDP to one network per second; 0: no limit
	InFlight  int    // limit of queries that wait for upstreams
	Bits      int    // prefix length of one IPv6 client
	Size      uint16 // longest answer over UDP (RFC 6891 section 6.2.5)
}

// Forwarder answers queries from its caches or by querying upstreams. Its methods may be called by any number of goroutines.
type Forwarder struct {
	Stats Stats

	log    *slog.Logger
	seed   maphash.Seed
	turn   atomic.Uint64 // counter for RoundRobin
	places places        // of queries that wait for upstreams
	flying flights
	open   streams // TCP connections of clients
	state  atomic.Pointer[state]
}

// state is a Config with the objects derived from it.
type state struct {
	Config
	zoned   Policy // Policy for names in zones
	clients *bart.Lite
	limit   *limiter
	real    *cache // answers of upstreams
	made    *cache // answers to clients
}

// serves reports whether a client is served. The host itself always is; see also client.own.
func (s *state) serves(client netip.Addr) bool {
	return client.IsLoopback() || s.clients.Contains(client)
}

// policy returns the rules for a name. The upstreams of zones, such as those of a cluster, are not expected to validate.
func (s *state) policy(name string) *Policy {
	if s.Upstreams.zoned(name) {
		return &s.zoned
	}
	return &s.Policy
}

// New returns a Forwarder.
func New(c Config, log *slog.Logger) *Forwarder {
	f := &Forwarder{log: log, seed: maphash.MakeSeed()}
	f.Configure(c)
	return f
}

// Configure replaces the Config. Queries under way end with the old one. Configure keeps the cached answers of upstreams if
// the upstreams and the cache limits are the same, and the answers to clients if the Policy is the same as well.
func (f *Forwarder) Configure(c Config) {
	s := &state{Config: c, zoned: c.Policy, clients: new(bart.Lite), limit: newLimiter(c.Rate), real: newCache(c.Cache, f.seed), made: newCache(c.Cache, f.seed)}
	s.zoned.Validated = false
	for _, p := range c.Clients {
		s.clients.Insert(p)
	}
	old := f.state.Load()
	if old != nil && old.Upstreams == c.Upstreams && old.Cache == c.Cache {
		s.real = old.real
		if reflect.DeepEqual(old.Policy, c.Policy) {
			s.made = old.made
		}
	}
	if old != nil && old.Rate == c.Rate {
		s.limit = old.limit
	}
	f.state.Store(s)
	if old != nil && old.Upstreams != c.Upstreams {
		old.Upstreams.Close()
	}
}

// Config returns the Config in use.
func (f *Forwarder) Config() Config { return f.state.Load().Config }

// Watch checks the upstreams and logs their outages until ctx is done.
func (f *Forwarder) Watch(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	down := make(map[string]time.Time)
	for last := (time.Time{}); ; {
		us := f.state.Load().Upstreams
		all := time.Since(last) >= allEvery
		if all {
			last = time.Now()
		}
		us.Check(ctx, all)
		f.report(down, us.State())
		select {
		case <-ctx.Done():
			us.Close()
			return nil
		case <-tick.C:
		case <-us.wake:
			select { // limits the checks of an upstream that keeps failing
			case <-ctx.Done():
			case <-time.After(wakeAfter):
			}
		}
	}
}

// report logs the start and end of outages. It updates down, the outages that were logged.
func (f *Forwarder) report(down map[string]time.Time, list []UpstreamState) {
	left := 0
	for _, u := range list {
		if u.Up {
			left++
		}
	}
	for _, u := range list {
		name := u.String()
		since, was := down[name]
		switch {
		case !u.Up && !was:
			down[name] = u.Since
			f.log.Warn("DNS64 upstream does not answer", "upstream", name, "reason", u.Error, "others", left)
		case u.Up && was:
			delete(down, name)
			f.log.Info("DNS64 upstream answers again", "upstream", name, "after", time.Since(since).Round(time.Second))
		}
	}
}

var errBusy = errors.New("dns64: too many queries wait for upstreams")

// acquire returns a place for a query that waits for upstreams, or nil.
func (f *Forwarder) acquire(ctx context.Context, s *state, client netip.Addr) *place {
	return f.places.acquire(ctx, client, s.Bits, s.InFlight)
}

// Limited returns the prefixes of the clients that exceeded their share within the last minute.
func (f *Forwarder) Limited() []netip.Prefix { return f.places.limitedSince(limitedFor) }

// caught recovers from a panic, when deferred, and sets err: a message that triggers a bug must fail only one query.
func (f *Forwarder) caught(err *error) {
	if r := recover(); r != nil {
		f.Stats.add(panics)
		*err = fmt.Errorf("dns64: panic while handling a query: %v", r)
	}
}

// resolveTimeout bounds a query: one question to upstreams, and another at the end of a chain of CNAMEs.
const resolveTimeout = askTimeout + patience/2

// resolve answers a question and caches the answer. With again it queries upstreams even if the answer is cached, and uses the
// cached one only if they do not answer.
func (f *Forwarder) resolve(ctx context.Context, s *state, q Question, pick int, again bool) (e *entry, err error) {
	defer f.caught(&err)
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	a := s.policy(q.Name).Resolve(ctx, q, pick, func(ctx context.Context, q Question) (*dns.Msg, error) {
		return f.ask(ctx, s, q, again)
	})
	s.made.cut(q.Type, &a)
	if e, err = newEntry(q, a.Msg, a.Made, time.Now()); err != nil { // some answers of upstreams cannot be packed
		if e, err = newEntry(q, failure(q), false, time.Now()); err != nil {
			return nil, err
		}
	}
	if a.Provisional {
		e.expires = min(e.expires, e.stored+int64(provisionalFor))
	}
	if !again || conclusive(e.rcode()) && !a.Provisional { // a failure must not replace a valid answer
		s.made.put(s.made.key(e.question(), q.DO, q.CD, q.RD, pick), e)
	}
	return e, nil
}

// ask answers a question with the data of upstreams: from the cache, unless again is set, or by querying them. A cached answer
// takes precedence over an error. With ServeStale, so does an expired one, also if upstreams do not answer within staleAfter.
func (f *Forwarder) ask(ctx context.Context, s *state, q Question, again bool) (*dns.Msg, error) {
	question, err := wireQuestion(q)
	if err != nil {
		return nil, err
	}
	k := s.real.key(question, q.DO, q.CD, true, 0)
	old := s.real.get(k, question)
	if old != nil && !again && old.fresh(time.Now()) {
		return old.message(time.Now())
	}
	q.RD = true // all queries to upstreams have RD set
	stale := old != nil && s.Cache.ServeStale && old.stale(time.Now())
	if stale && !old.fresh(time.Now()) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, staleAfter)
		defer cancel()
	}
	e, err := f.askUpstreams(ctx, s, q, k)
	switch now := time.Now(); {
	case err == nil && conclusive(e.rcode()):
		return e.message(now)
	case old != nil && old.fresh(now):
		return old.message(now)
	case stale:
		f.Stats.add(staleServed)
		return old.staleMessage()
	case err == nil:
		return e.message(now)
	}
	return nil, err
}

// askUpstreams queries the upstreams. Concurrent identical questions share one query. It waits only briefly for an answer that
// upstreams did not give before; a late answer still goes into the cache.
func (f *Forwarder) askUpstreams(ctx context.Context, s *state, q Question, k key) (*entry, error) {
	if traceOf(ctx) != nil {
		return f.fetch(ctx, s, q, k) // a trace needs its own query
	}
	g, began, all := s.Upstreams.group(q.Name), time.Now(), ctx
	if g.silence.expects(q) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, briefly)
		defer cancel()
	}
	e, err := f.flying.wait(ctx, flightKey{q, s.Upstreams}, s.InFlight/2, func(ctx context.Context) (*entry, error) {
		return f.fetch(ctx, s, q, k)
	})
	if err != nil && q.Type == dns.TypeAAAA && time.Since(began) > patience/2 && !errors.Is(context.Cause(all), errShare) && g.silence.unheard(q, began) {
		s.Upstreams.probe(all, g)
	}
	return e, err
}

// fetch queries the upstreams and caches their answer unless it is a failure.
func (f *Forwarder) fetch(ctx context.Context, s *state, q Question, k key) (e *entry, err error) {
	defer f.caught(&err)
	m, err := s.Upstreams.Ask(ctx, q)
	if err != nil {
		return nil, err
	}
	if s.Upstreams.zoned(q.Name) {
		m.AuthenticatedData = false // Policy.Validated is about the other upstreams
	}
	s.real.bound(q.Type, m)
	e, err = newReadableEntry(q, m, time.Now())
	if err == nil && conclusive(m.Rcode) {
		s.real.put(k, e)
	}
	return e, err
}

// wireQuestion returns a question in wire format.
func wireQuestion(q Question) ([]byte, error) {
	b := make([]byte, maxName+5)
	n, err := dns.PackDomainName(q.Name, b, 0, nil, false)
	if err != nil {
		return nil, err
	}
	return append(b[:n], byte(q.Type>>8), byte(q.Type), byte(q.Class>>8), byte(q.Class)), nil
}

// Query answers a question like one of a client at the address, even if that client is not served. It also returns the queries
// to upstreams that the answer needed.
func (f *Forwarder) Query(ctx context.Context, client netip.Addr, name string, kind uint16) (*dns.Msg, []Attempt, error) {
	s := f.state.Load()
	p := f.acquire(ctx, s, netip.Addr{})
	if p == nil {
		return nil, nil, errBusy
	}
	defer p.release()
	t := new(trace)
	ctx = context.WithValue(p.ctx, traceKey{}, t)
	q := Question{Name: dns.CanonicalName(name), Type: kind, Class: dns.ClassINET, RD: true}
	e, err := f.resolve(ctx, s, q, s.Policy.pick(client, q.Type, q.Class, &f.turn), false)
	if err != nil {
		return nil, t.attempts(), err
	}
	m, err := e.message(time.Now())
	return m, t.attempts(), err
}

// Flush empties the caches and returns the number of removed answers.
func (f *Forwarder) Flush() int {
	s := f.state.Load()
	return s.real.flush() + s.made.flush()
}

// Remembered returns the number of cached answers, including expired ones.
func (f *Forwarder) Remembered() int {
	s := f.state.Load()
	return s.real.len() + s.made.len()
}

// Cached is a cached answer.
type Cached struct {
	Name, Type, Result string
	Made               bool // answer to clients, not of an upstream
	TTL                time.Duration
	Hits               uint32
	Records            int
}

// Cached returns the valid answers in the caches, those of upstreams first.
func (f *Forwarder) Cached() (list []Cached) {
	s, now := f.state.Load(), time.Now()
	for i, c := range []*cache{s.real, s.made} {
		for _, e := range c.entries() {
			if !e.fresh(now) {
				continue
			}
			b := e.question()
			name, n, err := dns.UnpackDomainName(b, 0)
			if err != nil {
				continue
			}
			list = append(list, Cached{
				Name: name, Type: dns.Type(uint16(b[n])<<8 | uint16(b[n+1])).String(), Result: dns.RcodeToString[e.rcode()], Made: i == 1,
				TTL: time.Duration(e.expires - sinceEpoch(now)).Truncate(time.Second), Hits: e.hits.Load(), Records: int(e.wire[6])<<8 | int(e.wire[7]),
			})
		}
	}
	return list
}
