// Package dns64 is a forwarding DNS server that gives an IPv6-only network the IPv4 Internet's names: DNS64 (RFC 6147).
// Where a name has no IPv6 address of its own, it is given one behind a NAT64 prefix for each of its IPv4 addresses. It
// also answers for ipv4only.arpa, by which hosts find the prefix (RFC 7050, RFC 8880).
//
// Policy holds the rules and knows nothing of the network; Upstreams ask, Cache remembers, Server listens and puts them
// together.
package dns64

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"

	"nat64d/pool6"
)

// Policy says which names are given which IPv6 addresses. It is immutable once it is in use, and then its methods may be
// called by any goroutine. The zero value has no prefix and makes nothing.
type Policy struct {
	Prefixes     []Prefix
	Choice       Choice         // which of several prefixes, where no range of Ranges decides
	Ranges       []Range        // IPv4 addresses that have a prefix of their own (RFC 6147 section 5)
	Exclude      []netip.Prefix // IPv6 addresses that are treated as if they were not there (RFC 6147 section 5.1.4)
	Mapped       []netip.Prefix // IPv4 addresses that may be embedded; empty: all that can be translated
	TranslateAll []string       // domains whose names are given addresses even if they have IPv6 addresses; "." is all
	Suffix       netip.Addr     // bits behind the embedded address (RFC 6052 section 2.2); the zero Addr: zeros

	ServfailOnError bool // an error about AAAA is the answer; else it counts as none (RFC 6147 section 5.1.2)
	BreakDNSSEC     bool // make addresses for clients that validate, too, though their validation must fail
	Validated       bool // the upstreams validate and their AD bit can be trusted (RFC 6147 section 5.5)
	RecursiveOnly   bool // make nothing for queries without RD
}

// Prefix is a NAT64 prefix and what may stand behind it.
type Prefix struct {
	pool6.Prefix
	Private bool // non-global IPv4 addresses, too (RFC 6052 section 3.1)
}

// Range gives IPv4 addresses a prefix of their own. Of several ranges that contain an address, the longest counts.
type Range struct {
	V4     netip.Prefix
	Prefix int // its place in Policy.Prefixes
}

// Choice says which of several prefixes a name is given addresses behind.
type Choice string

// The choices. All gives one address behind each prefix; the others one, and so spread clients over several gateways:
// ClientHash always gives a client the same, in every gateway that has the same prefixes in the same order.
const (
	First      Choice = "first"
	All        Choice = "all"
	RoundRobin Choice = "round_robin"
	Random     Choice = "random"
	ClientHash Choice = "client_hash"
)

// pick chooses a prefix for a query, as a place in Prefixes. Only where addresses may be made is there a choice, and only
// there does turn count: a client that asks for A and AAAA by turns must not be given every second prefix.
func (p *Policy) pick(client netip.Addr, kind, class uint16, turn *atomic.Uint64) int {
	n := len(p.Prefixes)
	if n < 2 || kind != dns.TypeAAAA || class != dns.ClassINET {
		return 0
	}
	switch p.Choice {
	case RoundRobin:
		return int(turn.Add(1) % uint64(n))
	case Random:
		return rand.IntN(n)
	case ClientHash:
		return int(hashOf(client) % uint64(n))
	}
	return 0
}

// hashOf returns the same for an address in every process: a client that asks another gateway, or this one after a restart,
// must keep its prefix, and with it its sessions. It is FNV-1a.
func hashOf(a netip.Addr) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, b := range a.As16() {
		h = (h ^ uint64(b)) * prime
	}
	return h ^ h>>32 // the low bits alone are poor
}

// embed appends the IPv6 addresses that stand for v4, of which there may be none (RFC 6147 section 5.1.7).
func (p *Policy) embed(dst []netip.Addr, v4 [4]byte, pick int) []netip.Addr {
	if !p.maps(v4) {
		return dst
	}
	first, last := pick, pick
	if n := p.ranged(netip.AddrFrom4(v4)); n >= 0 {
		first, last = n, n
	} else if p.Choice == All {
		first, last = 0, len(p.Prefixes)-1
	}
	for _, prefix := range p.Prefixes[first:min(last+1, len(p.Prefixes))] {
		if prefix.Private || pool6.Global4(v4) {
			dst = append(dst, p.address(&prefix.Prefix, v4))
		}
	}
	return dst
}

// maps says whether v4 may be embedded: never what no packet can be sent to.
func (p *Policy) maps(v4 [4]byte) bool {
	if a := netip.AddrFrom4(v4); !pool6.Unicast4(v4) || a.IsLinkLocalUnicast() || len(p.Prefixes) == 0 {
		return false
	} else if len(p.Mapped) > 0 {
		return contains(p.Mapped, a)
	}
	return true
}

// ranged returns the prefix of the longest range that contains a, or -1.
func (p *Policy) ranged(a netip.Addr) int {
	best, bits := -1, -1
	for _, r := range p.Ranges {
		if r.V4.Bits() > bits && r.V4.Contains(a) {
			best, bits = r.Prefix, r.V4.Bits()
		}
	}
	return best
}

// address embeds v4, and puts the suffix behind it.
func (p *Policy) address(prefix *pool6.Prefix, v4 [4]byte) netip.Addr {
	a := prefix.Embed(v4)
	if p.Suffix.IsValid() && prefix.Prefix().Bits() < 96 {
		s := p.Suffix.As16()
		for i := SuffixStart(prefix.Prefix().Bits()); i < len(a); i++ {
			a[i] = s[i]
		}
	}
	return netip.AddrFrom16(a)
}

// SuffixStart returns the first byte behind the IPv4 address in a prefix of so many bits (RFC 6052 section 2.2).
func SuffixStart(bits int) int {
	if bits == 96 {
		return 16
	}
	return bits/8 + 5 // four bytes of address, and the one that is always zero
}

// usable says whether a is an IPv6 address that clients may be given as it is.
func (p *Policy) usable(a netip.Addr) bool { return !contains(p.Exclude, a) }

// translatesAll says whether a name's own IPv6 addresses are to make way.
func (p *Policy) translatesAll(name string) bool {
	return slices.ContainsFunc(p.TranslateAll, func(domain string) bool { return dns.IsSubDomain(domain, name) })
}

// find returns the IPv4 address behind a, if a lies in one of the prefixes or in the Well-Known one (RFC 6147 section
// 5.3.1).
func (p *Policy) find(a [16]byte) (v4 [4]byte, ok bool) {
	for _, prefix := range p.Prefixes {
		if prefix.Contains(&a) {
			return prefix.Extract(&a), true
		}
	}
	wkp := pool6.WellKnown.Addr().As16()
	if [12]byte(a[:]) == [12]byte(wkp[:]) {
		return [4]byte(a[12:]), true
	}
	return v4, false
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}
