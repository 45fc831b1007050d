package dns64

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/miekg/dns"
)

// A connection to an upstream is reused, replaced if the upstream closed it, and closed after a long idle time.
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

// A connection in use when its upstream is closed is closed after the answer.
func TestConnectionsOfClosedUpstreamsAreNotKept(t *testing.T) {
	t.Parallel()
	asked, closed := make(chan struct{}), make(chan struct{})
	answer := zone(t, a7)
	up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		close(asked)
		<-closed
		return answer(w, q)
	})
	us := NewUpstreams([]Upstream{up.tcp}, false, nil)
	done := make(chan error)
	go func() {
		_, err := us.Ask(t.Context(), in("h.example.com.", dns.TypeA))
		done <- err
	}()
	<-asked
	us.Close()
	close(closed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(us.list[0].idle); n != 0 {
		t.Errorf("%d connections are kept", n)
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

// turned swaps upper and lower case.
func turned(name string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) {
			c ^= 0x20
		}
		return c
	}, name)
}

// Forged and malformed answers of upstreams.
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
		"wrong letters":  lie(func(m *dns.Msg) { m.Question[0].Name = turned(m.Question[0].Name) }),
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

// startWithoutTCP runs an upstream on a UDP port. The same TCP port is closed, or open and silent.
func startWithoutTCP(t *testing.T, silent bool, answer func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg) (u Upstream, asked *atomic.Int64) {
	t.Helper()
	packets, stream := bothPorts(t)
	if silent {
		t.Cleanup(func() { stream.Close() })
	} else {
		stream.Close()
	}
	asked = new(atomic.Int64)
	s := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		_ = w.WriteMsg(answer(w, q))
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return Upstream{Transport: UDP, Addr: packets.LocalAddr().(*net.UDPAddr).AddrPort()}, asked
}

// An upstream that neither preserves case nor supports TCP gets lower case after the first try.
func TestUpstreamWithoutLettersAndTCP(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		answer := zone(t, a7)
		u, asked := startWithoutTCP(t, silent, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			q.Question[0].Name = dns.CanonicalName(q.Question[0].Name)
			return answer(w, q)
		})
		_, server := serve(t, testConfig(t, u))
		if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 || asked.Load() > 4 {
			t.Errorf("TCP silent %v: got %s after %d questions", silent, got, asked.Load())
		}
		before := asked.Load()
		if m := exchange(t, "udp", server, nil, "no.example.com.", dns.TypeA); m.Rcode != dns.RcodeNameError || asked.Load() != before+1 {
			t.Errorf("TCP silent %v: got %v after %d questions, want one", silent, m, asked.Load()-before)
		}
	}
}

// An upstream that refuses OPT gets queries without it after the first try, unless it refuses those as well.
func TestUpstreamWithoutEDNS(t *testing.T) {
	t.Parallel()
	truth := zone(t, a7)
	refusing := func(header, all bool) func(dns.ResponseWriter, *dns.Msg) *dns.Msg {
		return func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			switch {
			case !all && q.IsEdns0() == nil:
				return truth(w, q)
			case header:
				return &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: dns.RcodeFormatError}}
			}
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
	}
	for _, header := range []bool{false, true} {
		up := startFake(t, refusing(header, false))
		silent, _ := startWithoutTCP(t, true, refusing(header, false))
		closed, _ := startWithoutTCP(t, false, refusing(header, false))
		for _, u := range []Upstream{up.udp, up.tcp, silent, closed} {
			c := testConfig(t, u)
			_, server := serve(t, c)
			if got := brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
				t.Errorf("%v, header alone %v: got %s", u, header, got)
			}
			before := up.asked.Load()
			m := exchange(t, "udp", server, nil, "no.example.com.", dns.TypeA)
			if n := up.asked.Load() - before; m.Rcode != dns.RcodeNameError || n > 1 || c.Upstreams.State()[0].Failed != 0 {
				t.Errorf("%v, header alone %v: got %v after %d questions", u, header, m, n)
			}
		}
		c := testConfig(t, startFake(t, refusing(header, true)).udp)
		_, server := serve(t, c)
		if m := exchange(t, "udp", server, nil, "h.example.com.", dns.TypeA); m.Rcode != dns.RcodeFormatError || c.Upstreams.list[0].plain.Load() {
			t.Errorf("header alone %v: got %v, asked without OPT from then on %v", header, m, c.Upstreams.list[0].plain.Load())
		}
	}
}

// A server that cannot parse a question may answer with the header alone. This is accepted over TCP, where it cannot be forged
// off-path.
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
			if took := time.Since(began); got != "5 AAAA 2001:db8:64::c633:6407" || took > patience/2 || c.Upstreams.State()[0].Failed != 0 {
				t.Errorf("%s over %s: got %s after %v, %d failures", dns.RcodeToString[rcode], u.Transport, got, took, c.Upstreams.State()[0].Failed)
			}
		}
	}
}

// An answer from another address is ignored even if all else is correct.
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

// A client gets an answer in bounded time, whichever upstreams fail.
func TestUpstreamsThatFail(t *testing.T) {
	t.Parallel()
	good := zone(t, a7)
	// The port of a socket that is connected to another address is closed to all others, and no process can take it.
	closed, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed.Close() })
	nobody := Upstream{Transport: UDP, Addr: closed.LocalAddr().(*net.UDPAddr).AddrPort()}
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
		{"silent and good at once", []Upstream{startFake(t, silentUpstream).udp, startFake(t, good).udp}, true, made7, time.Second},
		{"AAAA silent", []Upstream{startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeAAAA {
				return nil
			}
			return good(w, q)
		}).udp}, false, "5 AAAA 2001:db8:64::c633:6407", patience + time.Second},
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

// After an error of one upstream the next one is tried.
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

// An answer counts in the bucket of its duration and in all larger ones, a query without an answer in none.
func TestLatencyOfUpstreams(t *testing.T) {
	t.Parallel()
	us := NewUpstreams([]Upstream{{Transport: UDP, Addr: netip.MustParseAddrPort("127.0.0.1:1")}}, false, nil)
	for _, took := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 30 * time.Millisecond, 4 * time.Second, time.Minute} {
		us.list[0].answered(took)
	}
	us.Check(t.Context(), true) // no server listens
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

// An upstream that is down is tried last until it answers again.
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
