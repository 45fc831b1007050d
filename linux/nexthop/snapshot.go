//go:build linux

package nexthop

import (
	"net/netip"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/packet"
)

// side is the index of one of the two interfaces.
type side int

const (
	v6 side = iota
	v4
	sides
)

// snapshot is the state for look-ups. A published snapshot never changes; its tables are replaced by modified copies
// that share most of their nodes.
type snapshot struct {
	nics    [sides]nic
	fib     fib
	rules   [sides][]rule
	ipsec   [sides]*ipsec
	fields  [sides]fields     // fields that rules and routes depend on
	groups  map[int]uint32    // groups of all interfaces, if a rule matches a group
	sources [sides]candidates // source addresses for ICMP errors
	hosts   []netip.Addr
	own     []ownAddress        // addresses of the host on the two interfaces
	lost    map[netip.Addr]bool // IPv4 addresses that the host has lost since the start
	subnets []netip.Prefix      // subnets of the v4 interface

	primary4 map[int]netip.Addr // the IPv4 address that each interface is known by, by index

	forwards bool // the kernel forwards IPv6 packets received on the v6 interface
}

// nic is an interface and its neighbours of both families (an IPv4 route may have an IPv6 next hop).
type nic struct {
	Link
	host       [6]byte // MAC of the host's end of a pair; zero: no pair
	serveOwn   bool    // the host's own addresses are reached through the pair
	vrf        uint32  // table of the interface's VRF; 0: it is in no VRF
	master     string  // interface of that VRF
	neighbours *bart.Table[*neighbour]
}

// pair reports whether the interface is one end of a pair whose other end belongs to the host's stack.
func (n *nic) pair() bool { return n.host != [6]byte{} }

// oneNIC reports whether both sides use the same interface.
func (s *snapshot) oneNIC() bool { return s.nics[v4].Index == s.nics[v6].Index }

// linkUp reports whether an interface is up that was not up before.
func (s *snapshot) linkUp(before *snapshot) bool {
	for d := range s.nics {
		if s.nics[d].Up && !before.nics[d].Up {
			return true
		}
	}
	return false
}

// share makes both sides of a single interface use the same neighbour table.
func (s *snapshot) share() {
	if s.oneNIC() {
		s.nics[v4].neighbours = s.nics[v6].neighbours
	}
}

// answer is the result of a look-up. If neighbour is not nil, the caller must mark it as used.
type answer struct {
	hop       packet.Hop
	neighbour *neighbour
	pending   bool
	reason    drop.Reason
}

// answer looks up f: first the route, then the neighbour.
func (s *snapshot) answer(d side, f flow) answer {
	if s.nics[d].pair() {
		return s.toHost(d, f.dst)
	}
	w := s.way(d, &f)
	if w.reason != drop.None {
		return answer{reason: w.reason}
	}
	nic := &s.nics[d]
	if s.ipsec[d].refuses(&f, nic.Index) {
		return answer{reason: drop.IPsec}
	}
	n, _ := nic.neighbours.Lookup(w.hop.target(f.dst))
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
	return answer{hop: packet.Hop{Dst: n.mac, Src: nic.MAC, MTU: mtu}, neighbour: n}
}

// toHost is the answer for a pair. The stack delivers to IPv6 addresses of the host, which may be a client of its own.
func (s *snapshot) toHost(d side, dst netip.Addr) answer {
	nic := &s.nics[d]
	switch {
	case dst.IsMulticast() || dst.IsUnspecified() || dst == broadcast:
		return answer{reason: drop.NoRoute}
	case d == v4 && !nic.serveOwn && s.local(d, dst):
		return answer{reason: drop.HostAddress}
	case !nic.Up:
		return answer{reason: drop.Neighbour}
	}
	return answer{hop: packet.Hop{Dst: nic.host, Src: nic.MAC, MTU: nic.MTU}}
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// local reports whether a is an address of the host for packets on side d.
func (s *snapshot) local(d side, a netip.Addr) bool {
	for _, id := range [...]uint32{unix.RT_TABLE_LOCAL, s.nics[d].vrf} {
		i := s.fib.index(id)
		if i < 0 {
			continue
		}
		if rs, ok := s.fib.tables[i].routes.Lookup(a); ok && len(rs) > 0 && rs[0].kind == unix.RTN_LOCAL {
			return true
		}
	}
	return false
}

// spread is FNV-1a over the address.
func spread(a netip.Addr) uint32 {
	h := uint32(2166136261)
	for _, b := range a.As16() {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}
