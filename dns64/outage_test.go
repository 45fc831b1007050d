package dns64

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// lines is a log that tests read while the server writes it.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// awaitTrue polls until a condition holds.
func awaitTrue(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// hangUp is an upstream that closes connections instead of sending some answers.
func hangUp(t *testing.T, when func(q *dns.Msg) bool) *fake {
	answer := zone(t, a7)
	return startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		if when(q) {
			_ = w.Close()
			return nil
		}
		return answer(w, q)
	})
}

// The start and the end of an outage are logged once each, even if a client's query finds it first. The state has the start and
// the reason.
func TestOutagesOfUpstreamsAreLogged(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	up := hangUp(t, func(*dns.Msg) bool { return dead.Load() })
	var log lines
	c := testConfig(t, up.tcp)
	f := New(c, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error)
	go func() { watched <- f.Watch(ctx) }()
	awaitTrue(t, "it is checked at the start", func() bool { return up.asked.Load() > 0 })
	dead.Store(true)
	for _, name := range []string{"a.example.com.", "b.example.com.", "c.example.com."} {
		_, _ = c.Upstreams.Ask(t.Context(), in(name, dns.TypeA)) // it fails
	}
	awaitTrue(t, "the outage is logged", func() bool { return strings.Contains(log.String(), "does not answer") })
	if st := c.Upstreams.State()[0]; st.Up || time.Since(st.Since) > time.Minute || st.Error != "EOF" {
		t.Errorf("got %+v", st)
	}
	dead.Store(false)
	awaitTrue(t, "its end is logged", func() bool { return strings.Contains(log.String(), "answers again") })
	cancel()
	if err := <-watched; err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "upstream="+up.tcp.String()+" reason=EOF others=0") {
		t.Errorf("got %s", got)
	}
}

// Questions for names whose servers do not answer are not an outage of the upstream, which would then be tried last.
func TestUnansweredNamesAreNoOutage(t *testing.T) {
	t.Parallel()
	up := hangUp(t, func(q *dns.Msg) bool { return q.Question[0].Name != "." })
	us := NewUpstreams([]Upstream{up.tcp}, false, nil)
	for range 2 * failuresDown {
		_, _ = us.Ask(t.Context(), in("x.example.com.", dns.TypeA)) // it fails
	}
	us.Check(t.Context(), false)
	if st := us.State()[0]; !st.Up || st.Failed != 2*failuresDown || st.Error != "" {
		t.Errorf("got %+v", st)
	}
}

// Query returns the answer or the failure of each upstream.
func TestQueryReturnsAttempts(t *testing.T) {
	t.Parallel()
	down := hangUp(t, func(*dns.Msg) bool { return true })
	failing := startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) })
	silent := startFake(t, silentUpstream)
	c := testConfig(t, down.tcp, failing.udp, silent.udp, startFake(t, zone(t, a7)).udp)
	f := New(c, nil)
	m, attempts, err := f.Query(t.Context(), netip.Addr{}, "h.example.com", dns.TypeA)
	if err != nil || len(m.Answer) != 1 || len(attempts) != 4 {
		t.Fatalf("got %v, %+v, %v", m, attempts, err)
	}
	for i, want := range []string{"EOF", "REFUSED", "no answer within 1.2s", "NOERROR"} {
		if a := attempts[i]; a.Outcome != want || a.Failed != (i < 3) || a.Upstream != c.Upstreams.list[i].String() || a.Name != "h.example.com." || a.Type != "A" {
			t.Errorf("got %+v, want %s", a, want)
		}
	}
	if _, attempts, _ = f.Query(t.Context(), netip.Addr{}, "h.example.com", dns.TypeA); len(attempts) != 0 {
		t.Errorf("what is remembered was asked for: %+v", attempts)
	}
}

// The wait for an unanswered AAAA occurs once per name, or once in total if upstreams never answer AAAA. A later answer counts
// again.
func TestUnansweredAAAACostsOnce(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		var mended atomic.Bool
		truth := zone(t, a7+", i.example.com. 60 A 198.51.100.8, slow.example.com. 60 AAAA 2001:db8:f::2, slow.example.com. 60 A 198.51.100.9, h.example.com. 60 AAAA 2001:db8:f::1")
		up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			if q.Question[0].Qtype != dns.TypeAAAA || mended.Load() {
				return truth(w, q)
			}
			switch name := dns.CanonicalName(q.Question[0].Name); {
			case all, name == "h.example.com.":
				return nil
			case name == "slow.example.com.":
				<-time.After(3 * briefly)
			}
			return truth(w, q)
		})
		t.Run(map[bool]string{true: "by the upstream", false: "about a name"}[all], func(t *testing.T) {
			t.Parallel()
			c := testConfig(t, up.udp)
			f, server := serve(t, c)
			ask := func(name, want string, within time.Duration) {
				t.Helper()
				began := time.Now()
				got := brief(exchange(t, "udp", server, nil, name, dns.TypeAAAA))
				if took := time.Since(began); !strings.Contains(got, want) || took > within {
					t.Errorf("%s: got %s after %v, want %s within %v", name, got, took, want, within)
				}
			}
			ask("h.example.com.", "2001:db8:64::c633:6407", patience+patience/2)
			f.Flush()
			ask("h.example.com.", "2001:db8:64::c633:6407", patience/2)
			if all {
				ask("i.example.com.", "2001:db8:64::c633:6408", patience/2)
			} else {
				awaitTrue(t, "the upstream has been found to answer others", func() bool { return !c.Upstreams.rest.silence.all.Load() })
				ask("slow.example.com.", "2001:db8:f::2", patience)
			}
			mended.Store(true)
			awaitTrue(t, "an answer counts as soon as it is there", func() bool {
				f.Flush()
				return strings.Contains(brief(exchange(t, "udp", server, nil, "h.example.com.", dns.TypeAAAA)), "2001:db8:f::1")
			})
		})
	}
}
