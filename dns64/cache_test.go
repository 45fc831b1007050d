package dns64

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// remember adds an answer to the cache of a forwarder with an earlier time.
func remember(t testing.TB, f *Forwarder, c *cache, q Question, text string, ago time.Duration) *entry {
	t.Helper()
	m := reply(q, dns.RcodeSuccess)
	m.Answer = records(t, text)
	e, err := newEntry(q, m, false, time.Now().Add(-ago))
	if err != nil {
		t.Fatal(err)
	}
	c.put(c.key(e.question(), q.DO, q.CD, q.RD, 0), e)
	return e
}

func TestAnswersAreRemembered(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7+", x.example.com. 60 TXT y"))
	_, server := serve(t, testConfig(t, up.udp))
	for range 3 {
		if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
			t.Errorf("got %s", got)
		}
		exchange(t, "udp", server, nil, "none.example.com.", dns.TypeAAAA)
		exchange(t, "udp", server, nil, "x.example.com.", dns.TypeTXT)
	}
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeA)); got != "1000 A 198.51.100.7" {
		t.Errorf("got %s", got)
	}
	if n := up.asked.Load(); n != 4 { // AAAA and A of one name, AAAA of the one that is not there, TXT
		t.Errorf("the upstream was asked %d times, want 4", n)
	}
}

// A change of the prefix affects synthesized answers at once, and cached answers of upstreams not at all.
func TestChangeOfPrefix(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	c := testConfig(t, up.udp)
	f, server := serve(t, c)
	exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)
	c.Policy = *testPolicy(t, "2001:db8:65::/96")
	f.Configure(c)
	if got, want := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)), "300 AAAA 2001:db8:65::c633:6407"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := up.asked.Load(); n != 2 {
		t.Errorf("the upstream was asked %d times, want 2", n)
	}
}

// A change of the clients keeps the caches: a flapping route must not empty them.
func TestChangeOfClients(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	c := testConfig(t, up.udp)
	f, server := serve(t, c)
	exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)
	before := len(f.Cached())
	c.Clients = append(c.Clients, netip.MustParsePrefix("2001:db8::/32"))
	c.Policy = *testPolicy(t) // an equal Policy
	f.Configure(c)
	if after := len(f.Cached()); before != 3 || after != 3 {
		t.Errorf("%d answers were remembered, and then %d; want 3", before, after)
	}
}

func TestFlush(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	f, server := serve(t, testConfig(t, up.udp))
	exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)
	if n := f.Flush(); n != 3 || len(f.Cached()) != 0 { // AAAA, A, and what was made of them
		t.Errorf("%d answers were forgotten, want 3", n)
	}
	exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)
	if n := up.asked.Load(); n != 4 {
		t.Errorf("the upstream was asked %d times, want 4", n)
	}
}

// Expired answers are served only with ServeStale and while no upstream answers.
func TestServeStale(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		serve bool
		ago   time.Duration
		want  string
	}{
		{true, time.Hour, "30 AAAA 2001:db8:f::1"},
		{false, time.Hour, "SERVFAIL"},
		{true, 2 * staleFor, "SERVFAIL"},
	} {
		failing := startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		})
		c := testConfig(t, failing.udp)
		c.Cache.ServeStale = row.serve
		f, server := serve(t, c)
		q := Question{Name: "h.example.com.", Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}
		remember(t, f, f.state.Load().real, q, real1, row.ago)
		if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != row.want {
			t.Errorf("%+v: got %s", row, got)
		}
	}
}

// Expired answers are served before a client times out. A late answer of upstreams still goes into the cache.
func TestServeStaleInTime(t *testing.T) {
	t.Parallel()
	answer, answered := zone(t, "h.example.com. 50 AAAA 2001:db8:f::2"), make(chan struct{})
	up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		select {
		case <-answered:
		case <-t.Context().Done():
		}
		return answer(w, q)
	})
	c := testConfig(t, up.udp)
	c.Cache.ServeStale = true
	f, server := serve(t, c)
	q := Question{Name: "h.example.com.", Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}
	remember(t, f, f.state.Load().real, q, real1, time.Hour)
	began := time.Now()
	got, took := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)), time.Since(began)
	if close(answered); got != "30 AAAA 2001:db8:f::1" || took > askTimeout {
		t.Errorf("got %s after %v", got, took)
	}
	later := func() bool {
		return slices.ContainsFunc(f.state.Load().real.entries(), func(e *entry) bool { return e.wire[len(e.wire)-1] == 2 })
	}
	for deadline := time.Now().Add(5 * time.Second); !later(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the answer that came later is not remembered")
		}
	}
}

// A popular name is refreshed before it expires, and answered from the cache meanwhile.
func TestPrefetch(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	c := testConfig(t, up.udp)
	c.Cache.Prefetch = true
	f, server := serve(t, c)
	q := Question{Name: "h.example.com.", Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}
	remember(t, f, f.state.Load().made, q, "h.example.com. 100 AAAA 2001:db8::9", 95*time.Second)
	for range 10 {
		exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)
	}
	deadline := time.Now().Add(5 * time.Second)
	for brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)) != made7 {
		if time.Now().After(deadline) {
			t.Fatal("it was not asked for again")
		}
	}
	if n := f.Stats.counters[prefetched].Load(); n != 1 || up.asked.Load() != 2 {
		t.Errorf("it was asked for %d times, with %d questions", n, up.asked.Load())
	}
}

// A failed refresh keeps the valid answer.
func TestFailedPrefetchKeepsAnswer(t *testing.T) {
	t.Parallel()
	const old = " AAAA 2001:db8::9" // the synthesized address differs, and what has expired none
	made := func(s *state) []*cache { return []*cache{s.made} }
	both := func(s *state) []*cache { return []*cache{s.made, s.real} }
	for _, row := range []struct {
		name  string
		known func(*state) []*cache
		fails []uint16
	}{
		{"all fails", made, []uint16{dns.TypeAAAA, dns.TypeA}},
		{"AAAA fails", made, []uint16{dns.TypeAAAA}},
		{"AAAA fails, and what the upstream said is known", both, []uint16{dns.TypeAAAA}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			working := zone(t, a7)
			up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
				if slices.Contains(row.fails, q.Question[0].Qtype) {
					return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
				}
				return working(w, q)
			})
			c := testConfig(t, up.udp)
			c.Cache.Prefetch = true
			f, server := serve(t, c)
			q := Question{Name: "h.example.com.", Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}
			for _, c := range row.known(f.state.Load()) {
				remember(t, f, c, q, "h.example.com. 1000 AAAA 2001:db8::9", 950*time.Second)
			}
			deadline := time.Now().Add(5 * time.Second)
			for f.Stats.counters[prefetched].Load() == 0 || f.places.taken() != 0 {
				if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); !strings.HasSuffix(got, old) {
					t.Fatalf("got %s, want%s", got, old)
				}
				if time.Now().After(deadline) {
					t.Fatal("it was not asked for again")
				}
			}
			if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); !strings.HasSuffix(got, old) {
				t.Errorf("after that: got %s, want%s", got, old)
			}
		})
	}
}

// An entry is due once per interval, and stays due if there was no place for the query.
func TestWhenEntriesAreDue(t *testing.T) {
	t.Parallel()
	f := New(testConfig(t), nil)
	e := remember(t, f, f.state.Load().made, in("h.example.com.", dns.TypeAAAA), "h.example.com. 1000 AAAA 2001:db8::9", 950*time.Second)
	now := time.Now()
	if e.due(now) {
		t.Error("the entry is due without any query")
	}
	e.hits.Store(3)
	if !e.due(now) || e.due(now) || e.due(now.Add(resolveTimeout-1)) || !e.due(now.Add(resolveTimeout)) {
		t.Error("it is not due once, and again after a while")
	}
	for range f.state.Load().InFlight {
		_ = f.acquire(t.Context(), f.state.Load(), netip.Addr{})
	}
	f.prefetch(f.state.Load(), e, &query{question: e.question()}, 0, netip.Addr{})
	if !e.due(now) {
		t.Error("it is not due although it could not be asked for")
	}
}

// An answer with a TTL of 0 is not cached (RFC 1035 section 3.2.1), whether it is synthesized or not.
func TestTTLOfZero(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"h.example.com.": "0 AAAA 2001:db8:64::c633:6407", "z.example.com.": "z.example.com. 0 AAAA 2001:db8::5"} {
		up := startFake(t, zone(t, "h.example.com. 0 A 198.51.100.7, z.example.com. 0 AAAA 2001:db8::5"))
		_, server := serve(t, testConfig(t, up.udp))
		for i := range 3 {
			before := up.asked.Load()
			if got := brief(exchange(t, "udp", server, nil, name, dns.TypeAAAA)); got != want || up.asked.Load() == before {
				t.Errorf("question %d: got %s, want %s from the upstream", i, got, want)
			}
		}
	}
}

// The TTL of the SOA is the negative TTL and decreases in the cache; synthesized records have no longer TTL.
func TestNegativeAnswersOfTheCache(t *testing.T) {
	t.Parallel()
	f := New(testConfig(t), nil)
	for name, kind := range map[string]uint16{"h.example.com.": dns.TypeAAAA, "no.example.com.": dns.TypeTXT} {
		q := in(name, kind)
		q.RD = true
		m := reply(q, dns.RcodeSuccess)
		m.Ns = records(t, "example.com. 3600 SOA ns.example.com. root.example.com. 1 7200 900 1209600 50")
		real := f.state.Load().real
		real.bound(kind, m)
		e, err := newEntry(q, m, false, time.Now().Add(-20*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		real.put(real.key(e.question(), false, false, true, 0), e)
	}
	remember(t, f, f.state.Load().real, in("h.example.com.", dns.TypeA), a7, 0)
	for name, kind := range map[string]uint16{"h.example.com.": dns.TypeAAAA, "no.example.com.": dns.TypeTXT} {
		m, _, err := f.Query(t.Context(), netip.IPv6Unspecified(), name, kind)
		if err != nil {
			t.Fatal(err)
		}
		if got := append(m.Answer, m.Ns...)[0].Header().Ttl; got > 30 || got < 25 {
			t.Errorf("%s: 20 of 50 seconds later, the TTL is %d", name, got)
		}
	}
}

func TestTTLs(t *testing.T) {
	t.Parallel()
	q := Question{Name: "h.example.com.", Type: dns.TypeAAAA, Class: dns.ClassINET, RD: true}
	c := newCache(CacheLimits{Size: 1, MinTTL: 10 * time.Second, MaxTTL: time.Minute, MaxNegativeTTL: 20 * time.Second}, New(testConfig(t), nil).seed)
	const soa = "example.com. %d SOA ns.example.com. root.example.com. 1 7200 900 1209600 %d"
	for _, row := range []struct {
		records string // as message reads them
		want    uint32
	}{
		{"h.example.com. 5 AAAA 2001:db8::1;", 10},
		{"h.example.com. 50 AAAA 2001:db8::1, h.example.com. 40 AAAA 2001:db8::2;", 40},
		{"h.example.com. 500 AAAA 2001:db8::1;", 60},
		{"h.example.com. 500 AAAA 2001:db8::1;" + fmt.Sprintf(soa, 50, 15), 50}, // it is not the SOA of a negative answer
		{";" + fmt.Sprintf(soa, 300, 300), 20},
		{";" + fmt.Sprintf(soa, 300, 15), 15},
		{";" + fmt.Sprintf(soa, 15, 300), 15},
		{";" + fmt.Sprintf(soa, 300, 5), 10},
		{"h.example.com. 500 CNAME i.example.com.;" + fmt.Sprintf(soa, 300, 300), 20},
		{";", 0}, // nothing says for how long there is nothing
	} {
		m := message(t, dns.TypeAAAA, row.records)
		c.bound(dns.TypeAAAA, m)
		now := time.Now()
		e, err := newEntry(q, m, false, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(e.expires-e.stored) / time.Second; got != time.Duration(row.want) {
			t.Errorf("%q: it lives %d seconds, want %d", row.records, got, row.want)
		}
		if row.want > 0 {
			aged, err := e.message(now.Add(7 * time.Second))
			if err != nil {
				t.Fatal(err)
			}
			least := ^uint32(0)
			for _, rr := range append(aged.Answer, aged.Ns...) {
				least = min(least, rr.Header().Ttl)
			}
			if least != row.want-7 {
				t.Errorf("%q: after 7 seconds its least TTL is %d, want %d", row.records, least, row.want-7)
			}
		}
	}
}

// The cache returns what a map would return, or nothing, and never exceeds its size.
func TestCacheModel(t *testing.T) {
	t.Parallel()
	const size = 8
	var seed = New(testConfig(t), nil).seed
	rapid.Check(t, func(r *rapid.T) {
		c := newCache(CacheLimits{Size: size}, seed)
		model := map[string]*entry{}
		draw := func() Question {
			return Question{
				Name: fmt.Sprintf("%d.example.com.", rapid.IntRange(0, 15).Draw(r, "name")), Type: dns.TypeA, Class: dns.ClassINET,
				DO: rapid.Bool().Draw(r, "do"),
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"put": func(*rapid.T) {
				q := draw()
				m := reply(q, dns.RcodeSuccess)
				m.Answer = records(t, q.Name+" 60 A 198.51.100.7")
				e, err := newEntry(q, m, false, time.Now())
				if err != nil {
					r.Fatal(err)
				}
				c.put(c.key(e.question(), q.DO, q.CD, q.RD, 0), e)
				model[fmt.Sprint(q)] = e
			},
			"get": func(*rapid.T) {
				q := draw()
				b, err := wireQuestion(q)
				if err != nil {
					r.Fatal(err)
				}
				if e := c.get(c.key(b, q.DO, q.CD, q.RD, 0), b); e != nil && e != model[fmt.Sprint(q)] {
					r.Fatalf("%v: got another entry", q)
				}
			},
			"flush": func(*rapid.T) { c.flush(); clear(model) },
			"": func(*rapid.T) {
				if n := len(c.entries()); n > size {
					r.Fatalf("%d entries", n)
				}
			},
		})
	})
}
