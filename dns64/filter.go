package dns64

import (
	"context"
	"slices"

	"github.com/miekg/dns"
)

// filters reports whether answers to a question lose their IPv4 addresses. They keep them for a client that refuses changed
// answers (RFC 6147 section 5.5) and in domains that are never synthesized, whose names may have no other address.
func (p *Policy) filters(q Question) bool {
	return p.EmptyA && q.Class == dns.ClassINET && !(q.CD && q.DO) && (q.RD || !p.RecursiveOnly) && !p.neverSynthesizes(q.Name)
}

// filter removes the IPv4 addresses from an answer: A records of all sections, and the IPv4 hints of SVCB and HTTPS (RFC 9460
// section 7.3). An answer that is negative then gets the SOA of its zone, if the upstreams have it. A validating client gets
// signed records unchanged, because it would reject others.
func (p *Policy) filter(ctx context.Context, q Question, m *dns.Msg, ask Ask) *dns.Msg {
	if !p.filters(q) || p.proves(q, m, q.Type) {
		return m
	}
	m.Extra = slices.DeleteFunc(m.Extra, p.leadsToIPv4)
	before := len(m.Answer)
	m.Answer = slices.DeleteFunc(m.Answer, p.leadsToIPv4)
	removed := len(m.Answer) < before
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		removed = p.removeHints(rr) || removed
	}
	if !removed {
		return m
	}
	m.AuthenticatedData = false
	m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool {
		return covers(rr, dns.TypeA) || covers(rr, dns.TypeHTTPS) || covers(rr, dns.TypeSVCB)
	})
	if slices.ContainsFunc(m.Answer, isData) || slices.ContainsFunc(m.Ns, isSOA) {
		return m
	}
	if soa := zoneSOA(ctx, q, m, ask); soa != nil {
		m.Ns = []dns.RR{soa}
	}
	return m
}

// leadsToIPv4 reports whether a record leads a client to an IPv4 address. Loopback addresses do not: they are the host itself,
// or data such as the answers of a DNSBL (RFC 5782).
func (p *Policy) leadsToIPv4(rr dns.RR) bool {
	a, is := rr.(*dns.A)
	return is && !a.A.IsLoopback() && !p.neverSynthesizes(a.Hdr.Name)
}

// removeHints removes the IPv4 hints from an SVCB or HTTPS record, also from its list of mandatory keys, and reports whether it
// had any.
func (p *Policy) removeHints(rr dns.RR) (removed bool) {
	var s *dns.SVCB
	switch r := rr.(type) {
	case *dns.SVCB:
		s = r
	case *dns.HTTPS:
		s = &r.SVCB
	default:
		return false
	}
	if p.neverSynthesizes(s.Hdr.Name) {
		return false
	}
	before := len(s.Value)
	s.Value = slices.DeleteFunc(s.Value, func(v dns.SVCBKeyValue) bool { return v.Key() == dns.SVCB_IPV4HINT })
	if len(s.Value) == before {
		return false
	}
	s.Value = slices.DeleteFunc(s.Value, func(v dns.SVCBKeyValue) bool {
		m, is := v.(*dns.SVCBMandatory)
		if !is {
			return false
		}
		m.Code = slices.DeleteFunc(m.Code, func(k dns.SVCBKey) bool { return k == dns.SVCB_IPV4HINT })
		return len(m.Code) == 0 // an empty list is malformed (RFC 9460 section 8)
	})
	return true
}

// isData reports whether a record is neither a link of a chain nor a signature.
func isData(rr dns.RR) bool {
	switch rr.Header().Rrtype {
	case dns.TypeCNAME, dns.TypeDNAME, dns.TypeRRSIG:
		return false
	}
	return true
}
