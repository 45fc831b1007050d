package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/nexthop"
	"nat64d/packet"
)

// flow6 and flow4 return what the host's routing rules and IPsec policies see of a translated packet.
func (w *worker) flow6(o *packet.Out) nexthop.Flow6 {
	h := packet.IPv6(o.Head[packet.Headroom:])
	f := nexthop.Flow6{Src: *h.Src(), Dst: *h.Dst(), Proto: h.NextHeader(), TOS: h.TrafficClass(), Origin: w.origin()}
	f.SrcPort, f.DstPort = flowPorts(f.Proto, h[packet.IPv6Len:])
	return f
}

func (w *worker) flow4(o *packet.Out) nexthop.Flow4 {
	h := packet.IPv4(o.Head[packet.Headroom:])
	f := nexthop.Flow4{Src: *h.Src(), Dst: *h.Dst(), Proto: h.Protocol(), TOS: h.TOS(), Origin: w.origin()}
	f.SrcPort, f.DstPort = flowPorts(f.Proto, h[packet.IPv4Len:])
	return f
}

// back6 and back4 return the flow of a packet that would answer the received packet v.
func back6(v *packet.View) nexthop.Flow6 {
	h := v.IP6()
	return nexthop.Flow6{Src: *h.Dst(), Dst: *h.Src(), SrcPort: v.DstPort, DstPort: v.SrcPort, Proto: h.NextHeader(), Origin: nexthop.FromV4}
}

func back4(v *packet.View) nexthop.Flow4 {
	h := v.IP4()
	return nexthop.Flow4{Src: *h.Dst(), Dst: *h.Src(), SrcPort: v.DstPort, DstPort: v.SrcPort, Proto: h.Protocol(), Origin: nexthop.FromV6}
}

// origin returns where the packet at hand has arrived.
func (w *worker) origin() nexthop.Origin {
	if w.side == V6 {
		return nexthop.FromV6
	}
	return nexthop.FromV4
}

// errorFlow6 and errorFlow4 return the flows of ICMP errors of ours.
func errorFlow6(src, dst packet.Addr6, a drop.Answer) nexthop.Flow6 {
	return nexthop.Flow6{Src: src, Dst: dst, SrcPort: uint16(a.Type), DstPort: uint16(a.Code), Proto: packet.NumICMPv6, Origin: nexthop.FromHost}
}

func errorFlow4(src, dst packet.Addr4, a drop.Answer) nexthop.Flow4 {
	return nexthop.Flow4{Src: src, Dst: dst, SrcPort: uint16(a.Type), DstPort: uint16(a.Code), Proto: packet.NumICMP, Origin: nexthop.FromHost}
}

// flowPorts reads the ports of TCP and UDP, and the type and code of ICMP, which IPsec policies have in their place.
func flowPorts(proto uint8, transport []byte) (src, dst uint16) {
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
