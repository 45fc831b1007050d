package dns64

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Question has the parts of a query that the answer depends on.
type Question struct {
	Name   string // fully qualified, in lower case
	Type   uint16
	Class  uint16
	DO, CD bool // the client wants DNSSEC records; the client validates (RFC 4035 section 3.2)
	RD     bool
}

// of returns the question for another name and type.
func (q Question) of(name string, kind uint16) Question {
	q.Name, q.Type = name, kind
	return q
}

const (
	ttlWithoutSOA = 600 // RFC 6147 section 5.1.7
	maxChain      = 16  // limit of CNAMEs in an answer, our choice
)

// concerns reports whether addresses may be synthesized for a question (RFC 6147 section 5.1): it asks for AAAA outside of the
// domains that are never synthesized, and the client does not refuse synthesized records (section 5.5).
func (p *Policy) concerns(q Question) bool {
	return q.Type == dns.TypeAAAA && q.Class == dns.ClassINET && !(q.CD && q.DO) && (q.RD || !p.RecursiveOnly) && !p.neverSynthesizes(q.Name)
}

// decides reports whether the answer about AAAA is final, so that no query for A is needed. A nil answer did not arrive (RFC
// 6147 sections 5.1.1 to 5.1.5).
func (p *Policy) decides(q Question, aaaa *dns.Msg) bool {
	switch {
	case aaaa == nil || !conclusive(aaaa.Rcode):
		return p.ServfailOnError
	case aaaa.Rcode == dns.RcodeNameError:
		return true
	case p.proves(q, aaaa, dns.TypeAAAA):
		return true
	}
	return p.has(q, aaaa) && !p.translatesAll(q.Name)
}

// proves reports whether an answer about a type is signed for a validating client, which would reject synthesized addresses in
// its place.
func (p *Policy) proves(q Question, m *dns.Msg, kind uint16) bool {
	return q.DO && !p.BreakDNSSEC && !p.Validated && signed(m, kind)
}

// signed reports whether the records of a type, or their denial, are signed in an answer. The CNAMEs before them do not count.
func signed(m *dns.Msg, kind uint16) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return covers(rr, kind) }) ||
		slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
}

// has reports whether an answer has IPv6 addresses that the client may get.
func (p *Policy) has(q Question, aaaa *dns.Msg) bool {
	if aaaa == nil || aaaa.Rcode != dns.RcodeSuccess {
		return false
	}
	end, _, ok := follow(aaaa, q.Name)
	for _, rr := range aaaa.Answer {
		if r, is := rr.(*dns.AAAA); ok && is && same(r.Hdr.Name, end) && p.usable(address(r.AAAA)) {
			return true
		}
	}
	return false
}

// Synthesize combines the answers about AAAA and A into the answer to a question about AAAA. A nil answer did not arrive. The
// answer about A may be for the name itself or for the end of the chain of CNAMEs in the other answer. pick is the index of the
// chosen prefix. Synthesize may change the messages, and the result may share their records. made reports whether the result has
// synthesized addresses.
func (p *Policy) Synthesize(q Question, aaaa, a *dns.Msg, pick int) (m *dns.Msg, made bool) {
	if p.decides(q, aaaa) {
		return p.pass(q, aaaa), false
	}
	if a != nil && a.Rcode == dns.RcodeSuccess {
		if answer, found, ok := p.convert(q, aaaa, a, pick); !ok {
			return failure(q), false
		} else if found && (aaaa == nil || !conclusive(aaaa.Rcode)) && p.proves(q, a, dns.TypeA) {
			return failure(q), false // the client needs a proof that there is no AAAA record
		} else if found {
			m = reply(q, dns.RcodeSuccess)
			m.Answer, m.Ns, m.Extra = answer, unsigned(a.Ns), unsigned(a.Extra)
			m.AuthenticatedData = p.Validated && q.DO && aaaa != nil && aaaa.AuthenticatedData && a.AuthenticatedData
			return m, true
		}
	}
	return p.without(q, aaaa, a), false
}

// without returns the answer if no address could be synthesized: the name's own addresses if it has any, the error about A if
// there was one, and otherwise an empty answer (RFC 6147 section 5.1.6).
func (p *Policy) without(q Question, aaaa, a *dns.Msg) *dns.Msg {
	switch {
	case p.has(q, aaaa):
		return p.pass(q, aaaa)
	case a == nil:
		return failure(q)
	case a.Rcode != dns.RcodeSuccess:
		m := reply(q, a.Rcode)
		m.Ns = a.Ns
		return m
	case aaaa == nil || aaaa.Rcode != dns.RcodeSuccess:
		a.Answer = slices.DeleteFunc(a.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeA || covers(rr, dns.TypeA) })
		return p.pass(q, a)
	}
	m := p.pass(q, aaaa)
	if len(m.Ns) == 0 {
		m.Ns = a.Ns // the answer is negative now and needs an SOA
	}
	return m
}

// pass returns an answer without the IPv6 addresses that clients must not get (RFC 6147 section 5.1.4), and turns errors about
// our query into SERVFAIL.
func (p *Policy) pass(q Question, m *dns.Msg) *dns.Msg {
	switch {
	case m == nil:
		return failure(q)
	case !p.concerns(q):
		return m
	case !conclusive(m.Rcode):
		return failure(q)
	}
	excluded := func(rr dns.RR) bool {
		r, is := rr.(*dns.AAAA)
		return is && !p.usable(address(r.AAAA))
	}
	if slices.ContainsFunc(m.Answer, excluded) {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return excluded(rr) || covers(rr, dns.TypeAAAA) })
		m.AuthenticatedData = false
	}
	return m
}

// convert returns the answer section with an AAAA record for each A record, after the CNAMEs and DNAMEs that lead to it (RFC
// 6147 sections 5.1.5 to 5.1.7). found reports whether there is an AAAA record, and ok whether the chain ends.
func (p *Policy) convert(q Question, aaaa, a *dns.Msg, pick int) (answer []dns.RR, found, ok bool) {
	name := q.Name
	if len(a.Question) == 1 && !same(a.Question[0].Name, name) {
		end, chain, ok := follow(aaaa, name)
		if !ok || !same(end, a.Question[0].Name) {
			return nil, false, false
		}
		name, answer = end, proven(q, aaaa, chain)
	}
	end, chain, ok := follow(a, name)
	answer = append(answer, proven(q, a, chain)...)
	if !ok || cnames(answer) > maxChain {
		return nil, false, false
	}
	ttl := negativeTTL(aaaa)
	var addrs []netip.Addr
	for _, rr := range a.Answer {
		r, is := rr.(*dns.A)
		v4 := [4]byte{}
		if !is || !same(r.Hdr.Name, end) || p.neverSynthesizes(end) || copy(v4[:], r.A.To4()) != 4 {
			continue
		}
		addrs = p.embed(addrs[:0], v4, pick)
		for _, v6 := range addrs {
			answer = append(answer, &dns.AAAA{
				Hdr:  dns.RR_Header{Name: r.Hdr.Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: min(r.Hdr.Ttl, ttl)},
				AAAA: v6.AsSlice(),
			})
			found = true
		}
	}
	return answer, found, true
}

// proven returns the links of a chain, with their signatures for a client that wants them; the signatures stay valid.
func proven(q Question, m *dns.Msg, chain []dns.RR) (list []dns.RR) {
	if !q.DO {
		return chain
	}
	for _, link := range chain {
		list = append(list, link)
		for _, rr := range m.Answer {
			if covers(rr, link.Header().Rrtype) && same(rr.Header().Name, link.Header().Name) {
				list = append(list, rr)
			}
		}
	}
	return list
}

// follow returns the name at the end of the CNAMEs that begin at name, and in order the CNAMEs with the DNAMEs that they come
// from. ok is false for a chain without an end.
func follow(m *dns.Msg, name string) (end string, chain []dns.RR, ok bool) {
	if m == nil {
		return name, nil, true
	}
	for range maxChain + 1 { // the last iteration detects the end
		d, c := link(m, name)
		if d != nil && !slices.Contains(chain, dns.RR(d)) {
			chain = append(chain, d)
		}
		if c == nil {
			return name, chain, true
		}
		chain, name = append(chain, c), c.Target
	}
	return name, nil, false
}

// link returns the CNAME of a name and the DNAME that it comes from, anywhere in the answer. If there is only a DNAME, link
// synthesizes the CNAME (RFC 6672 section 3.1).
func link(m *dns.Msg, name string) (d *dns.DNAME, c *dns.CNAME) {
	for _, rr := range m.Answer {
		switch r := rr.(type) {
		case *dns.DNAME:
			if d == nil && dns.IsSubDomain(r.Hdr.Name, name) && !same(r.Hdr.Name, name) {
				d = r
			}
		case *dns.CNAME:
			if c == nil && same(r.Hdr.Name, name) {
				c = r
			}
		}
	}
	if d == nil || c != nil {
		return d, c
	}
	target := name[:len(name)-len(strings.TrimPrefix(d.Hdr.Name, "."))] // with its final dot
	if d.Target != "." {
		target += d.Target
	}
	if _, fits := dns.IsDomainName(target); !fits {
		return d, nil
	}
	return d, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl}, Target: target}
}

// cnames returns the number of CNAMEs in a chain.
func cnames(chain []dns.RR) (n int) {
	for _, rr := range chain {
		if rr.Header().Rrtype == dns.TypeCNAME {
			n++
		}
	}
	return n
}

// negativeTTL returns the TTL of the negative answer about AAAA (RFC 6147 section 5.1.7, RFC 2308 section 5).
func negativeTTL(m *dns.Msg) uint32 {
	if m != nil && m.Rcode == dns.RcodeSuccess {
		for _, rr := range m.Ns {
			if soa, is := rr.(*dns.SOA); is {
				return min(soa.Hdr.Ttl, soa.Minttl)
			}
		}
	}
	return ttlWithoutSOA
}

// covers reports whether a record is a signature for records of a type.
func covers(rr dns.RR, kind uint16) bool {
	sig, is := rr.(*dns.RRSIG)
	return is && sig.TypeCovered == kind
}

// unsigned returns the records without those of DNSSEC, which do not prove synthesized records.
func unsigned(rrs []dns.RR) []dns.RR {
	kept := rrs[:0:0]
	for _, rr := range rrs {
		switch rr.Header().Rrtype {
		case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
		default:
			kept = append(kept, rr)
		}
	}
	return kept
}

// reply returns an answer without records.
func reply(q Question, rcode int) *dns.Msg {
	m := &dns.Msg{Question: []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: q.Class}}}
	m.Response, m.RecursionAvailable, m.Rcode = true, true, rcode
	return m
}

func failure(q Question) *dns.Msg { return reply(q, dns.RcodeServerFailure) }

// same compares names regardless of case.
func same(a, b string) bool { return len(a) == len(b) && dns.CanonicalName(a) == dns.CanonicalName(b) }

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
