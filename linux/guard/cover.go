//go:build linux

package guard

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"nat64d/pool4"
	"nat64d/pool6"
)

// Covered is the traffic that a gateway has taken over from the host.
type Covered struct {
	Pool4  []pool4.Entry  // transport addresses; the guard covers those of TCP and UDP, not of ICMP
	Echo   []pool4.Entry  // ICMP Identifiers of static bindings: a client answers echo requests with them, not the host
	Pool6  []pool6.Prefix // destinations
	Bypass []netip.Prefix // destinations that the host keeps, unless a prefix of Pool6 is as long or longer
}

// cover is the normal form of Covered, from which both layers of the guard are built. Equal coverage has an equal
// cover.
type cover struct {
	transport []box   // of TCP and UDP
	echo      []box   // of ICMP Identifiers
	spans     []span6 // IPv6 destinations, sorted, neither overlapping nor adjacent
}

func (c *Covered) normal() cover {
	echo := slices.DeleteFunc(slices.Clone(c.Echo), func(e pool4.Entry) bool { return transport(e) != 0 })
	return cover{
		transport: boxes(slices.DeleteFunc(slices.Clone(c.Pool4), func(e pool4.Entry) bool { return transport(e) == 0 })),
		echo:      boxes(echo),
		spans:     spansOf(c.Pool6, c.Bypass),
	}
}

// transport returns the IP protocol number of an entry whose ports the guard covers, or 0 for ICMP.
func transport(e pool4.Entry) uint8 {
	switch e.Proto.String() {
	case "tcp":
		return unix.IPPROTO_TCP
	case "udp":
		return unix.IPPROTO_UDP
	}
	return 0
}

// box is the ports (or Identifiers) lo to hi of a protocol on the addresses first to last.
type box struct {
	first, last netip.Addr
	proto       uint8
	span
}

// boxes converts entries to few boxes that do not overlap. It merges the ranges of each address, and then consecutive
// addresses with the same range.
func boxes(entries []pool4.Entry) []box {
	var list []box
	for _, e := range slices.SortedFunc(slices.Values(entries), pool4.Entry.Compare) {
		b := box{e.Addr, e.Addr, transport(e), span{e.Lo, e.Hi}}
		if b.proto == 0 {
			b.proto = unix.IPPROTO_ICMP
		}
		if n := len(list); n > 0 && list[n-1].touches(b) {
			list[n-1].hi = max(list[n-1].hi, b.hi)
			continue
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b box) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.lo, b.lo), cmp.Compare(a.hi, b.hi), a.first.Compare(b.first))
	})
	merged := list[:0]
	for _, b := range list {
		if n := len(merged); n > 0 && merged[n-1].precedes(b) {
			merged[n-1].last = b.last
			continue
		}
		merged = append(merged, b)
	}
	return merged
}

// touches reports whether b, which begins no earlier than a, overlaps a or is adjacent to it on the same address.
func (a box) touches(b box) bool {
	return a.first == b.first && a.proto == b.proto && int(b.lo) <= int(a.hi)+1
}

// precedes reports whether b covers the same ports on the next address.
func (a box) precedes(b box) bool {
	return a.proto == b.proto && a.span == b.span && a.last.Next() == b.first
}

// span6 is a range of IPv6 addresses, both ends included.
type span6 struct{ first, last netip.Addr }

// spansOf returns the addresses of prefixes without those of bypass. For each address, the longest prefix that
// contains it decides; prefixes take precedence over a bypass of the same length.
func spansOf(prefixes []pool6.Prefix, bypass []netip.Prefix) []span6 {
	type rule struct {
		netip.Prefix
		covered bool
	}
	rules := make([]rule, 0, len(prefixes)+len(bypass))
	for _, p := range bypass {
		rules = append(rules, rule{p.Masked(), false})
	}
	for _, p := range prefixes {
		rules = append(rules, rule{p.Prefix(), true})
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(a.Bits(), b.Bits()) }) // longer prefixes overwrite shorter ones
	var spans []span6
	for _, r := range rules {
		s := span6{r.Addr(), lastOf(r.Prefix)}
		spans = without(spans, s)
		if r.covered {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b span6) int { return a.first.Compare(b.first) })
	return joined(spans)
}

// without returns spans without the addresses of cut.
func without(spans []span6, cut span6) (rest []span6) {
	for _, s := range spans {
		if s.last.Less(cut.first) || cut.last.Less(s.first) {
			rest = append(rest, s)
			continue
		}
		if s.first.Less(cut.first) {
			rest = append(rest, span6{s.first, cut.first.Prev()})
		}
		if cut.last.Less(s.last) {
			rest = append(rest, span6{cut.last.Next(), s.last})
		}
	}
	return rest
}

// joined merges adjacent spans. The spans are sorted and do not overlap.
func joined(spans []span6) []span6 {
	list := spans[:0]
	for _, s := range spans {
		if n := len(list); n > 0 && list[n-1].last.Next() == s.first {
			list[n-1].last = s.last
			continue
		}
		list = append(list, s)
	}
	return list
}

// lastOf returns the last address of an IPv6 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As16()
	for bit := p.Bits(); bit < 128; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom16(a)
}
