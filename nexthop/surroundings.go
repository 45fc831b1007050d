package nexthop

import (
	"net/netip"
	"slices"

	"nat64d/drop"
)

// Within returns the prefixes inside p and more specific than it for which the kernel has routes of its own, if it
// forwards what comes in on the v6 interface; in order, each once. Such packets are the kernel's to forward (RFC 7915 section
// 5.6). Routes of tables that only rules consult are not among them.
func (t *Table) Within(p netip.Prefix) []netip.Prefix { return t.state.Load().within(p) }

// Broadcasts returns the broadcast addresses of the v4 interface's own subnets. The caller owns the slice.
func (t *Table) Broadcasts() []netip.Addr {
	var list []netip.Addr
	for _, p := range t.state.Load().subnets {
		if a, ok := broadcastOf(p); ok && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Behind6 returns the prefixes that the kernel routes out of the v6 interface, the default route apart, in order. They are
// the networks of the clients.
func (t *Table) Behind6() []netip.Prefix {
	s := t.state.Load()
	var list []netip.Prefix
	for _, routes := range s.fib {
		for p, rs := range routes.All6() {
			if w, decides := rs.way(p.Addr(), s.nics[v6].Index); decides && w.reason == drop.None && p.Bits() > 0 {
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

// within looks through the tables that the kernel's default rules consult. A route that does not decide, such as a throw
// route, leaves the packet to a shorter one, which may be the translator's.
func (s *snapshot) within(p netip.Prefix) []netip.Prefix {
	if !s.forwards {
		return nil
	}
	var list []netip.Prefix
	for _, t := range s.fib {
		for q, rs := range t.Subnets(p) {
			if _, decides := rs.way(q.Addr(), s.nics[v6].Index); decides && q != p {
				list = append(list, q)
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

// surroundingsDiffer says whether Within or Broadcasts may answer differently for s than for o.
func (s *snapshot) surroundingsDiffer(o *snapshot) bool {
	return s.forwards != o.forwards || s.fib != o.fib || !slices.Equal(s.subnets, o.subnets)
}

// broadcastOf returns the address that reaches all hosts of a subnet: the last one (RFC 1812 section 5.3.5). A subnet of two
// addresses has none (RFC 3021).
func broadcastOf(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a), true
}
