//go:build linux

package nexthop

import (
	"net/netip"
	"slices"

	"nat64d/drop"
)

// Within returns the prefixes inside p and more specific than it for which the kernel has routes of its own, if it
// forwards what comes in on the v6 interface; in order, each once. Such packets are the kernel's to forward (RFC 7915 section
// 5.6). Routes for one source, and those of tables that only rules consult, are not among them.
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
	for _, id := range s.tables6() {
		for p, rs := range s.fib.table(id).All6() {
			if v := s.ahead(rs, p); v.outcome == decided && v.way.reason == drop.None && p.Bits() > 0 {
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
	for _, id := range s.tables6() {
		for q, rs := range s.fib.table(id).Subnets(p) {
			if v := s.ahead(rs, q); v.outcome == decided && q != p {
				list = append(list, q)
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

// tables6 returns the tables that packets of any source are looked up in on the v6 side without a rule of the
// administrator's: the default ones, and that of the interface's VRF.
func (s *snapshot) tables6() []uint32 {
	ids := slices.Clone(defaultTables[:])
	if id := s.nics[v6].vrf; s.fib.index(id) >= 0 {
		ids = append(ids, id)
	}
	return ids
}

// ahead returns what routes to p say of a packet to its first address.
func (s *snapshot) ahead(rs routes, p netip.Prefix) verdict {
	return rs.find(&flow{src: netip.IPv6Unspecified(), dst: p.Addr()}, s.nics[v6].Index)
}

// surroundingsDiffer reports whether Within, Broadcasts or HostAddresses may answer differently for s than for o.
func (s *snapshot) surroundingsDiffer(o *snapshot) bool {
	if s.forwards != o.forwards || !slices.Equal(s.subnets, o.subnets) || !slices.Equal(s.hosts, o.hosts) {
		return true
	}
	return slices.ContainsFunc(s.tables6(), func(id uint32) bool { return !s.fib.same(&o.fib, id) })
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
