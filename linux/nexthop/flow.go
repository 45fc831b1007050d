//go:build linux

package nexthop

import (
	"net/netip"

	"nat64d/packet"
)

// Flow6 is what the kernel's routing rules and IPsec policies tell IPv6 packets apart by, beside their length: the packet
// as it leaves. Packets here have no mark.
type Flow6 struct {
	Src, Dst         packet.Addr6
	SrcPort, DstPort uint16 // of ICMPv6: type and code
	Proto            uint8  // the number in the IP header
	TOS              uint8  // the traffic class
	Origin           Origin
}

// Flow4 is Flow6 for IPv4.
type Flow4 struct {
	Src, Dst         packet.Addr4
	SrcPort, DstPort uint16 // of ICMP: type and code
	Proto            uint8
	TOS              uint8
	Origin           Origin
}

// Client is on whose behalf a way is looked for: an IPv6 address and the prefix that makes a client, or an IPv4 address,
// mapped (RFC 4291 section 2.5.5.2), which is both.
type Client struct{ Addr, Prefix packet.Addr6 }

// Origin says where a packet comes from: the kernel's rules can ask for the incoming interface.
type Origin uint8

// The origins.
const (
	FromV6   Origin = iota // it has arrived on the v6 interface
	FromV4                 // it has arrived on the v4 interface
	FromHost               // it is the gateway's own: an ICMP error, a probe
)

// flow is a Flow6 or Flow4 as look-ups use it.
type flow struct {
	src, dst     netip.Addr
	sport, dport uint16
	proto, tos   uint8
	origin       Origin
}

func (f *Flow6) flow() flow {
	return flow{netip.AddrFrom16(f.Src), netip.AddrFrom16(f.Dst), f.SrcPort, f.DstPort, f.Proto, f.TOS, f.Origin}
}

func (f *Flow4) flow() flow {
	return flow{netip.AddrFrom4(f.Src), netip.AddrFrom4(f.Dst), f.SrcPort, f.DstPort, f.Proto, f.TOS, f.Origin}
}
