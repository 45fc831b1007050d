//go:build linux

package nexthop

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// candidates are the possible source addresses of ICMP errors, in order of preference, deprecated ones last.
type candidates []candidate

type candidate struct {
	addr       netip.Addr
	deprecated bool
}

// best selects a source address for a packet to dst by RFC 6724 section 5: of suitable scope, preferably not
// deprecated, with the longest common prefix; ties in the order of the candidates.
func (c candidates) best(dst netip.Addr) (best netip.Addr, ok bool) {
	length := -1
	for _, o := range c {
		if o.deprecated && length >= 0 {
			break
		}
		if o.addr.IsLinkLocalUnicast() != dst.IsLinkLocalUnicast() && !o.addr.Is4() {
			continue
		}
		if n := common(o.addr, dst); n > length {
			best, length = o.addr, n
		}
	}
	return best, length >= 0
}

// common returns the number of leading bits that two addresses of one family share.
func common(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 8 * len(x)
}

// own is an address of the host.
type own struct {
	prefix netip.Prefix // the address with the prefix length of its subnet
	index  int          // of its interface
	flags  int          // IFA_F_ flags
	host   bool         // loopback scope
}

// primary4 returns for each interface, by its index, the IPv4 address that it is known by. The kernel lists the primary address of
// a subnet before the secondary ones; an address that is not deprecated precedes both, because a DHCP client adds an address before it
// deletes the last one. Link-local addresses do not count: an interface has one when DHCP has failed (RFC 3927).
func primary4(owns []own) map[int]netip.Addr {
	type choice struct {
		addr netip.Addr
		rank int
	}
	best := make(map[int]choice)
	for _, o := range owns {
		a := o.prefix.Addr()
		if !a.Is4() || !o.usable() || a.IsLinkLocalUnicast() || a.IsLoopback() {
			continue
		}
		rank := 0
		if o.flags&unix.IFA_F_DEPRECATED != 0 {
			rank += 2
		}
		if o.flags&unix.IFA_F_SECONDARY != 0 {
			rank++
		}
		if b, ok := best[o.index]; !ok || rank < b.rank {
			best[o.index] = choice{a, rank}
		}
	}
	list := make(map[int]netip.Addr, len(best))
	for i, b := range best {
		list[i] = b.addr
	}
	return list
}

// ownFrom converts the netlink attributes of an address.
func ownFrom(a *netlink.Addr) (own, bool) {
	if a.IPNet == nil {
		return own{}, false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return own{}, false
	}
	ip = ip.Unmap()
	ones, _ := a.Mask.Size()
	return own{
		prefix: netip.PrefixFrom(ip, ones),
		index:  a.LinkIndex,
		flags:  a.Flags,
		host:   a.Scope == unix.RT_SCOPE_HOST,
	}, true
}

// usable reports whether the address may be a source: it is unique (RFC 4862 section 5.4) and not loopback.
func (o *own) usable() bool {
	return !o.host && o.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}

// sources returns the candidates of one interface: its usable addresses of the family. If it has only link-local
// ones, it adds those of the other interfaces.
func sources(owns []own, index int, d side) candidates {
	var here, elsewhere []own
	routable := false
	for _, o := range owns {
		if !o.usable() || o.prefix.Addr().Is4() != (d == v4) {
			continue
		}
		if o.index != index {
			elsewhere = append(elsewhere, o)
			continue
		}
		here = append(here, o)
		routable = routable || !o.prefix.Addr().IsLinkLocalUnicast()
	}
	if !routable {
		elsewhere = slices.DeleteFunc(elsewhere, func(o own) bool { return o.prefix.Addr().IsLinkLocalUnicast() })
		here = append(here, elsewhere...)
	}
	slices.SortStableFunc(here, func(a, b own) int { return cmp.Compare(a.rank(), b.rank()) })
	var c candidates
	for _, o := range here {
		c = append(c, candidate{o.prefix.Addr(), o.flags&unix.IFA_F_DEPRECATED != 0})
	}
	return c
}

// rank puts deprecated and secondary (in IPv6, temporary) addresses last.
func (o *own) rank() int { return o.flags & (unix.IFA_F_DEPRECATED | unix.IFA_F_SECONDARY) }
