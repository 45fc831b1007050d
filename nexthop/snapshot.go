package nexthop

import (
	"net/netip"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"nat64d/drop"
)

// side is one of the two interfaces, an index.
type side int

const (
	v6 side = iota
	v4
	sides
)

// snapshot is everything that look-ups need. It is never changed once it is published; its tables are replaced by
// modified copies that share most of their nodes.
type snapshot struct {
	nics    [sides]nic
	fib     fib
	policy  [sides]bool       // rules beyond the defaults exist: the kernel is asked for each destination
	asked   *bart.Table[way]  // what it answered, by destination
	sources [sides]candidates // our own addresses, for ICMP errors
	hosts   []netip.Addr
	subnets []netip.Prefix // of the v4 interface

	forwards bool // the kernel forwards the IPv6 packets that come in on the v6 interface
}

// nic is an interface and its neighbours of both families (an IPv4 route may have an IPv6 next hop).
type nic struct {
	Link
	neighbours *bart.Table[*neighbour]
}

// oneNIC says whether both sides are one interface.
func (s *snapshot) oneNIC() bool { return s.nics[v4].Index == s.nics[v6].Index }

// share makes both sides of a single interface use one table of neighbours.
func (s *snapshot) share() {
	if s.oneNIC() {
		s.nics[v4].neighbours = s.nics[v6].neighbours
	}
}

// way is what the routes say of a destination: a hop, or the reason why there is none.
type way struct {
	hop    hop
	reason drop.Reason
}

// answer is what a look-up returns. The neighbour is nil unless there is one whose use is to be noted.
type answer struct {
	hop       Hop
	neighbour *neighbour
	pending   bool
	reason    drop.Reason
}

// answer looks dst up: first the route, then the neighbour.
func (s *snapshot) answer(d side, dst netip.Addr) answer {
	w, known := s.way(d, dst)
	switch {
	case !known:
		return answer{pending: true, reason: drop.Neighbour}
	case w.reason != drop.None:
		return answer{reason: w.reason}
	}
	nic := &s.nics[d]
	n, _ := nic.neighbours.Lookup(w.hop.target(dst))
	switch {
	case n == nil:
		return answer{pending: true, reason: drop.Neighbour}
	case n.failed:
		return answer{neighbour: n, reason: drop.Neighbour}
	}
	mtu := nic.MTU
	if w.hop.mtu != 0 && w.hop.mtu < mtu {
		mtu = w.hop.mtu
	}
	return answer{hop: Hop{Dst: n.mac, Src: nic.MAC, MTU: mtu}, neighbour: n}
}

// way returns the route to dst, or false when the kernel has yet to be asked for it.
func (s *snapshot) way(d side, dst netip.Addr) (way, bool) {
	if dst.IsMulticast() || dst.IsUnspecified() || dst == broadcast {
		return way{reason: drop.NoRoute}, true
	}
	if s.policy[d] {
		return s.asked.Lookup(dst)
	}
	return s.fib.way(dst, s.nics[d].Index), true
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// way walks the tables as the kernel's default rules do: local, main, default.
func (f *fib) way(dst netip.Addr, index int) way {
	for _, t := range f {
		rs, ok := t.Lookup(dst)
		if !ok {
			continue
		}
		if w, ok := rs.way(dst, index); ok {
			return w
		}
	}
	return way{reason: drop.NoRoute}
}

// way applies the first route that decides, false if none does: a throw route sends the look-up on to the next table,
// and one without a live hop does not count.
func (rs routes) way(dst netip.Addr, index int) (way, bool) {
	for i, r := range rs {
		switch r.kind {
		case unix.RTN_UNICAST:
			if len(r.hops) > 0 {
				return rs[i:].choose(dst, index), true
			}
		case unix.RTN_LOCAL:
			return way{reason: drop.HostAddress}, true
		case unix.RTN_THROW:
			return way{}, false
		default: // blackhole, unreachable, prohibit, broadcast, anycast, multicast
			return way{reason: drop.NoRoute}, true
		}
	}
	return way{}, false
}

// choose takes the first route. Only an IPv6 subnet may be on several links with one metric, as fe80::/64 always is;
// there the route that leaves by the interface index counts.
func (rs routes) choose(dst netip.Addr, index int) way {
	for _, r := range rs {
		if r.kind != unix.RTN_UNICAST || r.metric != rs[0].metric {
			break
		}
		if w := r.choose(dst, index); w.reason == drop.None || dst.Is4() {
			return w
		}
	}
	return way{reason: drop.OtherInterface}
}

// choose spreads destinations over those hops of a multipath route that leave by the interface index. One destination
// always takes the same hop, so that its packets stay in order; weights are not looked at.
func (r *route) choose(dst netip.Addr, index int) way {
	ours := 0
	for _, h := range r.hops {
		if h.index == index {
			ours++
		}
	}
	if ours == 0 {
		return way{reason: drop.OtherInterface}
	}
	skip := 0
	if ours > 1 {
		skip = int(spread(dst) % uint32(ours))
	}
	for _, h := range r.hops {
		if h.index != index {
			continue
		}
		if skip == 0 {
			return way{hop: h}
		}
		skip--
	}
	return way{reason: drop.OtherInterface}
}

// spread is FNV-1a over the address.
func spread(a netip.Addr) uint32 {
	h := uint32(2166136261)
	for _, b := range a.As16() {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}
