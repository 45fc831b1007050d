package pool6

import (
	"math/bits"
	"net/netip"
)

// Unicast4 says whether v4 can be the source or the destination of a translated packet: not 0/8, 127/8, multicast,
// 240/4 or broadcast, whatever the prefix (RFC 7915 section 4.1, RFC 1812 section 5.3.7).
func Unicast4(v4 [4]byte) bool { return v4[0] != 0 && v4[0] != 127 && v4[0] < 224 }

type range4 struct{ addr, mask uint32 }

// The special-purpose addresses that are not globally reachable (RFC 6890; RFC 6052 section 3.1), beside those that
// Unicast4 refuses anyway.
var nonGlobal = []range4{
	{0x00000000, 0xff000000}, // 0.0.0.0/8
	{0x0a000000, 0xff000000}, // 10.0.0.0/8
	{0x64400000, 0xffc00000}, // 100.64.0.0/10
	{0x7f000000, 0xff000000}, // 127.0.0.0/8
	{0xa9fe0000, 0xffff0000}, // 169.254.0.0/16
	{0xac100000, 0xfff00000}, // 172.16.0.0/12
	{0xc0000000, 0xffffff00}, // 192.0.0.0/24
	{0xc0000200, 0xffffff00}, // 192.0.2.0/24
	{0xc0a80000, 0xffff0000}, // 192.168.0.0/16
	{0xc6120000, 0xfffe0000}, // 198.18.0.0/15
	{0xc6336400, 0xffffff00}, // 198.51.100.0/24
	{0xcb007100, 0xffffff00}, // 203.0.113.0/24
	{0xf0000000, 0xf0000000}, // 240.0.0.0/4
}

// NonGlobal4 returns the special-purpose addresses that are not globally reachable (RFC 6890).
func NonGlobal4() []netip.Prefix {
	list := make([]netip.Prefix, len(nonGlobal))
	for i, r := range nonGlobal {
		a := netip.AddrFrom4([4]byte{byte(r.addr >> 24), byte(r.addr >> 16), byte(r.addr >> 8), byte(r.addr)})
		list[i] = netip.PrefixFrom(a, bits.OnesCount32(r.mask))
	}
	return list
}

// Global4 says whether v4 is globally reachable, so that it may stand behind the Well-Known Prefix (RFC 6052 section
// 3.1).
func Global4(v4 [4]byte) bool {
	a := uint32(v4[0])<<24 | uint32(v4[1])<<16 | uint32(v4[2])<<8 | uint32(v4[3])
	for _, r := range nonGlobal {
		if a&r.mask == r.addr {
			return false
		}
	}
	return true
}

// Unicast6 says whether a can be the source of a translated packet: one unicast address that may be answered from
// another link, so not unspecified, loopback, multicast or link-local.
func Unicast6(a *[16]byte) bool {
	switch {
	case a[0] == 0xff, a[0] == 0xfe && a[1]&0xc0 == 0x80:
		return false
	case a[0] == 0:
		addr := netip.AddrFrom16(*a)
		return !addr.IsUnspecified() && !addr.IsLoopback()
	}
	return true
}

// LinkLocal6 reports whether a is a link-local unicast address (RFC 4291 section 2.5.6).
func LinkLocal6(a *[16]byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }
