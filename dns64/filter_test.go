package dns64

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

const filtered = `h.example.com. 60 A 198.51.100.7
h.example.com. 60 A 198.51.100.8
w.example.com. 60 CNAME h.example.com.
l.example.com. 60 A 127.0.0.2
s.example.com. 60 HTTPS 1 . alpn="h2" ipv4hint="198.51.100.7" ipv6hint="2001:db8::1"
m.example.com. 60 SVCB 1 . mandatory="ipv4hint" ipv4hint="198.51.100.7"
n.example.com. 60 SVCB 1 . mandatory="alpn,ipv4hint" alpn="h2" ipv4hint="198.51.100.7"
x.example.net. 60 A 198.51.100.9
x.example.net. 60 HTTPS 1 . ipv4hint="198.51.100.9"
o.example.com. 60 CNAME x.example.net.
6.example.com. 60 A 198.51.100.7
6.example.com. 60 AAAA 2001:db8::6
z.example.com. 60 A 198.51.100.7
z.example.com. 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.com. c2lnbmF0dXJl
mx.example.com. 60 MX 10 h.example.com.`

// filteredAnswer answers from these records, with the chains of CNAMEs and with the addresses of an MX.
func filteredAnswer(t testing.TB) Ask {
	var rrs []dns.RR
	for line := range strings.SplitSeq(filtered, "\n") {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return func(_ context.Context, q Question) (*dns.Msg, error) {
		m, known := reply(q, dns.RcodeSuccess), q.Type == dns.TypeSOA
		for name := q.Name; name != ""; {
			next := ""
			for _, rr := range rrs {
				kind := rr.Header().Rrtype
				if same(rr.Header().Name, name) {
					known = true
					if kind == q.Type || q.Type == dns.TypeANY || kind == dns.TypeCNAME || q.DO && covers(rr, q.Type) {
						m.Answer = append(m.Answer, dns.Copy(rr))
					}
					if c, is := rr.(*dns.CNAME); is {
						next = c.Target
					}
				} else if q.Type == dns.TypeMX && kind == dns.TypeA {
					m.Extra = append(m.Extra, dns.Copy(rr))
				}
			}
			name = next
		}
		if len(m.Answer) == 0 {
			m.Ns = records(t, nodata[1:])
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		return m, nil
	}
}

// With EmptyA no answer leads a client to IPv4, except to loopback, in domains that are never synthesized, and for clients that
// would reject a changed answer.
func TestEmptyA(t *testing.T) {
	t.Parallel()
	checking := Question{DO: true, CD: true}
	for _, row := range []struct {
		name string
		kind uint16
		q    Question
		want string
	}{
		{"h.example.com.", dns.TypeA, Question{}, "; SOA"},
		{"w.example.com.", dns.TypeA, Question{}, "w.example.com. 60 CNAME h.example.com., ; SOA"},
		{"l.example.com.", dns.TypeA, Question{}, "l.example.com. 60 A 127.0.0.2"},
		{"no.example.com.", dns.TypeA, Question{}, "NXDOMAIN"},
		{"h.example.com.", dns.TypeA, checking, "60 A 198.51.100.7, 60 A 198.51.100.8"},
		{"h.example.com.", dns.TypeAAAA, Question{}, "60 AAAA 2001:db8:64::c633:6407, 60 AAAA 2001:db8:64::c633:6408"},
		{"6.example.com.", dns.TypeAAAA, Question{}, "6.example.com. 60 AAAA 2001:db8::6"},
		{"6.example.com.", dns.TypeA, Question{}, "; SOA"},
		{"x.example.net.", dns.TypeA, Question{}, "x.example.net. 60 A 198.51.100.9"},
		{"o.example.com.", dns.TypeA, Question{}, "o.example.com. 60 CNAME x.example.net., x.example.net. 60 A 198.51.100.9"},
		{"s.example.com.", dns.TypeHTTPS, Question{}, `s.example.com. 60 HTTPS 1 . alpn="h2" ipv6hint="2001:db8::1"`},
		{"s.example.com.", dns.TypeHTTPS, checking, `s.example.com. 60 HTTPS 1 . alpn="h2" ipv4hint="198.51.100.7" ipv6hint="2001:db8::1"`},
		{"m.example.com.", dns.TypeSVCB, Question{}, "m.example.com. 60 SVCB 1 ."},
		{"n.example.com.", dns.TypeSVCB, Question{}, `n.example.com. 60 SVCB 1 . mandatory="alpn" alpn="h2"`},
		{"x.example.net.", dns.TypeHTTPS, Question{}, `x.example.net. 60 HTTPS 1 . ipv4hint="198.51.100.9"`},
		{"6.example.com.", dns.TypeANY, Question{}, "6.example.com. 60 AAAA 2001:db8::6"},
		{"z.example.com.", dns.TypeA, Question{}, "; SOA"},
		{"z.example.com.", dns.TypeA, Question{DO: true}, "z.example.com. 60 A 198.51.100.7, z.example.com. 60 RRSIG A 13 3 60 20300101000000 20200101000000 1 example.com. c2lnbmF0dXJl"},
		{"mx.example.com.", dns.TypeMX, Question{}, "mx.example.com. 60 MX 10 h.example.com."},
		{ipv4only, dns.TypeA, Question{}, "ipv4only.arpa. 86400 A 192.0.0.170, ipv4only.arpa. 86400 A 192.0.0.171"},
	} {
		p := testPolicy(t)
		p.EmptyA, p.Never = true, []string{"example.net."}
		q := row.q
		q.Name, q.Type, q.Class, q.RD = row.name, row.kind, dns.ClassINET, true
		a := p.Resolve(t.Context(), q, 0, filteredAnswer(t))
		if got := brief(a.Msg); got != row.want {
			t.Errorf("%s %s: got %q, want %q", row.name, dns.Type(row.kind), got, row.want)
		}
		if n := slices.IndexFunc(a.Extra, p.leadsToIPv4); n >= 0 {
			t.Errorf("%s %s: additional %v", row.name, dns.Type(row.kind), a.Extra[n])
		}
	}
}

// For any answer the result can be packed and, unless a validating client gets it, leads to no IPv4 address.
func FuzzFilter(f *testing.F) {
	ask := filteredAnswer(f)
	for _, kind := range []uint16{dns.TypeA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY} {
		for _, name := range []string{"h.example.com.", "w.example.com.", "s.example.com.", "n.example.com.", "m.example.com.", "z.example.com."} {
			m, _ := ask(f.Context(), Question{Name: name, Type: kind, DO: true})
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, kind, true)
			f.Add(b, kind, false)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint16, do bool) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		p := testPolicy(t)
		p.EmptyA = true
		q := Question{Name: "h.example.com.", Type: kind, Class: dns.ClassINET, DO: do, RD: true}
		_, failed := m.Pack()
		proven := p.proves(q, m, kind)
		m = p.filter(t.Context(), q, m, ask)
		if _, err := m.Pack(); err != nil && failed == nil {
			t.Errorf("%v: %v", err, m)
		}
		for _, rr := range slices.Concat(m.Answer, m.Extra) {
			if !proven && (p.leadsToIPv4(rr) || p.removeHints(rr)) {
				t.Errorf("%v is left", rr)
			}
		}
	})
}
