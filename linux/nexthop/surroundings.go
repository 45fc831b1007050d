//go:build linux

package nexthop

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"nat64d/drop"
)

// Within returns, in order and without duplicates, the prefixes inside p, more specific than p, for which the kernel
// has routes, if the kernel forwards packets received on the v6 interface. The kernel forwards such packets (RFC 7915
// section 5.6). Within ignores routes for specific sources and tables that only rules refer to.
func (t *Table) Within(p netip.Prefix) []netip.Prefix { return t.state.Load().within(p) }

// Broadcasts returns the broadcast addresses of the v4 interface's subnets. The caller owns the slice.
func (t *Table) Broadcasts() []netip.Addr {
	var list []netip.Addr
	for _, p := range t.state.Load().subnets {
		if a, ok := broadcastOf(p); ok && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// defaultRoute stands for the v4 interface in rows of pool4, if that is the interface of the default route.
const defaultRoute = "default"

// Primary4 returns the IPv4 address that an interface of the host is known by: the first one in the kernel's order that is
// neither secondary nor deprecated, or else secondary, or else deprecated. If there is none, the error is a sentence about
// the reason. The name of the v4 interface stands for the interface that Link4 describes.
func (t *Table) Primary4(name string) (netip.Addr, error) {
	s := t.state.Load()
	index := s.nics[v4].Index
	if name != t.names.Load().V4 && name != defaultRoute {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("interface %s does not exist: waiting for it", name)
		}
		index = i.Index
	}
	a, ok := s.primary4[index]
	switch {
	case ok:
		return a, nil
	case index == 0:
		return a, fmt.Errorf("interface %s does not exist: waiting for it", name)
	}
	return a, fmt.Errorf("interface %s has no IPv4 address: waiting for one", name)
}

// Has4 reports whether the v4 interface has an address.
func (t *Table) Has4(a netip.Addr) bool {
	return slices.ContainsFunc(t.state.Load().subnets, func(p netip.Prefix) bool { return p.Addr() == a })
}

// Behind6 returns, in order, the prefixes that the kernel routes through the v6 interface, except the default route.
// They are the networks of the clients. If the v6 interface is a pair, these are the host itself, and all prefixes that it routes
// through other interfaces than those of its default routes.
func (t *Table) Behind6() []netip.Prefix {
	s := t.state.Load()
	client := func(p netip.Prefix, rs routes) bool {
		v := s.ahead(rs, p)
		return v.outcome == decided && v.way.reason == drop.None
	}
	if s.nics[v6].pair() {
		uplinks := s.uplinks6()
		client = func(p netip.Prefix, rs routes) bool { return rs.inside(uplinks) && !p.Addr().IsMulticast() }
	}
	var list []netip.Prefix
	for _, id := range s.tables6() {
		for p, rs := range s.fib.table(id).All6() {
			if p.Bits() > 0 && client(p, rs) {
				list = append(list, p)
			}
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

// uplinks6 returns the indexes of the interfaces of IPv6 default routes.
func (s *snapshot) uplinks6() (indexes []int) {
	for _, id := range s.tables6() {
		for p, rs := range s.fib.table(id).All6() {
			for i := range rs {
				for _, h := range rs[i].hops {
					if p.Bits() == 0 && !slices.Contains(indexes, h.index) {
						indexes = append(indexes, h.index)
					}
				}
			}
		}
	}
	return indexes
}

// inside reports whether the first of the routes leads to the host itself, or through an interface that is none of uplinks.
func (rs routes) inside(uplinks []int) bool {
	if len(rs) == 0 {
		return false
	}
	if rs[0].kind == unix.RTN_LOCAL {
		return true
	}
	return rs[0].kind == unix.RTN_UNICAST && !slices.ContainsFunc(rs[0].hops, func(h hop) bool { return slices.Contains(uplinks, h.index) })
}

// within examines the tables of the kernel's default rules. A route that does not decide, such as a throw route,
// leaves the packet to a shorter prefix, which may be the translator's.
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

// tables6 returns the tables for packets from any source on the v6 side without rules of the administrator: the
// default tables, and that of the interface's VRF.
func (s *snapshot) tables6() []uint32 {
	ids := slices.Clone(defaultTables[:])
	if id := s.nics[v6].vrf; s.fib.index(id) >= 0 {
		ids = append(ids, id)
	}
	return ids
}

// ahead returns the verdict of the routes to p on a packet to its first address.
func (s *snapshot) ahead(rs routes, p netip.Prefix) verdict {
	return rs.find(&flow{src: netip.IPv6Unspecified(), dst: p.Addr()}, s.nics[v6].Index)
}

// surroundingsDiffer reports whether Within, Broadcasts, HostAddresses or Primary4 may return different results for s than
// for o.
func (s *snapshot) surroundingsDiffer(o *snapshot) bool {
	if s.forwards != o.forwards || !slices.Equal(s.subnets, o.subnets) || !slices.Equal(s.hosts, o.hosts) ||
		!maps.Equal(s.primary4, o.primary4) || s.nics[v4].Index != o.nics[v4].Index {
		return true
	}
	return slices.ContainsFunc(s.tables6(), func(id uint32) bool { return !s.fib.same(&o.fib, id) })
}

// broadcastOf returns the broadcast address of a subnet, its last address (RFC 1812 section 5.3.5). A subnet of two
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
