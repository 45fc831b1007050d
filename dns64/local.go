package dns64

import (
	"slices"

	"github.com/miekg/dns"
)

// ipv4only is the name with which hosts discover the NAT64 prefix (RFC 7050), and localTTL the TTL of its records in seconds.
const (
	ipv4only = "ipv4only.arpa."
	localTTL = 86400
)

// wellKnown4 are its addresses (RFC 7050 section 8.2).
var wellKnown4 = [][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}

// resolverArpa is the zone in which clients look for the encrypted resolvers that a resolver designates (RFC 9462), and noneFor
// the TTL of the negative answer in seconds.
const (
	resolverArpa = "resolver.arpa."
	noneFor      = 10800 // RFC 6303 section 3
)

// local answers questions about ipv4only.arpa, resolver.arpa and all names below without upstreams. It leaves the DS records of
// both to upstreams: they are in zone arpa and prove to a validating client that the zones are unsigned.
func (p *Policy) local(q Question) (*dns.Msg, bool) {
	if q.Class == dns.ClassINET && dns.IsSubDomain(resolverArpa, q.Name) && (q.Type != dns.TypeDS || q.Name != resolverArpa) {
		return designatedResolvers(q), true
	}
	if q.Class != dns.ClassINET || q.Type == dns.TypeDS || !dns.IsSubDomain(ipv4only, q.Name) {
		return nil, false
	}
	if q.Name != ipv4only {
		return reply(q, dns.RcodeNameError), true
	}
	m := reply(q, dns.RcodeSuccess)
	h := dns.RR_Header{Name: ipv4only, Rrtype: q.Type, Class: dns.ClassINET, Ttl: localTTL}
	for _, v4 := range wellKnown4 {
		switch q.Type {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: v4[:]})
		case dns.TypeAAAA: // in every prefix, regardless of Policy.Mapped
			for _, prefix := range p.Prefixes {
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: p.address(&prefix.Prefix, v4).AsSlice()})
			}
		}
	}
	return m, true
}

// designatedResolvers answers a question about resolver.arpa or a name below with no record of any type (RFC 9462 section 6.4).
// The answer of an upstream would direct clients to the upstream's own encrypted resolver, which does not synthesize.
func designatedResolvers(q Question) *dns.Msg {
	m := reply(q, dns.RcodeSuccess)
	m.Ns = []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: resolverArpa, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: noneFor},
		Ns:  resolverArpa, Mbox: "nobody.invalid.", Serial: 1, Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: noneFor,
	}}
	return m
}

// isWellKnown reports whether an address is one of ipv4only.arpa.
func isWellKnown(v4 [4]byte) bool { return slices.Contains(wellKnown4, v4) }
