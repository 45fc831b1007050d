//go:build linux

package nexthop

import (
	"net/netip"

	"nat64d/packet"
)

// flow is the common form of a packet.Selector6 or Selector4 for look-ups.
type flow struct {
	src, dst     netip.Addr
	sport, dport uint16
	proto, tos   uint8
	origin       packet.Origin
}

func flow6(s *packet.Selector6) flow {
	return flow{netip.AddrFrom16(s.Src), netip.AddrFrom16(s.Dst), s.SrcPort, s.DstPort, s.Proto, s.TOS, s.Origin}
}

func flow4(s *packet.Selector4) flow {
	return flow{netip.AddrFrom4(s.Src), netip.AddrFrom4(s.Dst), s.SrcPort, s.DstPort, s.Proto, s.TOS, s.Origin}
}
