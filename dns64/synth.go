package dns64

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Question is what a client asks, as far as the answer depends on it.
type Question struct {
	Name   string // fully qualified, in small letters
	Type   uint16
	Class  uint16
	DO, CD bool // the client wants DNSSEC records; it validates by itself (RFC 4035 section 3.2)
	RD     bool
}

// of returns the same question about another name and type.
func (q Question) of(name string, kind uint16) Question {
	q.Name, q.Type = name, kind
	return q
}

const (
	ttlWithoutSOA = 600 // RFC 6147 section 5.1.7
	maxChain      = 16  // CNAMEs of one answer, ours
)

// concerns says whether a question is one that addresses are made for (RFC 6147 section 5.1): one for AAAA, unless the
// client said that it would not have them (section 5.5).
func (p *Policy) concerns(q Question) bool {
	return q.Type == dns.TypeAAAA && q.Class == dns.ClassINET && !(q.CD && q.DO) && (q.RD || !p.RecursiveOnly)
}

// decides says whether the answer about AAAA is the answer, so that A need not be asked. A nil answer is one that did not
// come (RFC 6147 sections 5.1.1 to 5.1.5).
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

// proves says whether an answer about a type proves itself to a client that is about to validate what it gets, and that would
// find addresses in its place bogus.
func (p *Policy) proves(q Question, m *dns.Msg, kind uint16) bool {
	return q.DO && !p.BreakDNSSEC && !p.Validated && signed(m, kind)
}

// signed says whether what an answer says of a type is signed. A CNAME that leads to it may be signed where the rest is not.
func signed(m *dns.Msg, kind uint16) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return covers(rr, kind) }) ||
		slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG })
}

// has says whether an answer has IPv6 addresses that the client may be given.
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

// Synthesize makes the answer to a question about AAAA of the answers about AAAA and A; nil stands for one that did not
// come. The answer about A may be about the name itself, or about the end of the chain of CNAMEs in the other. pick is
// the prefix to use where Policy leaves a choice. It may change the messages, and the result may share their records.
// made says whether the result has addresses that were made up.
func (p *Policy) Synthesize(q Question, aaaa, a *dns.Msg, pick int) (m *dns.Msg, made bool) {
	if p.decides(q, aaaa) {
		return p.pass(q, aaaa), false
	}
	if a != nil && a.Rcode == dns.RcodeSuccess {
		if answer, found, ok := p.convert(q, aaaa, a, pick); !ok {
			return failure(q), false
		} else if found && (aaaa == nil || !conclusive(aaaa.Rcode)) && p.proves(q, a, dns.TypeA) {
			return failure(q), false // that there is no AAAA record would have to be proven
		} else if found {
			m = reply(q, dns.RcodeSuccess)
			m.Answer, m.Ns, m.Extra = answer, unsigned(a.Ns), unsigned(a.Extra)
			m.AuthenticatedData = p.Validated && q.DO && aaaa != nil && aaaa.AuthenticatedData && a.AuthenticatedData
			return m, true
		}
	}
	return p.without(q, aaaa, a), false
}

// without returns the answer when none could be made: the name's own addresses if it has some after all, the error about
// A if there was one, and else that there is nothing (RFC 6147 section 5.1.6).
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
		m.Ns = a.Ns // the addresses that were there had none, but this is a negative answer now
	}
	return m
}

// pass returns an answer as it came, but for the IPv6 addresses that must not be returned (RFC 6147 section 5.1.4), and for
// errors, which were about our question and not about the client's.
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

// convert returns the answer section with an AAAA record for each A record, behind the CNAMEs and DNAMEs that lead there
// (RFC 6147 sections 5.1.5 to 5.1.7). found says whether there is one, ok whether the chain has an end.
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
		if !is || !same(r.Hdr.Name, end) || copy(v4[:], r.A.To4()) != 4 {
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

// proven returns the links of a chain, for a client that wants them with their signatures, which still hold.
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

// follow returns the name at the end of the CNAMEs that begin at name, and them with the DNAMEs that they were made of,
// in order. A chain without an end is not ok.
func follow(m *dns.Msg, name string) (end string, chain []dns.RR, ok bool) {
	if m == nil {
		return name, nil, true
	}
	for range maxChain + 1 { // the last finds that this is the end
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

// link returns the CNAME of a name, and the DNAME that it was made of, wherever in the answer they are. Of a DNAME that comes
// alone it makes the CNAME, as RFC 6672 section 3.1 has it.
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
	target := name[:len(name)-len(strings.TrimPrefix(d.Hdr.Name, "."))] // with the dot at its end
	if d.Target != "." {
		target += d.Target
	}
	if _, fits := dns.IsDomainName(target); !fits {
		return d, nil
	}
	return d, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: d.Hdr.Ttl}, Target: target}
}

// cnames returns how many links a chain has.
func cnames(chain []dns.RR) (n int) {
	for _, rr := range chain {
		if rr.Header().Rrtype == dns.TypeCNAME {
			n++
		}
	}
	return n
}

// negativeTTL returns for how long it is known that there is no AAAA record (RFC 6147 section 5.1.7, RFC 2308 section 5).
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

// covers says whether a record is the signature of records of a type.
func covers(rr dns.RR, kind uint16) bool {
	sig, is := rr.(*dns.RRSIG)
	return is && sig.TypeCovered == kind
}

// unsigned returns the records that are not about DNSSEC: they would prove nothing about what was made up.
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

// same compares names, which differ in case only if somebody plays with it.
func same(a, b string) bool { return len(a) == len(b) && dns.CanonicalName(a) == dns.CanonicalName(b) }

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
