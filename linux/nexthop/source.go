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

// candidates are the addresses that an ICMP error may come from, the preferred ones first, deprecated ones last.
type candidates []candidate

type candidate struct {
	addr       netip.Addr
	deprecated bool
}

// best chooses an address for a packet to dst after RFC 6724 section 5: of the right scope, not deprecated, with the
// longest common prefix, in the order of the candidates.
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

// common returns how many leading bits two addresses of one family share.
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
	prefix netip.Prefix // the address with the length of its subnet
	index  int          // its interface
	flags  int          // IFA_F_…
	host   bool         // loopback scope
}

// ownFrom converts what netlink says of an address.
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

// usable says whether packets may come from the address: it is unique (RFC 4862 section 5.4) and not a loopback one.
func (o *own) usable() bool {
	return !o.host && o.flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0
}

// sources returns the candidates for one interface: its own usable addresses of the family, or, when it has none
// beyond link-local scope, those of the whole host as well.
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

// rank puts deprecated and secondary (of IPv6: temporary) addresses last.
func (o *own) rank() int { return o.flags & (unix.IFA_F_DEPRECATED | unix.IFA_F_SECONDARY) }
