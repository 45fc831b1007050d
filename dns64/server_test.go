package dns64

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone answers from records; what it does not have does not exist. It keeps the letters of the question.
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

// testConfig serves the loopback interface.
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
	for tries := 20; err != nil && tries > 0; tries-- { // somebody has the port of UDP that goes with the one of TCP
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

// exchange asks a server as a client does.
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

// A stub that asks for A and AAAA of each name is given addresses behind each prefix by turns, and what does not depend on
// the prefix is remembered once.
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

// A connection to an upstream is used again; one that the upstream has closed is replaced, and one that waits for long closed.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted, perConnection atomic.Int64
	perConnection.Store(100)
	answer := zone(t, a7)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			go func() {
				defer c.Close()
				conn := &dns.Conn{Conn: c}
				for range perConnection.Load() {
					q, err := conn.ReadMsg()
					if err != nil || conn.WriteMsg(answer(nil, q)) != nil {
						return
					}
				}
			}()
		}
	}()
	us := NewUpstreams([]Upstream{{Transport: TCP, Addr: l.Addr().(*net.TCPAddr).AddrPort()}}, false, nil)
	ask := func() {
		t.Helper()
		if m, err := us.Ask(t.Context(), in("h.example.com.", dns.TypeA)); err != nil || len(m.Answer) != 1 {
			t.Errorf("got %v, %v", m, err)
		}
	}
	for range 5 {
		ask()
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections for five questions one after the other, want 1", n)
	}
	us.Close()
	perConnection.Store(1)
	for range 5 {
		ask()
	}
	if n, st := accepted.Load(), us.State()[0]; n != 6 || st.Failed != 0 {
		t.Errorf("%d connections and %d failures, want one more for each of five that are closed after their answer", n, st.Failed)
	}
	u := us.list[0]
	for _, c := range u.idle {
		c.since = c.since.Add(-idleTime)
	}
	if us.Check(t.Context(), false); len(u.idle) != 0 {
		t.Errorf("%d connections still wait", len(u.idle))
	}
}

func TestCertificateOfAnotherName(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	u := up.tls
	u.Name = "other.example"
	c := testConfig(t)
	c.Upstreams = NewUpstreams([]Upstream{u}, false, &tls.Config{RootCAs: up.roots})
	_, server := serve(t, c)
	if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure || up.asked.Load() != 0 {
		t.Errorf("got %v after %d questions, want SERVFAIL and none", m, up.asked.Load())
	}
}

// Upstreams that lie, in ways that an attacker would, and what comes of it.
func TestLyingUpstreams(t *testing.T) {
	t.Parallel()
	truth := zone(t, a7)
	// lie sends a forged answer, then the true one.
	lie := func(forge func(m *dns.Msg)) func(dns.ResponseWriter, *dns.Msg) *dns.Msg {
		return func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			m := truth(w, q)
			m.Answer = records(t, "h.example.com. 9 A 192.0.2.66")
			forge(m)
			if w.RemoteAddr().Network() == "udp" {
				_ = w.WriteMsg(m)
			}
			return truth(w, q)
		}
	}
	for name, answer := range map[string]func(dns.ResponseWriter, *dns.Msg) *dns.Msg{
		"wrong id":       lie(func(m *dns.Msg) { m.Id++ }),
		"wrong question": lie(func(m *dns.Msg) { m.Question[0].Name = "x.example.com." }),
		"wrong type":     lie(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }),
		"wrong letters":  lie(func(m *dns.Msg) { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) }),
		"no question":    lie(func(m *dns.Msg) { m.Question = nil }),
		"a query":        lie(func(m *dns.Msg) { m.Response = false }),
		"truncated":      lie(func(m *dns.Msg) { m.Truncated = true }),
		"garbage first": func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			_, _ = w.Write([]byte("garbage"))
			return truth(w, q)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, server := serve(t, testConfig(t, startFake(t, answer).udp))
			m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)
			if got := brief(m); got != made7 {
				t.Errorf("got %s, want %s", got, made7)
			}
		})
	}
}

// One that neither keeps the letters of a question nor knows TCP is asked in small ones after the first try.
func TestUpstreamWithoutLettersAndTCP(t *testing.T) {
	t.Parallel()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	answer := zone(t, a7)
	s := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		q.Question[0].Name = dns.CanonicalName(q.Question[0].Name)
		_ = w.WriteMsg(answer(w, q))
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	_, server := serve(t, testConfig(t, Upstream{Transport: UDP, Addr: packets.LocalAddr().(*net.UDPAddr).AddrPort()}))
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 || asked.Load() > 4 {
		t.Errorf("got %s after %d questions", got, asked.Load())
	}
	before := asked.Load()
	if m := exchange(t, "udp", server, nil, "no.example.com.", dns.TypeA); m.Rcode != dns.RcodeNameError || asked.Load() != before+1 {
		t.Errorf("got %v after %d questions, want one", m, asked.Load()-before)
	}
}

// A server that cannot read a question may answer with the header alone. That is its answer, where nobody can forge it.
func TestErrorsWithoutAQuestion(t *testing.T) {
	t.Parallel()
	truth := zone(t, a7)
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeServerFailure} {
		up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeAAAA {
				return &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: rcode}}
			}
			return truth(w, q)
		})
		for _, u := range []Upstream{up.udp, up.tcp} {
			c := testConfig(t, u)
			_, server := serve(t, c)
			began := time.Now()
			got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA))
			if took := time.Since(began); got != "600 AAAA 2001:db8:64::c633:6407" || took > patience/2 || c.Upstreams.State()[0].Failed != 0 {
				t.Errorf("%s over %s: got %s after %v, %d failures", dns.RcodeToString[rcode], u.Transport, got, took, c.Upstreams.State()[0].Failed)
			}
		}
	}
}

// An answer from elsewhere does not get through, even if all else is right.
func TestSpoofedSource(t *testing.T) {
	t.Parallel()
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	truth := zone(t, a7)
	_, server := serve(t, testConfig(t, startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := truth(w, q)
		m.Answer = records(t, "h.example.com. 9 A 192.0.2.66")
		if b, err := m.Pack(); err == nil {
			_, _ = other.WriteTo(b, w.RemoteAddr())
		}
		return truth(w, q)
	}).udp))
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
		t.Errorf("got %s, want %s", got, made7)
	}
}

func silentUpstream(dns.ResponseWriter, *dns.Msg) *dns.Msg { return nil }

// Whatever does not answer, a client is answered in bounded time.
func TestUpstreamsThatFail(t *testing.T) {
	t.Parallel()
	good := zone(t, a7)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := Upstream{Transport: UDP, Addr: closed.Addr().(*net.TCPAddr).AddrPort()}
	closed.Close()
	failing := startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	})
	for _, row := range []struct {
		name      string
		upstreams []Upstream
		race      bool
		want      string
		within    time.Duration
	}{
		{"down", []Upstream{nobody}, false, "SERVFAIL", time.Second},
		{"silent", []Upstream{startFake(t, silentUpstream).udp}, false, "SERVFAIL", askTimeout + time.Second},
		{"failing", []Upstream{failing.udp}, false, "SERVFAIL", time.Second},
		{"down, then good", []Upstream{nobody, startFake(t, good).udp}, false, made7, time.Second},
		{"silent, then good", []Upstream{startFake(t, silentUpstream).udp, startFake(t, good).udp}, false, made7, 2*tryTimeout + time.Second},
		{"failing, then good", []Upstream{failing.udp, startFake(t, good).udp}, false, made7, time.Second},
		{"silent beside good", []Upstream{startFake(t, silentUpstream).udp, startFake(t, good).udp}, true, made7, time.Second},
		{"AAAA silent", []Upstream{startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeAAAA {
				return nil
			}
			return good(w, q)
		}).udp}, false, "600 AAAA 2001:db8:64::c633:6407", patience + time.Second},
		{"slow", []Upstream{startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			<-time.After(time.Second)
			return good(w, q)
		}).udp}, false, made7, 3 * time.Second / 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := testConfig(t)
			c.Upstreams = NewUpstreams(row.upstreams, row.race, nil)
			_, server := serve(t, c)
			began := time.Now()
			got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA))
			if took := time.Since(began); got != row.want || took > row.within {
				t.Errorf("got %s after %v, want %s within %v", got, took, row.want, row.within)
			}
		})
	}
}

// An error of one upstream says nothing of what the next one knows.
func TestErrorsOfOneUpstream(t *testing.T) {
	t.Parallel()
	working := startFake(t, zone(t, a7))
	for _, rcode := range []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeNotAuth} {
		failing := startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) })
		for _, race := range []bool{false, true} {
			c := testConfig(t)
			c.Upstreams = NewUpstreams([]Upstream{failing.udp, working.udp}, race, nil)
			_, server := serve(t, c)
			if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeA)); got != "1000 A 198.51.100.7" {
				t.Errorf("%s, race %v: got %s", dns.RcodeToString[rcode], race, got)
			}
		}
	}
}

// An answer counts in the bucket of how long it took and in all larger ones; a question without an answer in none.
func TestLatencyOfUpstreams(t *testing.T) {
	t.Parallel()
	us := NewUpstreams([]Upstream{{Transport: UDP, Addr: netip.MustParseAddrPort("127.0.0.1:1")}}, false, nil)
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 30 * time.Millisecond, 4 * time.Second, time.Minute} {
		us.list[0].answered(took)
	}
	us.Check(t.Context(), true) // nobody is there
	st := us.State()[0]
	got := map[time.Duration]uint64{}
	for _, l := range st.Latency {
		got[l.Within] = l.Count
	}
	if len(got) != len(latencies)+1 || got[time.Millisecond] != 2 || got[2*time.Millisecond] != 3 || got[20*time.Millisecond] != 3 ||
		got[50*time.Millisecond] != 4 || got[5*time.Second] != 5 || got[0] != 6 || st.Latency[len(latencies)].Within != 0 || st.Failed != 1 {
		t.Errorf("got %+v", st)
	}
}

// An upstream that is down is asked last until it answers again.
func TestHealthOfUpstreams(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	dead.Store(true)
	answer := zone(t, a7)
	first := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		if dead.Load() {
			return nil
		}
		return answer(w, q)
	})
	us := NewUpstreams([]Upstream{first.udp, startFake(t, answer).udp}, false, nil)
	for range failuresDown {
		us.Check(t.Context(), true)
	}
	if st := us.State(); st[0].Up || !st[1].Up || st[0].Failed != failuresDown || st[1].Recent == 0 {
		t.Errorf("got %+v", st)
	}
	before := first.asked.Load()
	if _, err := us.Ask(t.Context(), Question{Name: "h.example.com.", Type: dns.TypeA, Class: dns.ClassINET}); err != nil || first.asked.Load() != before {
		t.Errorf("%v, and one that is down was asked", err)
	}
	dead.Store(false)
	if us.Check(t.Context(), false); !us.State()[0].Up {
		t.Error("it is not up again")
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

// What does not fit is left out if it is additional, and asked for over TCP if it is not. Sizes are those of the client, or
// 512, and never more than ours.
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

func TestWhoIsServed(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	c := testConfig(t, up.udp)
	c.Clients = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	f, server := serve(t, c)
	for _, network := range []string{"udp", "tcp"} {
		if m := exchange(t, network, server, nil, "h.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeRefused {
			t.Errorf("%s: got %v", network, m)
		}
	}
	c.Clients = testConfig(t).Clients
	f.Configure(c)
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
		t.Errorf("got %s", got)
	}
	if m := exchange(t, "udp", server, nil, "example.com.", dns.TypeIXFR); m.Rcode != dns.RcodeRefused {
		t.Errorf("got %v", m)
	}
}

// One client cannot keep others out of TCP, whether its connections are idle or have a query under way.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	for name, first := range map[string][]byte{"idle": nil, "half a query": {0}, "busy": append([]byte{0, 12 + 11}, packed(t, "h.net.", nil)...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := zone(t, a7)
			c := testConfig(t, startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
				if same(q.Question[0].Name, "h.net.") {
					return nil
				}
				return answer(w, q)
			}).udp)
			c.InFlight = 2 * maxStreams
			_, server := serve(t, c)
			for range maxStreams + 50 {
				c, err := net.Dial("tcp", server)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = c.Write(first)
			}
			for range 3 {
				if got := brief(exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

func TestIdleStreamsMakeWay(t *testing.T) {
	t.Parallel()
	with := func(since int64, busy int32) *stream {
		s := new(stream)
		s.since.Store(since)
		s.busy.Store(busy)
		return s
	}
	inOrder := []*stream{with(1, 0), with(2, 0), with(1, 3), with(2, 1)}
	for i := range inOrder[1:] {
		if !inOrder[i].idler(inOrder[i+1]) || inOrder[i+1].idler(inOrder[i]) {
			t.Errorf("stream %d does not make way for %d", i, i+1)
		}
	}
}

// Too many answers to one network are cut down, so that whoever asked comes over TCP, or are not sent.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.Rate = 1
	_, server := serve(t, c)
	if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Errorf("the first: got %v", m)
	}
	if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("the second: got %v", m)
	}
	if m := exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA); len(m.Answer) != 1 {
		t.Errorf("over TCP: got %v", m)
	}
}

// Answers that say that there is no place are limited like any other: they can be had by forging queries, too.
func TestRateLimitOfFailures(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.Rate, c.InFlight = 1, 0
	f, server := serve(t, c)
	if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure || m.Truncated {
		t.Errorf("the first: got %v", m)
	}
	if m := exchange(t, "udp", server, nil, "i.example.com.", dns.TypeAAAA); !m.Truncated {
		t.Errorf("the second: got %v", m)
	}
	if m := exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure || m.Truncated {
		t.Errorf("over TCP: got %v", m)
	}
	if n := f.Stats.counters[busy].Load(); n != 3 {
		t.Errorf("%d queries found no place, want 3", n)
	}
}

// While all places are taken, a query fails at once; what is known is still answered.
func TestTooManyQueries(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, a7)).udp)
	c.InFlight = 1
	f, server := serve(t, c)
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
		t.Fatalf("got %s", got)
	}
	f.slots.Add(1)
	if m := exchange(t, "udp", server, nil, "i.example.com.", dns.TypeAAAA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v", m)
	}
	if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
		t.Errorf("got %s", got)
	}
}

// Each event is counted where it happens, as often as it does.
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
	ask(2, "no.example.com.", dns.TypeAAAA) // 1 miss, 1 question
	ask(1, "example.com.", dns.TypeAXFR)
	got := map[string]uint64{}
	for _, n := range f.Stats.All() {
		if n.Value > 0 {
			got[n.Name+n.Labels["type"]+n.Labels["result"]] = n.Value
		}
	}
	want := map[string]uint64{
		"dns64_queriesAAAANOERROR": 15, "dns64_queriesAAAANXDOMAIN": 2, "dns64_queriesotherNOERROR": 3, "dns64_queriesotherREFUSED": 1,
		"dns64_synthesized": 15, "dns64_cache_misses": 4, "dns64_cache_hits": 16,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if st := f.Config().Upstreams.State()[0]; st.Asked != 4 || st.Failed != 0 {
		t.Errorf("%d questions were asked and %d failed, want 4 and 0", st.Asked, st.Failed)
	}
}

// What cannot be answered is refused, with OPT to who sent one (RFC 6891 section 6.1.1); what merely means nothing to us does
// not matter.
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
