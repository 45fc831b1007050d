//go:build linux

package nexthop

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// routes are the routes to one prefix in order of evaluation: by source prefix, longest first, then those for a type
// of service, then by increasing metric. Snapshots share them, so they are never modified.
type routes []route

// route is one of them.
type route struct {
	kind   uint8 // RTN_UNICAST and others
	tos    uint8 // IPv4: matches only this type of service; 0: any
	metric uint32
	src    netip.Prefix // IPv6: matches only these sources; invalid: any. A default route for any source has ::/0, see find
	hops   []hop        // more than one in a multipath route
}

// hop is a next hop of a route.
type hop struct {
	index int        // interface
	via   netip.Addr // router, of either family; zero: the destination is on-link
	mtu   uint32     // 0: use the MTU of the interface
}

// encapsulated marks a hop that adds a tunnel header, which nat64d cannot do.
const encapsulated = -1

// target returns the address to resolve in order to reach dst.
func (h *hop) target(dst netip.Addr) netip.Addr {
	if h.via.IsValid() {
		return h.via
	}
	return dst
}

// sameKey reports whether two routes to one prefix have the same key in the kernel.
func (r *route) sameKey(o *route) bool {
	return r.metric == o.metric && r.tos == o.tos && r.src == o.src
}

// before compares two routes to one prefix by order of evaluation.
func (r *route) before(o *route) int {
	return cmp.Or(
		cmp.Compare(o.src.Bits(), r.src.Bits()), // -1 if it is invalid
		r.src.Addr().Compare(o.src.Addr()),
		cmp.Compare(o.tos, r.tos),
		cmp.Compare(r.metric, o.metric),
	)
}

// equal reports whether two routes are equal.
func (r route) equal(o route) bool {
	return r.kind == o.kind && r.sameKey(&o) && slices.Equal(r.hops, o.hops)
}

// change is an RTM_NEWROUTE or RTM_DELROUTE message.
type change struct {
	table   uint32
	prefix  netip.Prefix
	route   route
	del     bool
	replace bool // NLM_F_REPLACE
	special bool // a clone of a route, in no table
}

// apply returns the routes to c's prefix after the change. It returns false if the result is ambiguous, which happens
// if there are other routes with the same key: the message does not identify which of them an IPv4 route replaces, or
// which hops of an IPv6 route change, and with which MTU. Such routes are rare.
func (c change) apply(old routes) (routes, bool) {
	beside := func(r route) bool { return r.sameKey(&c.route) }
	rest := slices.DeleteFunc(slices.Clone(old), beside)
	i := slices.IndexFunc(old, beside)
	switch same := len(old) - len(rest); {
	case same > 1:
		return nil, false
	case same == 1 && c.del:
		return rest, old[i].equal(c.route)
	case same == 1 && !c.replace:
		return old, old[i].equal(c.route) // this route is known; another one would be added to it
	case c.del:
		return old, true
	}
	return rest.insert(c.route), true
}

// insert inserts r after the routes of equal rank.
func (rs routes) insert(r route) routes {
	i, _ := slices.BinarySearchFunc(rs, r, func(e, r route) int {
		if e.before(&r) <= 0 {
			return -1
		}
		return 1
	})
	return slices.Insert(slices.Clone(rs), i, r)
}

// parseRoute parses a struct rtmsg and its attributes (rtnetlink(7)). It returns false if the message is malformed or
// of another family.
func parseRoute(b []byte) (change, bool) {
	if len(b) < unix.SizeofRtMsg {
		return change{}, false
	}
	family, bits, srcBits, tos := b[0], b[1], b[2], b[3]
	flags := binary.NativeEndian.Uint32(b[8:])
	c := change{
		table:   uint32(b[4]),
		route:   route{kind: b[7], tos: tos},
		special: flags&unix.RTM_F_CLONED != 0,
	}
	dst, ok := zero(family)
	if !ok {
		return change{}, false
	}
	p := routeParser{change: c, dst: dst, src: dst, dead: flags&unix.RTNH_F_DEAD != 0}
	if !attributes(b[unix.SizeofRtMsg:], p.attribute) || p.bad {
		return change{}, false
	}
	p.finish()
	prefix, err := p.dst.Prefix(int(bits))
	if err != nil || p.dst.Is4() != dst.Is4() {
		return change{}, false
	}
	p.prefix = prefix
	if srcBits == 0 && (bits > 0 || dst.Is4()) {
		return p.change, true
	}
	p.route.src, err = p.src.Prefix(int(srcBits))
	return p.change, err == nil && p.src.Is4() == dst.Is4()
}

// zero returns the unspecified address of a family, the destination of a default route, which has no RTA_DST.
func zero(family uint8) (netip.Addr, bool) {
	switch family {
	case unix.AF_INET:
		return netip.IPv4Unspecified(), true
	case unix.AF_INET6:
		return netip.IPv6Unspecified(), true
	}
	return netip.Addr{}, false
}

// routeParser collects the attributes of one route.
type routeParser struct {
	change
	dst   netip.Addr
	src   netip.Addr
	hop   hop // of a route with a single hop
	multi bool
	dead  bool
	bad   bool
}

// attribute parses one attribute of the route.
func (p *routeParser) attribute(kind uint16, v []byte) {
	switch kind {
	case unix.RTA_DST:
		var ok bool
		p.dst, ok = netip.AddrFromSlice(v)
		p.bad = p.bad || !ok
	case unix.RTA_SRC:
		var ok bool
		p.src, ok = netip.AddrFromSlice(v)
		p.bad = p.bad || !ok
	case unix.RTA_TABLE:
		p.table = number(v)
	case unix.RTA_PRIORITY:
		p.route.metric = number(v)
	case unix.RTA_METRICS:
		attributes(v, func(kind uint16, v []byte) {
			if kind == unix.RTAX_MTU {
				p.hop.mtu = number(v)
			}
		})
	case unix.RTA_MULTIPATH:
		p.multi = true
		p.nexthops(v)
	default:
		p.hop.attribute(kind, v)
	}
}

// attribute parses one attribute of a hop. A route with a single hop has the same attributes.
func (h *hop) attribute(kind uint16, v []byte) {
	switch kind {
	case unix.RTA_OIF:
		if h.index != encapsulated {
			h.index = int(number(v))
		}
	case unix.RTA_GATEWAY:
		h.via, _ = netip.AddrFromSlice(v)
	case unix.RTA_VIA: // struct rtvia: address family, address
		if len(v) > 2 {
			h.via, _ = netip.AddrFromSlice(v[2:])
		}
	case unix.RTA_ENCAP:
		h.index = encapsulated
	}
}

// nexthops parses RTA_MULTIPATH: for each hop a struct rtnexthop (length, flags, weight, interface) with attributes.
func (p *routeParser) nexthops(b []byte) {
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			p.bad = true
			return
		}
		h := hop{index: int(binary.NativeEndian.Uint32(b[4:]))}
		if !attributes(b[unix.SizeofRtNexthop:n], h.attribute) {
			p.bad = true
			return
		}
		if b[2]&unix.RTNH_F_DEAD == 0 {
			p.route.hops = append(p.route.hops, h)
		}
		b = b[min(align(n), len(b)):]
	}
}

// finish gives the hops of a multipath route the MTU of the route, or stores the single hop.
func (p *routeParser) finish() {
	if !p.multi && !p.dead {
		p.route.hops = []hop{p.hop}
	}
	for i := range p.route.hops {
		p.route.hops[i].mtu = p.hop.mtu
	}
}

// attributes calls f for every attribute (struct rtattr) in b, and returns false if b is malformed.
func attributes(b []byte, f func(kind uint16, v []byte)) bool {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return false
		}
		f(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:n])
		b = b[min(align(n), len(b)):]
	}
	return true
}

// align rounds up to a multiple of 4, the alignment of netlink.
func align(n int) int { return (n + 3) &^ 3 }

// number parses a 32-bit attribute; a shorter one counts as absent.
func number(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

// Connected6 reports whether the v6 interface has an IPv6 route beyond link-local ones. It may have none until DHCP
// or a router advertisement provides an address.
func (t *Table) Connected6() bool { return t.state.Load().connected(v6) }

// Connected4 is like Connected6, for the v4 interface and IPv4.
func (t *Table) Connected4() bool { return t.state.Load().connected(v4) }

func (s *snapshot) connected(d side) bool {
	if s.nics[d].pair() {
		return true
	}
	index := s.nics[d].Index
	leads := func(r route) bool {
		return r.kind == unix.RTN_UNICAST && slices.ContainsFunc(r.hops, func(h hop) bool { return h.index == index })
	}
	for _, t := range s.fib.tables {
		all := t.routes.All4()
		if d == v6 {
			all = t.routes.All6()
		}
		for p, rs := range all {
			if !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() && slices.ContainsFunc(rs, leads) {
				return true
			}
		}
	}
	return false
}
