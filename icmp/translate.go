package icmp

import "nat64d/drop"

// Types of ICMP and ICMPv6 errors (RFC 792, RFC 4443).
const (
	Unreachable4  = 3
	TimeExceeded4 = 11
	Parameter4    = 12

	Unreachable6  = 1
	TooBig6       = 2
	TimeExceeded6 = 3
	Parameter6    = 4

	needFragment4 = 4 // code of Unreachable4
	protocol4     = 2 // code of Unreachable4
	nextHeader6   = 1 // code of Parameter6
)

// none marks a field without a counterpart; an error that points to it is dropped.
const none = 0xff

// unreachable6 is the ICMPv6 error for each code of ICMP type 3 (RFC 7915 section 4.2).
var unreachable6 = [...]drop.Answer{
	0:  {Type: Unreachable6, Code: 0},
	1:  {Type: Unreachable6, Code: 0},
	2:  {Type: Parameter6, Code: nextHeader6},
	3:  {Type: Unreachable6, Code: 4},
	4:  {Type: TooBig6, Code: 0},
	5:  {Type: Unreachable6, Code: 0},
	6:  {Type: Unreachable6, Code: 0},
	7:  {Type: Unreachable6, Code: 0},
	8:  {Type: Unreachable6, Code: 0},
	9:  {Type: Unreachable6, Code: 1},
	10: {Type: Unreachable6, Code: 1},
	11: {Type: Unreachable6, Code: 0},
	12: {Type: Unreachable6, Code: 0},
	13: {Type: Unreachable6, Code: 1},
	14: {},
	15: {Type: Unreachable6, Code: 1},
}

// unreachable4 is the ICMP error for each code of ICMPv6 type 1 (RFC 7915 section 5.2).
var unreachable4 = [...]drop.Answer{
	0: {Type: Unreachable4, Code: 1},
	1: {Type: Unreachable4, Code: 10},
	2: {Type: Unreachable4, Code: 1},
	3: {Type: Unreachable4, Code: 1},
	4: {Type: Unreachable4, Code: 3},
}

// pointer6 maps each byte of an IPv4 header to the corresponding byte of an IPv6 header (RFC 7915 section 4.2, figure
// 3).
var pointer6 = [20]uint8{
	0, 1, 4, 4, none, none, none, none, 7, 6, none, none, 8, 8, 8, 8, 24, 24, 24, 24,
}

// pointer4 maps each byte of an IPv6 header to the corresponding byte of an IPv4 header (RFC 7915 section 5.2, figure
// 6).
var pointer4 = [40]uint8{
	0, 1, none, none, 2, 2, 9, 8,
	12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
	16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16,
}

// To6 translates the type and code of an ICMP error and, if its second word rest is a pointer, the pointer (RFC 7915
// section 4.2). The caller translates MTUs. ok is false if the error has no counterpart.
func To6(in drop.Answer, rest uint32) (out drop.Answer, pointer uint32, ok bool) {
	switch {
	case in.Type == Unreachable4 && int(in.Code) < len(unreachable6):
		out = unreachable6[in.Code]
		if out.Type == Parameter6 {
			pointer = 6 // the Next Header field
		}
		return out, pointer, out.Type != 0
	case in.Type == TimeExceeded4:
		return drop.Answer{Type: TimeExceeded6, Code: in.Code}, 0, in.Code <= 1
	case in.Type == Parameter4 && (in.Code == 0 || in.Code == 2):
		at := rest >> 24
		if at >= uint32(len(pointer6)) || pointer6[at] == none {
			return drop.Answer{}, 0, false
		}
		return drop.Answer{Type: Parameter6}, uint32(pointer6[at]), true
	}
	return drop.Answer{}, 0, false
}

// To4 translates the type and code of an ICMPv6 error and, if its second word rest is a pointer, the pointer (RFC
// 7915 section 5.2). The caller translates MTUs. ok is false if the error has no counterpart.
func To4(in drop.Answer, rest uint32) (out drop.Answer, pointer uint32, ok bool) {
	switch {
	case in.Type == Unreachable6 && int(in.Code) < len(unreachable4):
		return unreachable4[in.Code], 0, true
	case in.Type == TooBig6:
		return drop.Answer{Type: Unreachable4, Code: needFragment4}, 0, true
	case in.Type == TimeExceeded6:
		return drop.Answer{Type: TimeExceeded4, Code: in.Code}, 0, in.Code <= 1
	case in.Type == Parameter6 && in.Code == nextHeader6:
		return drop.Answer{Type: Unreachable4, Code: protocol4}, 0, true
	case in.Type == Parameter6 && in.Code == 0:
		if rest >= uint32(len(pointer4)) || pointer4[rest] == none {
			return drop.Answer{}, 0, false
		}
		return drop.Answer{Type: Parameter4}, uint32(pointer4[rest]) << 24, true
	}
	return drop.Answer{}, 0, false
}

// IsTooBig6 reports whether a is a Packet Too Big, whose second word is an MTU.
func IsTooBig6(a drop.Answer) bool { return a.Type == TooBig6 }

// IsTooBig4 reports whether a is a Fragmentation Needed, whose second word is an MTU.
func IsTooBig4(a drop.Answer) bool { return a.Type == Unreachable4 && a.Code == needFragment4 }

// Plateaus are common MTUs, used when a router does not report the MTU of its link (RFC 1191 section 7).
var Plateaus = []uint16{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68}

// Plateau returns the path MTU that a Fragmentation Needed about a packet of total bytes implies: the reported mtu
// or, if that is 0, the largest plateau below total (RFC 1191 section 7). It returns 0 if there is no such plateau.
func Plateau(mtu uint32, total int, plateaus []uint16) uint32 {
	if mtu != 0 {
		return mtu
	}
	for _, p := range plateaus {
		if int(p) < total {
			return uint32(p)
		}
	}
	return 0
}

// MTU6 returns the MTU of the Packet Too Big that translates a Fragmentation Needed with the given mtu; mtu6 and mtu4
// are those of the next hops (RFC 7915 section 4.2). It is at least 1280 (RFC 8021).
func MTU6(mtu, mtu6, mtu4 uint32) uint32 { return max(MaxLen6, min(mtu+20, mtu6, mtu4+20)) }

// MTU4 returns the MTU of the Fragmentation Needed that translates a Packet Too Big with the given mtu; mtu6 and mtu4
// are those of the next hops (RFC 7915 section 5.2). Every IPv6 link has an MTU of at least 1280 (RFC 8200 section
// 5), so a smaller value, such as 0, is treated as 1280: the IPv4 host must neither fall back to a plateau nor send
// tiny packets. fragment means that the quoted packet has a Fragment header, whose 8 bytes the IPv4 packet does not
// need.
func MTU4(mtu, mtu6, mtu4 uint32, fragment bool) uint32 {
	less := uint32(20)
	if fragment {
		less = 28
	}
	return min(max(mtu, MaxLen6)-less, mtu4, max(mtu6, 20)-20, 0xffff)
}

// Extensible6 reports whether an ICMPv6 error can carry extensions (RFC 4884 section 4.6).
func Extensible6(a drop.Answer) bool { return a.Type == Unreachable6 || a.Type == TimeExceeded6 }

// Extensible4 reports whether an ICMP error can carry extensions (RFC 4884 section 4.6).
func Extensible4(a drop.Answer) bool {
	return a.Type == Unreachable4 || a.Type == TimeExceeded4 || a.Type == Parameter4
}
