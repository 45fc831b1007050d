package dns64

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone answers from records, with NXDOMAIN for all other names. It preserves the case of the question.
func zone(t testing.TB, text string) func(dns.ResponseWriter, *dns.Msg) *dns.Msg {
	rrs := records(t, text)
	return func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		known := false
		for _, rr := range rrs {
			if same(rr.Header().Name, q.Question[0].Name) {
				known = true
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, dns.Copy(rr))
				}
			}
		}
		if len(m.Answer) == 0 {
			m.Ns = records(t, nodata[1:])
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		return m
	}
}

// testConfig returns a Config that serves the loopback interface.
func testConfig(t testing.TB, upstreams ...Upstream) Config {
	return Config{
		Policy: *testPolicy(t), Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Upstreams: NewUpstreams(upstreams, false, nil), InFlight: 100, Size: 1232,
		Cache: CacheLimits{Size: 100, MaxTTL: time.Hour, MaxNegativeTTL: time.Hour},
	}
}

// serve runs a server on a free port until the test ends.
func serve(t testing.TB, c Config) (*Forwarder, string) {
	t.Helper()
	f := New(c, slog.New(slog.DiscardHandler))
	s, err := Listen(f, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	for tries := 20; err != nil && tries > 0; tries-- { // another process uses the UDP port with the number of the TCP port
		s, err = Listen(f, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, s.Addrs()[0].String()
}

// exchange sends a query to a server.
func exchange(t testing.TB, network, server string, set func(*dns.Msg), name string, kind uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, kind)
	if set != nil {
		set(q)
	}
	c := dns.Client{Net: network, Timeout: 8 * time.Second, UDPSize: 4096}
	m, _, err := c.Exchange(q, server)
	if err != nil {
		t.Fatalf("%s over %s: %v", name, network, err)
	}
	return m
}

func TestServerAnswersByEveryTransport(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	for _, u := range []Upstream{up.udp, up.tcp, up.tls} {
		c := testConfig(t)
		c.Upstreams = NewUpstreams([]Upstream{u}, false, &tls.Config{RootCAs: up.roots})
		_, server := serve(t, c)
		for _, network := range []string{"udp", "tcp"} {
			m := exchange(t, network, server, nil, "H.exaMple.com.", dns.TypeAAAA)
			if len(m.Answer) != 1 || !m.RecursionAvailable || m.Question[0].Name != "H.exaMple.com." || m.Answer[0].Header().Name != "H.exaMple.com." {
				t.Errorf("%v over %s: got %v", u, network, m)
			}
		}
	}
}

// A stub that asks for A and AAAA of each name gets addresses from each prefix in turn. Answers that do not depend on the prefix
// are cached once.
func TestRoundRobinOfAStub(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.Policy = *testPolicy(t, testPrefix, "2001:db8:65::/96")
	c.Policy.Choice = RoundRobin
	f, server := serve(t, c)
	behind := map[string]int{}
	for range 10 {
		exchange(t, "udp", server, nil, "h.example.com.", dns.TypeA)
		behind[brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA))]++
	}
	if behind[made7] != 5 || len(behind) != 2 {
		t.Errorf("got %v, want each prefix five times", behind)
	}
	if n := len(f.Cached()); n != 5 { // A and AAAA of the upstream, A, and AAAA behind each prefix
		t.Errorf("%d answers are remembered, want 5: %v", n, f.Cached())
	}
}

func TestHugeAnswers(t *testing.T) {
	t.Parallel()
	var text []string
	for i := range 800 {
		text = append(text, fmt.Sprintf("h.example.com. 60 A 198.51.%d.%d", 100+i/256, i%256))
	}
	all := zone(t, strings.Join(text, ","))
	up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := all(w, q)
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(1232)
		}
		m.Compress = true
		return m
	})
	f, server := serve(t, testConfig(t, up.udp))
	if m := exchange(t, "udp", server, func(q *dns.Msg) { q.SetEdns0(4096, false) }, "h.example.com.", dns.TypeAAAA); !m.Truncated || len(m.Answer) != 0 || m.IsEdns0().UDPSize() != 1232 {
		t.Errorf("over UDP: got %v", m)
	}
	if m := exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA); m.Truncated || len(m.Answer) != 800 {
		t.Errorf("over TCP: got %d records", len(m.Answer))
	}
	if len(f.Cached()) != 1 { // the small one about AAAA
		t.Errorf("it was remembered: %v", f.Cached())
	}
}

// An answer that does not fit loses its additional section, or is truncated for a retry over TCP. The limit is the client's
// size, or 512, and at most ours.
func TestSizesOfAnswers(t *testing.T) {
	t.Parallel()
	const answers, additional = 20, 300
	up := startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Compress = true
		for i := range answers {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: 1, Ttl: 60}, Txt: []string{fmt.Sprintf("%020d", i)}})
		}
		for i := range additional {
			m.Extra = append(m.Extra, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: 1, Ttl: 60}, A: net.IPv4(198, 51, byte(i/256), byte(i))})
		}
		return m
	})
	_, server := serve(t, testConfig(t, up.tcp))
	for _, row := range []struct {
		network             string
		size                uint16 // 0: no EDNS
		answers, additional int
	}{
		{"udp", 0, 0, 0}, {"udp", 100, 0, 0}, {"udp", 512, 0, 0}, {"udp", 600, 0, 0}, {"udp", 800, answers, 0}, {"udp", 1232, answers, 0},
		{"udp", 4096, answers, 0}, {"tcp", 0, answers, additional}, {"tcp", 1232, answers, additional},
	} {
		m := exchange(t, row.network, server, func(q *dns.Msg) {
			if row.size > 0 {
				q.SetEdns0(row.size, false)
			}
		}, "h.example.com.", dns.TypeTXT)
		o, extra := m.IsEdns0(), len(m.Extra)
		if o != nil {
			extra--
		}
		if len(m.Answer) != row.answers || extra != row.additional || m.Truncated != (row.answers == 0) || (o != nil) != (row.size > 0) {
			t.Errorf("%+v: got %d and %d records, TC %v, OPT %v", row, len(m.Answer), extra, m.Truncated, o)
		}
	}
}

// Configured clients and the host itself are served, others are refused.
func TestServedClients(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.Clients = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	f, server := serve(t, c)
	for address, want := range map[string]outcome{
		"2001:db8::1": pending, "::1": pending, "127.0.0.1": pending, "127.0.0.53": pending, "2001:db9::1": answered, "192.0.2.1": answered, "::2": answered,
	} {
		for _, stream := range []bool{false, true} {
			who := client{addr: netip.MustParseAddr(address), stream: stream, limit: 65535}
			answer, _, o := f.answer(nil, packed(t, "h.example.com.", nil), &who, time.Now())
			if o != want || o == answered && int(answer[3]&15) != dns.RcodeRefused {
				t.Errorf("%s, over TCP %v: outcome %d, want %d: %x", address, stream, o, want, answer)
			}
		}
	}
	for _, network := range []string{"udp", "tcp"} { // as a client of 127.0.0.1
		if got := brief(exchange(t, network, server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
			t.Errorf("%s: got %s", network, got)
		}
	}
	if m := exchange(t, "udp", server, nil, "example.com.", dns.TypeIXFR); m.Rcode != dns.RcodeRefused {
		t.Errorf("got %v", m)
	}
}

// exchangeTooOften exceeds one answer per second, and retries if the second ended meanwhile.
func exchangeTooOften(t testing.TB, server, name string) (m *dns.Msg, tries int) {
	t.Helper()
	for tries = 1; ; tries++ {
		if m = exchange(t, "udp", server, nil, name, dns.TypeAAAA); m.Truncated || tries == 10 {
			return m, tries
		}
	}
}

// Answers above the limit of a network are emptied, so that clients retry over TCP, or dropped.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.Rate = 1
	_, server := serve(t, c)
	if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Errorf("the first: got %v", m)
	}
	if m, _ := exchangeTooOften(t, server, "h.example.com."); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("the second: got %v", m)
	}
	if m := exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Errorf("over TCP: got %v", m)
	}
}

// The rate limit also applies to failures without a place, which forged queries can cause as well.
func TestRateLimitOfFailures(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.Rate, c.InFlight = 1, 0
	f, server := serve(t, c)
	if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure || m.Truncated {
		t.Errorf("the first: got %v", m)
	}
	m, tries := exchangeTooOften(t, server, "i.example.com.")
	if !m.Truncated {
		t.Errorf("the second: got %v", m)
	}
	if m := exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure || m.Truncated {
		t.Errorf("over TCP: got %v", m)
	}
	if n := f.Stats.counters[busy].Load(); n != uint64(2+tries) {
		t.Errorf("%d queries found no place, want %d", n, 2+tries)
	}
}

// While all places are in use, queries fail at once; cached answers are still served.
func TestTooManyQueries(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.InFlight = 1
	f, server := serve(t, c)
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
		t.Fatalf("got %s", got)
	}
	var p *place
	for p == nil { // the first query gives its place back after its answer
		p = f.acquire(t.Context(), f.state.Load(), netip.Addr{})
		runtime.Gosched()
	}
	defer p.release()
	if m := exchange(t, "udp", server, nil, "i.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v", m)
	}
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
		t.Errorf("got %s", got)
	}
}

// Each event is counted once.
func TestCounters(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7+", x.example.com. 60 TXT y")).udp)
	f, server := serve(t, c)
	ask := func(n int, name string, kind uint16) {
		for range n {
			exchange(t, "udp", server, nil, name, kind)
		}
	}
	ask(10, "h.example.com.", dns.TypeAAAA) // 1 miss, 2 questions
	ask(5, ipv4only, dns.TypeAAAA)          // 1 miss
	ask(3, "x.example.com.", dns.TypeTXT)   // 1 miss, 1 question
	ask(2, "no.example.com.", dns.TypeAAAA) // 1 miss, 1 question, or 2 if the first takes longer than the head start
	ask(1, "example.com.", dns.TypeAXFR)
	got := map[string]uint64{}
	totals := f.Stats.Totals()
	for _, a := range totals.Answers {
		if a.Count > 0 {
			got[a.Type+" "+a.Result] = a.Count
		}
	}
	got["synthesized"], got["misses"], got["hits"] = totals.Synthesized, totals.CacheMisses, totals.CacheHits
	want := map[string]uint64{
		"AAAA NOERROR": 15, "AAAA NXDOMAIN": 2, "other NOERROR": 3, "other REFUSED": 1, "synthesized": 15, "misses": 4, "hits": 16,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if st := f.Config().Upstreams.State()[0]; st.Asked < 4 || st.Asked > 5 || st.Failed != 0 {
		t.Errorf("%d questions were asked and %d failed, want 4 or 5, and 0", st.Asked, st.Failed)
	}
}

// Queries that cannot be answered are refused, with OPT if the query had one (RFC 6891 section 6.1.1). Unknown records are
// ignored.
func TestMalformedQueries(t *testing.T) {
	t.Parallel()
	_, server := serve(t, testConfig(t, startFake(t, zone(t, a7)).udp))
	key := &dns.TSIG{Hdr: dns.RR_Header{Name: "key.example.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256}
	for _, row := range []struct {
		name string
		set  func(*dns.Msg)
		want int
	}{
		{"NOTIFY", func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		{"UPDATE", func(q *dns.Msg) { q.SetUpdate("example.com."); q.Insert(records(t, a7)) }, dns.RcodeNotImplemented},
		{"two questions", func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }, dns.RcodeFormatError},
		{"no question", func(q *dns.Msg) { q.Question = nil }, dns.RcodeFormatError},
		{"an answer in it", func(q *dns.Msg) { q.Answer = records(t, a7) }, dns.RcodeFormatError},
		{"another version of EDNS", func(q *dns.Msg) { q.SetEdns0(1232, false).IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		{"two OPTs", func(q *dns.Msg) { q.SetEdns0(1232, false).SetEdns0(1232, false) }, dns.RcodeFormatError},
		{"a signature that we have no key for", func(q *dns.Msg) { q.Extra = append(q.Extra, key) }, dns.RcodeSuccess},
	} {
		for _, edns := range []bool{false, true} {
			q := new(dns.Msg).SetQuestion("h.example.com.", dns.TypeAAAA)
			if row.set(q); edns && q.IsEdns0() == nil {
				q.SetEdns0(1232, false)
				last := len(q.Extra) - 1 // a signature stands behind all else
				q.Extra[0], q.Extra[last] = q.Extra[last], q.Extra[0]
			}
			edns = q.IsEdns0() != nil
			c, err := dns.Dial("udp", server)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(8 * time.Second))
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			m, err := c.ReadMsg()
			if err != nil || m.Id != q.Id || m.Rcode != row.want || (m.IsEdns0() != nil) != edns {
				t.Errorf("%s, EDNS %v: got %v, %v, want %s", row.name, edns, m, err, dns.RcodeToString[row.want])
			}
		}
	}
}
