package egress

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// Hops looks up next hops; nexthop.Cache implements it. Pending means that the link address is not known yet: query
// again when the routes have changed. It need not be safe for concurrent use.
type Hops interface {
	Hop6(f *packet.Selector6) (h packet.Hop, pending bool, r drop.Reason)
	Hop4(f *packet.Selector4) (h packet.Hop, pending bool, r drop.Reason)
}

// selectors is the memory of the selectors that Hops is asked with, one of each family. A local variable would be allocated,
// because Hops is an interface, and a copy of what has just been written in small pieces makes the processor wait. Each method
// that returns a pointer to one writes all of its fields; the next call for the family overwrites it.
type selectors struct {
	six  packet.Selector6
	four packet.Selector4
}

// Hop6 and Hop4 return the next hop, with the configured MTU if that is less than the route's.
func (s *Sender) Hop6(f *packet.Selector6) (h packet.Hop, pending bool, r drop.Reason) {
	h, pending, r = s.hops.Hop6(f)
	if s.conf.MTU6 != 0 {
		h.MTU = min(h.MTU, s.conf.MTU6)
	}
	return h, pending, r
}

func (s *Sender) Hop4(f *packet.Selector4) (h packet.Hop, pending bool, r drop.Reason) {
	h, pending, r = s.hops.Hop4(f)
	if s.conf.MTU4 != 0 {
		h.MTU = min(h.MTU, s.conf.MTU4)
	}
	return h, pending, r
}

// MTU6 and MTU4 return the MTUs of next hops for the computations of RFC 7915 sections 4.2 and 5.2. Without a next
// hop there is no limit.
func (s *Sender) MTU6(f *packet.Selector6) uint32 {
	if h, _, r := s.Hop6(f); r == drop.None {
		return h.MTU
	}
	return 0xffff
}

func (s *Sender) MTU4(f *packet.Selector4) uint32 {
	if h, _, r := s.Hop4(f); r == drop.None {
		return h.MTU
	}
	return 0xffff
}

// Leaving6 and Leaving4 return the selectors of a translated packet.
func (s *Sender) Leaving6(o *packet.Out) *packet.Selector6 {
	h, f := packet.IPv6(o.Head[packet.Headroom:]), &s.selectors.six
	f.Src, f.Dst = *h.Src(), *h.Dst()
	f.Proto, f.TOS, f.Origin = h.NextHeader(), h.TrafficClass(), s.origin
	f.SrcPort, f.DstPort = ports(f.Proto, h[packet.IPv6Len:])
	return f
}

func (s *Sender) Leaving4(o *packet.Out) *packet.Selector4 {
	h, f := packet.IPv4(o.Head[packet.Headroom:]), &s.selectors.four
	f.Src, f.Dst = *h.Src(), *h.Dst()
	f.Proto, f.TOS, f.Origin = h.Protocol(), h.TOS(), s.origin
	f.SrcPort, f.DstPort = ports(f.Proto, h[packet.IPv4Len:])
	return f
}

// Reply6 and Reply4 return the selectors of a reply to the received packet v.
func (s *Sender) Reply6(v *packet.View) *packet.Selector6 {
	h, f := v.IP6(), &s.selectors.six
	f.Src, f.Dst, f.SrcPort, f.DstPort = *h.Dst(), *h.Src(), v.DstPort, v.SrcPort
	f.Proto, f.TOS, f.Origin = h.NextHeader(), 0, packet.FromV4
	return f
}

func (s *Sender) Reply4(v *packet.View) *packet.Selector4 {
	h, f := v.IP4(), &s.selectors.four
	f.Src, f.Dst, f.SrcPort, f.DstPort = *h.Dst(), *h.Src(), v.DstPort, v.SrcPort
	f.Proto, f.TOS, f.Origin = h.Protocol(), 0, packet.FromV6
	return f
}

// Select6 and Select4 return a copy of f in the memory for queries.
func (s *Sender) Select6(f packet.Selector6) *packet.Selector6 {
	s.selectors.six = f
	return &s.selectors.six
}

func (s *Sender) Select4(f packet.Selector4) *packet.Selector4 {
	s.selectors.four = f
	return &s.selectors.four
}

// ports reads the ports of TCP and UDP, or the type and code of ICMP, which IPsec policies match in their place.
func ports(proto uint8, transport []byte) (src, dst uint16) {
	switch {
	case len(transport) < 4:
		return 0, 0
	case proto == packet.NumTCP || proto == packet.NumUDP:
		return binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	case proto == packet.NumICMP || proto == packet.NumICMPv6:
		return uint16(transport[0]), uint16(transport[1])
	}
	return 0, 0
}

const etherTypeAt = packet.Headroom - 2

// ethernet writes the link header for a packet of a family into o.
func ethernet(o *packet.Out, f packet.Family, h *packet.Hop) {
	copy(o.Head[packet.VnetLen:], h.Dst[:])
	copy(o.Head[packet.VnetLen+6:], h.Src[:])
	o.Head[etherTypeAt], o.Head[etherTypeAt+1] = 0x86, 0xdd
	if f == packet.V4 {
		o.Head[etherTypeAt], o.Head[etherTypeAt+1] = 0x08, 0x00
	}
}
