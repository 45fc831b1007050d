// Package dns64 implements a forwarding DNS64 server (RFC 6147) for an IPv6-only network. For a name without IPv6 addresses it
// synthesizes one in a NAT64 prefix for each of the name's IPv4 addresses. It also answers for ipv4only.arpa, with which hosts
// discover the prefix (RFC 7050, RFC 8880).
//
// Policy holds the rules and does no I/O. Upstreams queries resolvers, Forwarder caches and combines answers, and Server listens
// for clients.
package dns64

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"

	"nat64d/pool6"
)

// Policy holds the rules for the synthesis of IPv6 addresses. It must not change while it is in use; then any number of
// goroutines may call its methods. The zero value has no prefix and synthesizes nothing.
type Policy struct {
	Prefixes     []Prefix
	Choice       Choice         // choice among several prefixes for addresses outside of Ranges
	Ranges       []Range        // IPv4 addresses with a separate prefix (RFC 6147 section 5)
	Exclude      []netip.Prefix // IPv6 addresses that are ignored in answers (RFC 6147 section 5.1.4)
	Mapped       []netip.Prefix // IPv4 addresses that may be embedded; empty: all that nat64d translates
	TranslateAll []string       // domains for which synthesized addresses replace the real ones; "." is all
	Never        []string       // domains that are answered as upstreams answer, also within TranslateAll; "." is all
	Suffix       netip.Addr     // bits after the embedded address (RFC 6052 section 2.2); the zero Addr: zeros
	EmptyA       bool           // answers have no IPv4 addresses

	ServfailOnError bool // pass an error about AAAA on; otherwise synthesize (RFC 6147 section 5.1.2)
	BreakDNSSEC     bool // synthesize for validating clients, too, although their validation fails
	Validated       bool // the upstreams validate and their AD bit can be trusted (RFC 6147 section 5.5)
	RecursiveOnly   bool // do not synthesize for queries without RD
}

// Prefix is a NAT64 prefix with the policy for private addresses.
type Prefix struct {
	pool6.Prefix
	Private bool // may embed non-global IPv4 addresses (RFC 6052 section 3.1)
}

// Range assigns a separate prefix to IPv4 addresses. If several ranges contain an address, the longest match wins.
type Range struct {
	V4     netip.Prefix
	Prefix int // index into Policy.Prefixes
}

// Choice selects the prefix for a synthesized address if there are several.
type Choice string

// The choices. All synthesizes one address in each prefix. The others use one prefix per answer, which distributes clients over
// several gateways. ClientHash always selects the same prefix for a client, in every gateway with the same prefixes in the same
// order.
const (
	First      Choice = "first"
	All        Choice = "all"
	RoundRobin Choice = "round_robin"
	Random     Choice = "random"
	ClientHash Choice = "client_hash"
)

// pick returns the index of the prefix for a query. It advances turn only for queries that may need a synthesized address:
// otherwise a client that alternates between A and AAAA would get only every second prefix.
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

// hashOf returns the FNV-1a hash of an address, which is the same in every process: a client that asks another gateway, or this
// one after a restart, must get the same prefix to keep its sessions.
func hashOf(a netip.Addr) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, b := range a.As16() {
		h = (h ^ uint64(b)) * prime
	}
	return h ^ h>>32 // the low bits alone are distributed poorly
}

// embed appends the IPv6 addresses for v4, if v4 may be embedded (RFC 6147 section 5.1.7).
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

// maps reports whether v4 may be embedded. An address that no packet can be sent to never is.
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

// address returns the IPv6 address with v4 and the suffix.
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

// SuffixStart returns the index of the first byte after the IPv4 address for a prefix length (RFC 6052 section 2.2).
func SuffixStart(bits int) int {
	if bits == 96 {
		return 16
	}
	return bits/8 + 5 // four bytes of address, and one byte that is always zero
}

// usable reports whether clients may get the IPv6 address a unchanged.
func (p *Policy) usable(a netip.Addr) bool { return !contains(p.Exclude, a) }

// translatesAll reports whether synthesized addresses replace the real ones of a name.
func (p *Policy) translatesAll(name string) bool { return within(p.TranslateAll, name) }

// neverSynthesizes reports whether a name is answered as upstreams answer.
func (p *Policy) neverSynthesizes(name string) bool { return within(p.Never, name) }

// within reports whether a name is one of the domains or below one.
func within(domains []string, name string) bool {
	return slices.ContainsFunc(domains, func(domain string) bool { return dns.IsSubDomain(domain, name) })
}

// find returns the IPv4 address embedded in a, if a is in one of the prefixes or in the Well-Known Prefix (RFC 6147 section
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
