package dns64

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// script is an upstream that answers from a zone and records the questions.
func script(t testing.TB, text string, asked *[]string) Ask {
	answer := zone(t, text)
	return func(_ context.Context, q Question) (*dns.Msg, error) {
		*asked = append(*asked, q.Name+" "+dns.Type(q.Type).String())
		if strings.HasPrefix(q.Name, "fail.") {
			return nil, errors.New("no answer")
		}
		return answer(nil, new(dns.Msg).SetQuestion(q.Name, q.Type)), nil
	}
}

func in(name string, kind uint16) Question {
	return Question{Name: name, Type: kind, Class: dns.ClassINET, RD: true}
}

func reversed(t testing.TB, a string) string {
	t.Helper()
	name, err := dns.ReverseAddr(a)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// No question about ipv4only.arpa reaches upstreams, except those about DS, with which the parent denies that the zone is signed.
func TestIPv4Only(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, testPrefix, "64:ff9b::/96")
	p.Mapped = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, name := range []string{ipv4only, "x." + ipv4only, "a.b." + ipv4only} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeANY, dns.TypeTXT, dns.TypePTR, dns.TypeDS} {
			var asked []string
			q := in(name, kind)
			q.DO = true
			a := p.Resolve(t.Context(), q, 0, script(t, "", &asked))
			if a.Local == (kind == dns.TypeDS) || (len(asked) > 0) != (kind == dns.TypeDS) || a.AuthenticatedData || signed(a.Msg, kind) {
				t.Errorf("%s %s: %v was asked, answer %v", name, dns.Type(kind), asked, a.Msg)
			}
			want := map[uint16]int{dns.TypeA: 2, dns.TypeAAAA: 4}[kind]
			if name == ipv4only && len(a.Answer) != want {
				t.Errorf("%s: got %v", dns.Type(kind), a.Answer)
			}
		}
	}
}

// Records of other types are unchanged, including the address hints of HTTPS.
func TestOtherTypesAreUntouched(t *testing.T) {
	t.Parallel()
	const records = `h.example.com. 60 HTTPS 1 . ipv4hint="198.51.100.7", h.example.com. 60 A 198.51.100.7`
	for kind, want := range map[uint16]string{dns.TypeHTTPS: `60 HTTPS 1 . ipv4hint="198.51.100.7"`, dns.TypeA: "60 A 198.51.100.7", dns.TypeANY: "; SOA"} {
		var asked []string
		a := testPolicy(t).Resolve(t.Context(), in("h.example.com.", kind), 0, script(t, records, &asked))
		if got := brief(a.Msg); got != want || a.Made || len(asked) != 1 {
			t.Errorf("%s: got %s after %v", dns.Type(kind), got, asked)
		}
	}
}

// Chains of CNAMEs are limited to maxChain.
func TestLengthOfChains(t *testing.T) {
	t.Parallel()
	for length, want := range map[int]int{maxChain: dns.RcodeSuccess, maxChain + 1: dns.RcodeServerFailure} {
		m := reply(in("0.example.com.", dns.TypeA), dns.RcodeSuccess)
		for i := range length {
			m.Answer = append(m.Answer, records(t, fmt.Sprintf("%d.example.com. 5 CNAME %d.example.com.", i, i+1))...)
		}
		m.Answer = append(m.Answer, records(t, fmt.Sprintf("%d.example.com. 5 A 198.51.100.7", length))...)
		got, _ := testPolicy(t).Synthesize(in("0.example.com.", dns.TypeAAAA), reply(in("0.example.com.", dns.TypeAAAA), dns.RcodeSuccess), m, 0)
		if got.Rcode != want || want == dns.RcodeSuccess && len(got.Answer) != length+1 {
			t.Errorf("%d CNAMEs: got %v", length, got)
		}
	}
}

// A query for A is sent only if needed, and then for the end of the chain.
func TestQueriesToUpstreams(t *testing.T) {
	t.Parallel()
	const records = "w.example.com. 60 CNAME h.example.com., h.example.com. 60 A 198.51.100.7, real.example.com. 60 AAAA 2001:db8::1"
	for name, want := range map[string][]string{
		"real.example.com.": {"real.example.com. AAAA"},
		"no.example.com.":   {"no.example.com. AAAA"},
		"h.example.com.":    {"h.example.com. AAAA", "h.example.com. A"},
		"fail.example.com.": {"fail.example.com. AAAA", "fail.example.com. A"},
	} {
		var asked []string
		testPolicy(t).Resolve(t.Context(), in(name, dns.TypeAAAA), 0, script(t, records, &asked))
		if !slices.Equal(asked, want) {
			t.Errorf("%s: %v was asked, want %v", name, asked, want)
		}
	}
}

// The DNAME of a chain precedes its CNAME, regardless of its position in the answer, and replaces a missing CNAME.
func TestDNAMEs(t *testing.T) {
	t.Parallel()
	const (
		dname = "old.example.com. 60 DNAME new.example.com."
		cname = "h.old.example.com. 60 CNAME h.new.example.com."
		end   = "h.new.example.com. 60 A 198.51.100.7"
	)
	for _, answer := range []string{dname + "," + cname + "," + end, cname + "," + dname + "," + end, dname + "," + end, end + "," + dname} {
		a := message(t, dns.TypeA, answer)
		a.Question[0].Name = "h.old.example.com."
		m, _ := testPolicy(t).Synthesize(in("h.old.example.com.", dns.TypeAAAA), nil, a, 0)
		var got []string
		for _, rr := range m.Answer {
			got = append(got, dns.TypeToString[rr.Header().Rrtype]+" "+rr.Header().Name)
		}
		if want := []string{"DNAME old.example.com.", "CNAME h.old.example.com.", "AAAA h.new.example.com."}; !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", answer, got, want)
		}
	}
	for owner, want := range map[string][2]string{"example.com.": {".", "h.old."}, ".": {"net.", "h.old.example.com.net."}} {
		m := message(t, dns.TypeA, owner+" 60 DNAME "+want[0])
		if _, c := link(m, "h.old.example.com."); c == nil || c.Target != want[1] {
			t.Errorf("DNAME from %s to %s: got %v, want %s", owner, want[0], c, want[1])
		}
	}
	long := strings.Repeat(strings.Repeat("x", 62)+".", 3)
	if end, _, ok := follow(message(t, dns.TypeA, "example.com. 60 DNAME "+long+"net."), long+"example.com."); end != long+"example.com." || !ok {
		t.Errorf("a name that is too long: got %s", end)
	}
}

// With validating upstreams, a bogus answer about AAAA does not lead to synthesis; a missing one does.
func TestBogusDenials(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		validated bool
		unchecked int // what they say of AAAA with CD
		cd        bool
		want      string
	}{
		{"bogus", true, dns.RcodeSuccess, false, "SERVFAIL"},
		{"bogus that there is no such name", true, dns.RcodeNameError, false, "SERVFAIL"},
		{"a server that fails", true, dns.RcodeServerFailure, false, "600 AAAA 2001:db8:64::c633:6407"},
		{"upstreams that do not validate", false, dns.RcodeSuccess, false, "600 AAAA 2001:db8:64::c633:6407"},
		{"a client that does not want it checked", true, dns.RcodeServerFailure, true, "600 AAAA 2001:db8:64::c633:6407"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := testPolicy(t)
			p.Validated = row.validated
			q := in("h.example.com.", dns.TypeAAAA)
			q.CD = row.cd
			m := p.Resolve(t.Context(), q, 0, func(_ context.Context, q Question) (*dns.Msg, error) {
				switch {
				case q.Type == dns.TypeA:
					return message(t, dns.TypeA, a7), nil
				case q.CD:
					return reply(q, row.unchecked), nil
				}
				return failure(q), nil
			}).Msg
			if got := brief(m); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

// AD is passed on only if upstreams are trusted, and never with synthesized records for clients that do not validate.
func TestAD(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		validated, do bool
		name          string
		kind          uint16
		want          bool
	}{
		{false, true, "real.example.com.", dns.TypeAAAA, false},
		{false, true, "real.example.com.", dns.TypeTXT, false},
		{false, true, "h.example.com.", dns.TypeAAAA, false},
		{true, true, "real.example.com.", dns.TypeAAAA, true},
		{true, true, "real.example.com.", dns.TypeTXT, true},
		{true, true, "h.example.com.", dns.TypeAAAA, true},
		{true, false, "h.example.com.", dns.TypeAAAA, false},
	} {
		answer := zone(t, "real.example.com. 60 AAAA 2001:db8::1, real.example.com. 60 TXT x,"+a7)
		p := testPolicy(t)
		p.Validated = row.validated
		q := in(row.name, row.kind)
		q.DO = row.do
		a := p.Resolve(t.Context(), q, 0, func(_ context.Context, q Question) (*dns.Msg, error) {
			m := answer(nil, new(dns.Msg).SetQuestion(q.Name, q.Type))
			m.AuthenticatedData = true
			return m, nil
		})
		if a.AuthenticatedData != row.want || len(a.Answer) != 1 {
			t.Errorf("%+v: got %v", row, a.Msg)
		}
	}
}

// An upstream may leave the query at the end of a chain to the forwarder. Real addresses there count as usual.
func TestChainsThatDangle(t *testing.T) {
	t.Parallel()
	const chain = "c.example.com. 60 CNAME d.example.com., d.example.com. 60 CNAME h.example.com."
	for _, row := range []struct{ name, zone, want string }{
		{"AAAA and A", chain + "," + real1 + "," + a7, "d.example.com. CNAME h.example.com., h.example.com. AAAA 2001:db8:f::1"},
		{"A alone", chain + "," + a7, "d.example.com. CNAME h.example.com., h.example.com. AAAA 2001:db8:64::c633:6407"},
		{"neither", chain + ", h.example.com. 60 TXT x", "d.example.com. CNAME h.example.com."},
		{"no such name", chain, "NXDOMAIN"},
		{"a loop", "c.example.com. 60 CNAME d.example.com., d.example.com. 60 CNAME c.example.com.", "SERVFAIL"},
		{"an end that fails", "c.example.com. 60 CNAME d.example.com., d.example.com. 60 CNAME fail.example.com.", "SERVFAIL"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ends, links := zone(t, row.zone), records(t, row.zone)
			var asked atomic.Int64
			a := testPolicy(t).Resolve(t.Context(), in("c.example.com.", dns.TypeAAAA), 0, func(ctx context.Context, q Question) (*dns.Msg, error) {
				if asked.Add(1); strings.HasPrefix(q.Name, "fail.") {
					return nil, errors.New("no answer")
				}
				for _, rr := range links { // one link at a time, and nothing of what it leads to
					if c, is := rr.(*dns.CNAME); is && c.Hdr.Name == q.Name {
						m := reply(q, dns.RcodeSuccess)
						m.Answer = []dns.RR{dns.Copy(c)}
						return m, nil
					}
				}
				return ends(nil, new(dns.Msg).SetQuestion(q.Name, q.Type)), nil
			})
			got := dns.RcodeToString[a.Rcode]
			if a.Rcode == dns.RcodeSuccess {
				var l []string
				for _, rr := range a.Answer[1:] {
					f := strings.Fields(rr.String())
					l = append(l, f[0]+" "+strings.Join(f[3:], " "))
				}
				got = strings.Join(l, ", ")
			}
			if got != row.want || asked.Load() > 2*maxChain {
				t.Errorf("got %s after %d questions, want %s", got, asked.Load(), row.want)
			}
		})
	}
}

// The wait for AAAA is longer for slow upstreams, and an answer without AAAA is refreshed soon.
func TestPatience(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		a, aaaa time.Duration
		want    string
		within  time.Duration
	}{
		{"both at once", 0, 0, "77 AAAA 2001:db8:f::1", 0},
		{"AAAA in time", 0, patience - 10*time.Millisecond, "77 AAAA 2001:db8:f::1", patience},
		{"AAAA too late", 0, patience + 10*time.Millisecond, "600 AAAA 2001:db8:64::c633:6407", patience},
		{"A just before patience ends", patience - 10*time.Millisecond, patience + 100*time.Millisecond, "77 AAAA 2001:db8:f::1", patience + 100*time.Millisecond},
		{"A takes longer than patience", 1600 * time.Millisecond, 1630 * time.Millisecond, "77 AAAA 2001:db8:f::1", 1630 * time.Millisecond},
		{"A takes long, AAAA for ever", 1600 * time.Millisecond, time.Hour, "600 AAAA 2001:db8:64::c633:6407", 3300 * time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answer := zone(t, a7+","+real1)
				ctx, cancel := context.WithTimeout(t.Context(), resolveTimeout)
				defer cancel()
				began := time.Now()
				a := testPolicy(t).Resolve(ctx, in("h.example.com.", dns.TypeAAAA), 0, func(ctx context.Context, q Question) (*dns.Msg, error) {
					takes := map[uint16]time.Duration{dns.TypeA: row.a, dns.TypeAAAA: row.aaaa}[q.Type]
					select {
					case <-time.After(takes):
						return answer(nil, new(dns.Msg).SetQuestion(q.Name, q.Type)), nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})
				if took := time.Since(began); brief(a.Msg) != row.want || a.Provisional != a.Made || took > row.within {
					t.Errorf("got %s after %v, provisional %v; want %s within %v", brief(a.Msg), took, a.Provisional, row.want, row.within)
				}
			})
		})
	}
}

// An answer about A without usable addresses does not end the wait for AAAA.
func TestPatienceWithoutA(t *testing.T) {
	t.Parallel()
	const late = 2 * time.Second
	servfail := func(p *Policy) { p.ServfailOnError = true }
	for _, row := range []struct {
		name, a, aaaa string
		set           func(*Policy)
		want          string
		provisional   bool
	}{
		{"no A", nodata, real1, nil, "77 AAAA 2001:db8:f::1", false},
		{"no A, and an error", nodata, "SERVFAIL", nil, "; SOA", true},
		{"loopback", "h.example.com. 5 A 127.0.0.1", real1, nil, "77 AAAA 2001:db8:f::1", false},
		{"A fails", "SERVFAIL", real1, nil, "77 AAAA 2001:db8:f::1", false},
		{"A fails, and AAAA", "SERVFAIL", "REFUSED", nil, "SERVFAIL", true},
		{"A is signed", a7 + "," + signature("A"), real1, nil, "77 AAAA 2001:db8:f::1", false},
		{"A is signed, and an error", a7 + "," + signature("A"), "SERVFAIL", nil, "SERVFAIL", true},
		{"errors count, but there is none", a7, real1, servfail, "77 AAAA 2001:db8:f::1", false},
		{"errors count, and there is none of its own", a7, nodata, servfail, made7, false},
		{"errors count", a7, "SERVFAIL", servfail, "SERVFAIL", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), resolveTimeout)
				defer cancel()
				p := testPolicy(t)
				if row.set != nil {
					row.set(p)
				}
				q := in("h.example.com.", dns.TypeAAAA)
				q.DO = true
				a := p.Resolve(ctx, q, 0, func(ctx context.Context, q Question) (*dns.Msg, error) {
					if q.Type == dns.TypeA {
						return message(t, dns.TypeA, row.a), nil
					}
					time.Sleep(late)
					return message(t, dns.TypeAAAA, row.aaaa), nil
				})
				if got := brief(a.Msg); got != row.want || a.Provisional != row.provisional {
					t.Errorf("got %s, provisional %v; want %s, %v", got, a.Provisional, row.want, row.provisional)
				}
			})
		})
	}
}

// A negative answer that was given before the answer about AAAA has a short TTL, and does not replace a cached answer.
func TestProvisionalDenialsAreNotKept(t *testing.T) {
	t.Parallel()
	f := New(testConfig(t, startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Ns = records(t, nodata[1:])
		if q.Question[0].Qtype == dns.TypeAAAA {
			m.SetRcode(q, dns.RcodeServerFailure)
		}
		return m
	}).udp), nil)
	s, q := f.state.Load(), in("h.example.com.", dns.TypeAAAA)
	known := remember(t, f, s.made, q, "h.example.com. 1000 AAAA 2001:db8::9", 0)
	for _, again := range []bool{true, false} {
		e, err := f.resolve(t.Context(), s, q, 0, again)
		if err != nil {
			t.Fatal(err)
		}
		m, err := e.message(time.Now())
		if kept := time.Duration(e.expires - e.stored); err != nil || kept != provisionalFor || brief(m) != "; SOA" || m.Ns[0].Header().Ttl > uint32(provisionalFor/time.Second) {
			t.Errorf("it is kept for %v: %v, %v", kept, m, err)
		}
		if has := s.made.entries()[0]; (has == known) != again {
			t.Errorf("asked ahead of time %v: what is remembered is replaced %v", again, has != known)
		}
	}
}

// A late answer about AAAA counts at once, because provisional answers have a short TTL.
func TestProvisionalAnswersAreNotKept(t *testing.T) {
	t.Parallel()
	for rcode, short := range map[int]bool{dns.RcodeSuccess: false, dns.RcodeServerFailure: true, dns.RcodeRefused: true} {
		answer := zone(t, "h.example.com. 1000 A 198.51.100.7")
		f := New(testConfig(t, startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
			m := answer(w, q)
			if q.Question[0].Qtype == dns.TypeAAAA {
				m.Rcode = rcode
			}
			return m
		}).udp), nil)
		m, _, err := f.Query(t.Context(), netip.IPv6Unspecified(), "h.example.com.", dns.TypeAAAA)
		if err != nil || len(m.Answer) != 1 || (m.Answer[0].Header().Ttl <= uint32(provisionalFor/time.Second)) != short {
			t.Fatalf("%s: got %v, %v", dns.RcodeToString[rcode], m, err)
		}
		for _, e := range f.state.Load().made.entries() {
			if kept := time.Duration(e.expires - e.stored); (kept == provisionalFor) != short {
				t.Errorf("%s: it is kept for %v", dns.RcodeToString[rcode], kept)
			}
		}
	}
}
