package dns64

import (
	"context"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestReverse(t *testing.T) {
	t.Parallel()
	const records = `7.100.51.198.in-addr.arpa. 800 PTR h.example.com.,
		8.100.51.198.in-addr.arpa. 800 CNAME 8.0-31.100.51.198.in-addr.arpa., 8.0-31.100.51.198.in-addr.arpa. 700 PTR i.example.com.,
		9.100.51.198.in-addr.arpa. 800 TXT nothing`
	records1 := strings.Join(strings.Fields(records), " ")
	for name, want := range map[string]string{
		reversed(t, "2001:db8:64::c633:6407"):           "CNAME 7.100.51.198.in-addr.arpa.|PTR h.example.com.",
		reversed(t, "64:ff9b::c633:6407"):               "CNAME 7.100.51.198.in-addr.arpa.|PTR h.example.com.", // always, RFC 6147 section 5.3.1
		reversed(t, "2001:db8:64::c633:6409"):           "NOERROR",
		reversed(t, "2001:db8:64::c633:640a"):           "NXDOMAIN",
		reversed(t, "2001:db8:65::c633:6407"):           "NXDOMAIN",
		"4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa.":             "NOERROR",  // part of an address
		"x" + reversed(t, "2001:db8:64::c633:6407")[1:]: "NXDOMAIN", // no address
	} {
		var asked []string
		m := testPolicy(t).Resolve(t.Context(), in(name, dns.TypePTR), 0, script(t, records1, &asked)).Msg
		var got []string
		for _, rr := range m.Answer {
			f := strings.Fields(rr.String())
			got = append(got, strings.Join(f[3:], " "))
		}
		if len(got) == 0 {
			got = []string{dns.RcodeToString[m.Rcode]}
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%s: got %s, want %s", name, s, want)
		}
	}
}

// The synthesized CNAME skips a CNAME of in-addr.arpa and leads to the record.
func TestReverseOfDelegatedNames(t *testing.T) {
	t.Parallel()
	ask := func(_ context.Context, q Question) (*dns.Msg, error) {
		m := reply(q, dns.RcodeSuccess)
		m.Answer = records(t, "8.100.51.198.in-addr.arpa. 800 CNAME 8.0-31.100.51.198.in-addr.arpa., 8.0-31.100.51.198.in-addr.arpa. 700 PTR i.example.com.")
		return m, nil
	}
	m := testPolicy(t).Resolve(t.Context(), in(reversed(t, "2001:db8:64::c633:6408"), dns.TypePTR), 0, ask).Msg
	if len(m.Answer) != 2 || m.Answer[0].(*dns.CNAME).Target != "8.0-31.100.51.198.in-addr.arpa." || m.Answer[1].(*dns.PTR).Ptr != "i.example.com." {
		t.Errorf("got %v", m)
	}
}

// partial returns the name of the first nibbles of an address.
func partial(t testing.TB, a string, nibbles int) string {
	t.Helper()
	return reversed(t, a)[2*(32-nibbles):]
}

// The names between a prefix and its addresses exist, and so do those above: resolvers apply the NXDOMAIN of a name to all names
// below it (RFC 8020).
func TestPartialReverseNamesExist(t *testing.T) {
	t.Parallel()
	nothing := zone(t, "")
	ask := func(_ context.Context, q Question) (*dns.Msg, error) {
		return nothing(nil, new(dns.Msg).SetQuestion(q.Name, q.Type)), nil
	}
	lengths := map[string]int{
		"2001:db8::/32": 32, "2001:db8:100::/40": 40, "2001:db8:122::/48": 48, "2001:db8:122:300::/56": 56, "2001:db8:122:344::/64": 64,
		"2001:db8:122:344::/96": 96, "64:ff9b::/96": 96,
	}
	for prefix, bits := range lengths {
		p := testPolicy(t, prefix)
		a := p.address(&p.Prefixes[0].Prefix, [4]byte{198, 51, 100, 7}).String()
		for nibbles := 1; nibbles <= 32; nibbles++ {
			for _, kind := range []uint16{dns.TypePTR, dns.TypeNS, dns.TypeA, dns.TypeAAAA, dns.TypeSOA, dns.TypeANY} {
				if nibbles == 32 && kind == dns.TypePTR { // that of an address, which may have no name
					continue
				}
				q := in(partial(t, a, nibbles), kind)
				q.DO = true
				m := p.Resolve(t.Context(), q, 0, ask).Msg
				if got := brief(m); got != "; SOA" || len(m.Ns) != 1 || m.Question[0].Name != q.Name {
					t.Errorf("%s: %d nibbles, %s: got %v", prefix, nibbles, dns.Type(kind), m)
				}
			}
		}
		beside := strings.Replace(partial(t, a, bits/4), a[:1], "f", 1)
		beside = "f" + beside[1:]
		if m := p.Resolve(t.Context(), in("1."+beside, dns.TypePTR), 0, ask).Msg; m.Rcode != dns.RcodeNameError {
			t.Errorf("%s: %s, which is outside: got %v", prefix, "1."+beside, m)
		}
	}
	for _, name := range []string{"0.0.b.9.f.f.4.6.0.x.ip6.arpa.", "00.b.9.f.f.4.6.0.0.ip6.arpa.", "b9.f.f.4.6.0.0.ip6.arpa.", "b.9.f.f.4.6.0.0.ip6.arpa.example.com.", ".ip6.arpa."} {
		if testPolicy(t).inhabited(in(name, dns.TypePTR)) {
			t.Errorf("%s is treated as the name of a prefix", name)
		}
	}
}

// Records of an upstream at a partial name are passed on, and its failure does not prove that the name exists.
func TestPartialReverseNamesOfUpstreams(t *testing.T) {
	t.Parallel()
	name := partial(t, "2001:db8:64::c633:6407", 28)
	for text, want := range map[string]string{"PTR": "PTR", "SERVFAIL": "SERVFAIL", "REFUSED": "REFUSED"} {
		ask := func(_ context.Context, q Question) (*dns.Msg, error) {
			if rcode, is := dns.StringToRcode[text]; is {
				return reply(q, rcode), nil
			}
			m := reply(q, dns.RcodeSuccess)
			m.Answer = records(t, name+" 60 PTR a.example.com.")
			return m, nil
		}
		m := testPolicy(t).Resolve(t.Context(), in(name, dns.TypePTR), 0, ask).Msg
		got := dns.RcodeToString[m.Rcode]
		if len(m.Answer) > 0 {
			got = dns.TypeToString[m.Answer[0].Header().Rrtype]
		}
		if got != want {
			t.Errorf("%s: got %v", text, m)
		}
	}
}

func FuzzParseReverse(f *testing.F) {
	f.Add("7.0.4.6.3.3.6.c.0.0.0.0.0.0.0.0.0.0.0.0.4.6.0.0.8.b.d.0.1.0.0.2.ip6.arpa.")
	f.Add("b.9.f.f.4.6.0.0.ip6.arpa.")
	f.Add(".ip6.arpa.")
	f.Fuzz(func(t *testing.T, name string) {
		a, nibbles := parseReverse(name)
		if nibbles < 0 || nibbles > 32 {
			t.Fatalf("%q: %d nibbles", name, nibbles)
		}
		for i := nibbles; i < 32; i++ {
			if a[i/2]>>(4*(1-i%2))&15 != 0 {
				t.Fatalf("%q: %x has more than %d nibbles", name, a, nibbles)
			}
		}
	})
}
