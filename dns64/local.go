package dns64

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ipv4only is the name by which hosts find the NAT64 prefix (RFC 7050), and localTTL for how long they may rely on it.
const (
	ipv4only = "ipv4only.arpa."
	localTTL = 86400
)

// wellKnown4 are its addresses (RFC 7050 section 8.2).
var wellKnown4 = [][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}

// local answers what is never asked upstream: ipv4only.arpa and all below it, but for DS (RFC 8880 section 7.1).
func (p *Policy) local(q Question) (*dns.Msg, bool) {
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
		case dns.TypeAAAA: // behind every prefix, and whatever else may be embedded
			for _, prefix := range p.Prefixes {
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: p.address(&prefix.Prefix, v4).AsSlice()})
			}
		}
	}
	return m, true
}

// reverse returns the name of the IPv4 address behind the IPv6 address that a question for PTR is about (RFC 6147 section
// 5.3.1), if there is one.
func (p *Policy) reverse(q Question) (name string, v4 [4]byte, ok bool) {
	if q.Type != dns.TypePTR || q.Class != dns.ClassINET {
		return "", v4, false
	}
	a, ok := parseReverse(q.Name)
	if !ok {
		return "", v4, false
	}
	if v4, ok = p.find(a); !ok {
		return "", v4, false
	}
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", v4[3], v4[2], v4[1], v4[0]), v4, true
}

// parseReverse reads the 32 nibbles of a name below ip6.arpa.
func parseReverse(name string) (a [16]byte, ok bool) {
	digits, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(digits) != 2*32-1 {
		return a, false
	}
	text := make([]byte, 0, 32)
	for i := len(digits) - 1; i >= 0; i -= 2 {
		if i > 0 && digits[i-1] != '.' {
			return a, false
		}
		text = append(text, digits[i])
	}
	_, err := hex.Decode(a[:], text)
	return a, err == nil
}

// pointer makes the answer to a question for PTR of the answer about the IPv4 address's name. The CNAME that is made up
// leads to where the record is, and there is none if there is no record (RFC 6147 section 5.3.1). made says whether
// there is.
func (p *Policy) pointer(q Question, ptr *dns.Msg, name string) (m *dns.Msg, made bool) {
	if ptr == nil {
		return failure(q), false
	}
	m = reply(q, ptr.Rcode)
	m.Ns, m.Extra = unsigned(ptr.Ns), unsigned(ptr.Extra)
	end, _, ok := follow(ptr, name)
	if !ok {
		return failure(q), false
	}
	for _, rr := range ptr.Answer {
		if rr.Header().Rrtype == dns.TypePTR && same(rr.Header().Name, end) {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(m.Answer) == 0 {
		return m, false
	}
	h := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttlWithoutSOA}
	m.Answer = slices.Insert(m.Answer, 0, dns.RR(&dns.CNAME{Hdr: h, Target: end}))
	return m, true
}

// ownPointer answers for an address that stands for one of ipv4only.arpa (RFC 8880 section 7.2.1).
func ownPointer(q Question) *dns.Msg {
	m := reply(q, dns.RcodeSuccess)
	h := dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: localTTL}
	m.Answer = []dns.RR{&dns.PTR{Hdr: h, Ptr: ipv4only}}
	return m
}

// isWellKnown says whether an address is one of ipv4only.arpa's.
func isWellKnown(v4 [4]byte) bool { return slices.Contains(wellKnown4, v4) }
