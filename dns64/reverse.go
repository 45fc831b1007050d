package dns64

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"nat64d/pool6"
)

// reverse returns the name below in-addr.arpa for the IPv4 address embedded in the address of a PTR question (RFC 6147 section
// 5.3.1), if there is one.
func (p *Policy) reverse(q Question) (name string, v4 [4]byte, ok bool) {
	if q.Type != dns.TypePTR || q.Class != dns.ClassINET {
		return "", v4, false
	}
	a, nibbles := parseReverse(q.Name)
	if nibbles < 32 {
		return "", v4, false
	}
	if v4, ok = p.find(a); !ok {
		return "", v4, false
	}
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", v4[3], v4[2], v4[1], v4[0]), v4, true
}

// parseReverse reads the nibbles of a name below ip6.arpa and returns them with their number. A name may have fewer than the 32
// nibbles of an address. The number is 0 if the name is not one of an address.
func parseReverse(name string) (a [16]byte, nibbles int) {
	digits, below := strings.CutSuffix(name, ".ip6.arpa.")
	if !below || len(digits)%2 == 0 || len(digits) > 2*32-1 {
		return a, 0
	}
	text := []byte(strings.Repeat("0", 32))
	for i := len(digits) - 1; i >= 0; i -= 2 {
		if i > 0 && digits[i-1] != '.' {
			return a, 0
		}
		text[nibbles] = digits[i]
		nibbles++
	}
	if _, err := hex.Decode(a[:], text); err != nil {
		return a, 0
	}
	return a, nibbles
}

// inhabited reports whether names of addresses in a prefix exist at or below the name of a question. Upstreams do not know these
// names.
func (p *Policy) inhabited(q Question) bool {
	a, nibbles := parseReverse(q.Name)
	if nibbles == 0 || q.Class != dns.ClassINET {
		return false
	}
	at := netip.AddrFrom16(a)
	shares := func(p netip.Prefix) bool {
		common, err := p.Addr().Prefix(min(p.Bits(), 4*nibbles))
		return err == nil && common.Contains(at)
	}
	return shares(pool6.WellKnown) || slices.ContainsFunc(p.Prefixes, func(p Prefix) bool { return shares(p.Prefix.Prefix()) })
}

// exists turns NXDOMAIN into NOERROR without records, because resolvers apply the NXDOMAIN of a name to all names below it
// (RFC 8020). It keeps the SOA, by which clients cache the answer.
func exists(q Question, m *dns.Msg) *dns.Msg {
	if m == nil || m.Rcode != dns.RcodeNameError || len(m.Answer) > 0 {
		return m
	}
	empty := reply(q, dns.RcodeSuccess)
	empty.Ns = unsigned(m.Ns)
	return empty
}

// pointer returns the answer to a PTR question: a synthesized CNAME followed by the records for the IPv4 address (RFC 6147
// section 5.3.1). Without records it omits the CNAME; made reports whether there is one.
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

// ownPointer answers for an address that embeds one of ipv4only.arpa (RFC 8880 section 7.2.1).
func ownPointer(q Question) *dns.Msg {
	m := reply(q, dns.RcodeSuccess)
	h := dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: localTTL}
	m.Answer = []dns.RR{&dns.PTR{Hdr: h, Ptr: ipv4only}}
	return m
}
