package dns64

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The server itself answers every question below resolver.arpa, in any case and without records. An upstream's answer would
// direct clients past DNS64. Only the DS record of the zone comes from upstreams.
func TestDesignatedResolversAreNotForwarded(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, "_dns.resolver.arpa. 300 SVCB 1 dns.example. alpn=h2, resolver.arpa. 300 A 192.0.2.1"))
	_, server := serve(t, testConfig(t, up.udp))
	for _, name := range []string{"_dns.resolver.arpa.", "_DNS.Resolver.ARPA.", "x._dns.resolver.arpa.", "a.b._dns.resolver.arpa.", "resolver.arpa.", "other.resolver.arpa."} {
		for _, kind := range []uint16{dns.TypeSVCB, dns.TypeHTTPS, dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeNS, dns.TypeANY, dns.TypeDS, dns.TypePTR} {
			if dns.CanonicalName(name) == resolverArpa && kind == dns.TypeDS {
				continue
			}
			m := exchange(t, "udp", server, func(q *dns.Msg) { q.SetEdns0(1232, kind == dns.TypeSVCB) }, name, kind)
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA || m.Question[0].Name != name {
				t.Errorf("%s %s: got %v", name, dns.Type(kind), m)
			}
		}
	}
	if n := up.asked.Load(); n != 0 {
		t.Errorf("upstreams were asked %d times", n)
	}
	if exchange(t, "udp", server, nil, resolverArpa, dns.TypeDS); up.asked.Load() != 1 {
		t.Errorf("%d questions about DS", up.asked.Load())
	}
	if exchange(t, "udp", server, nil, "noresolver.arpa.", dns.TypeA); up.asked.Load() != 2 {
		t.Error("a name outside of the zone was answered locally")
	}
}

// The TTLs of synthesized records are within the limits.
func TestLimitsOfTTLsHoldForLocalAnswers(t *testing.T) {
	t.Parallel()
	c := testConfig(t, startFake(t, zone(t, "7.100.51.198.in-addr.arpa. 9000 PTR h.example.com., h.example.com. 9000 A 198.51.100.7")).udp)
	c.Cache.MaxTTL, c.Cache.MaxNegativeTTL = 100*time.Second, 50*time.Second
	_, server := serve(t, c)
	for _, row := range []struct {
		name string
		kind uint16
		want uint32
	}{
		{ipv4only, dns.TypeA, 100}, {ipv4only, dns.TypeAAAA, 100}, {reversed(t, "2001:db8:64::c000:aa"), dns.TypePTR, 100},
		{reversed(t, "2001:db8:64::c633:6407"), dns.TypePTR, 100}, {"h.example.com.", dns.TypeAAAA, 50}, {"_dns." + resolverArpa, dns.TypeSVCB, 50},
	} {
		m := exchange(t, "udp", server, nil, row.name, row.kind)
		for _, rr := range append(m.Answer, m.Ns...) {
			if got := rr.Header().Ttl; got != row.want {
				t.Errorf("%s %s: the TTL is %d, want %d: %v", row.name, dns.Type(row.kind), got, row.want, rr)
			}
		}
		if len(m.Answer)+len(m.Ns) == 0 {
			t.Errorf("%s: got %v", row.name, m)
		}
	}
}

// No record of a provisional answer has a longer TTL than provisionalFor, including the records of a chain and those from the cache.
func TestTTLsOfProvisionalAnswers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, m := range map[string]*dns.Msg{
		"made":           message(t, dns.TypeAAAA, "h.example.com. 600 AAAA 2001:db8:64::c633:6407"),
		"a chain":        message(t, dns.TypeAAAA, "h.example.com. 3600 CNAME i.example.com., i.example.com. 600 AAAA 2001:db8:64::c633:6407"),
		"negative":       message(t, dns.TypeAAAA, nodata),
		"a chain, empty": message(t, dns.TypeAAAA, "h.example.com. 3600 CNAME i.example.com."+nodata),
	} {
		c := newCache(CacheLimits{Size: 1, MaxTTL: time.Hour, MaxNegativeTTL: time.Hour}, New(testConfig(t), nil).seed)
		a := Answer{Msg: m, Provisional: true}
		c.cut(dns.TypeAAAA, &a)
		e, err := newEntry(in("h.example.com.", dns.TypeAAAA), a.Msg, true, now)
		if err != nil {
			t.Fatal(err)
		}
		if kept := time.Duration(e.expires - e.stored); kept != provisionalFor {
			t.Errorf("%s: it is kept for %v", name, kept)
		}
		later, err := e.message(now.Add(3 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for _, rr := range append(later.Answer, later.Ns...) {
			if rr.Header().Ttl > uint32(provisionalFor/time.Second)-3 {
				t.Errorf("%s: after 3 s: %v", name, rr)
			}
		}
	}
}

// An answer that loses all addresses is negative and needs the SOA of the zone. The forwarder asks for it if upstreams did not
// send it.
func TestAnswersWithoutTheirAddressesHaveAnSOA(t *testing.T) {
	t.Parallel()
	const soa = ", example.com. 3600 SOA ns.example.com. root.example.com. 1 7200 900 1209600 300"
	for _, row := range []struct {
		name, records, sigs string
		do, none            bool
		want                string
	}{
		{"excluded and signed", mapped, "AAAA", true, false, "; SOA"},
		{"excluded and signed, with A", mapped + "," + a7, "AAAA", true, false, "; SOA"},
		{"excluded at the end of a chain", "h.example.com. 60 CNAME i.example.com., i.example.com. 60 AAAA ::ffff:192.0.2.9", "AAAA", true, false, "60 CNAME i.example.com., ; SOA"},
		{"excluded, and A cannot be embedded", mapped + ", h.example.com. 60 A 127.0.0.1", "", false, false, "; SOA"},
		{"excluded and signed, without an SOA", mapped, "AAAA", true, true, "SERVFAIL"},
		{"excluded, and signed, but the client does not ask for that", mapped + "," + a7, "", false, false, "600 AAAA 2001:db8:64::c633:6407"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			all := records(t, row.records+soa)
			answer := func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg {
				m := new(dns.Msg).SetReply(q)
				name := q.Question[0].Name
				for _, rr := range all {
					h := rr.Header()
					soa := h.Rrtype == dns.TypeSOA
					switch {
					case same(h.Name, name) && h.Rrtype == dns.TypeCNAME && q.Question[0].Qtype != dns.TypeCNAME:
						name = rr.(*dns.CNAME).Target
						m.Answer = append(m.Answer, dns.Copy(rr))
					case same(h.Name, name) && h.Rrtype == q.Question[0].Qtype:
						m.Answer = append(m.Answer, dns.Copy(rr))
					case soa && q.Question[0].Qtype == dns.TypeSOA && !row.none:
						m.Ns = append(m.Ns, dns.Copy(rr))
					}
				}
				if row.sigs != "" && q.Question[0].Qtype == dns.TypeAAAA {
					m.Answer = append(m.Answer, records(t, signature(row.sigs))...)
				}
				return m
			}
			_, server := serve(t, testConfig(t, startFake(t, answer).udp))
			m := exchange(t, "udp", server, func(q *dns.Msg) { q.SetEdns0(1232, row.do) }, "h.example.com.", dns.TypeAAAA)
			if got := brief(m); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			if len(m.Ns) == 1 && m.Ns[0].Header().Ttl != 300 {
				t.Errorf("the TTL is that of a record, not of its absence: %v", m.Ns[0])
			}
		})
	}
}
