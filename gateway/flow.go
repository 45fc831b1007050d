package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// flows is one flow of each family. A worker makes those that it asks Hops for in its own memory: a local variable would be
// allocated, because Hops is an interface, and a copy of what has just been written in small pieces makes the processor
// wait.
type flows struct {
	six  packet.Selector6
	four packet.Selector4
}

// flow6 and flow4 return what the host's routing rules and IPsec policies see of a translated packet. The next flow of the
// family takes its place.
func (w *worker) flow6(o *packet.Out) *packet.Selector6 {
	h, f := packet.IPv6(o.Head[packet.Headroom:]), &w.flows.six
	f.Src, f.Dst = *h.Src(), *h.Dst()
	f.Proto, f.TOS, f.Origin = h.NextHeader(), h.TrafficClass(), w.origin()
	f.SrcPort, f.DstPort = flowPorts(f.Proto, h[packet.IPv6Len:])
	return f
}

func (w *worker) flow4(o *packet.Out) *packet.Selector4 {
	h, f := packet.IPv4(o.Head[packet.Headroom:]), &w.flows.four
	f.Src, f.Dst = *h.Src(), *h.Dst()
	f.Proto, f.TOS, f.Origin = h.Protocol(), h.TOS(), w.origin()
	f.SrcPort, f.DstPort = flowPorts(f.Proto, h[packet.IPv4Len:])
	return f
}

// back6 and back4 return the flow of a packet that would answer the received packet v, as flow6 and flow4 do.
func (w *worker) back6(v *packet.View) *packet.Selector6 {
	h, f := v.IP6(), &w.flows.six
	f.Src, f.Dst, f.SrcPort, f.DstPort = *h.Dst(), *h.Src(), v.DstPort, v.SrcPort
	f.Proto, f.TOS, f.Origin = h.NextHeader(), 0, packet.FromV4
	return f
}

func (w *worker) back4(v *packet.View) *packet.Selector4 {
	h, f := v.IP4(), &w.flows.four
	f.Src, f.Dst, f.SrcPort, f.DstPort = *h.Dst(), *h.Src(), v.DstPort, v.SrcPort
	f.Proto, f.TOS, f.Origin = h.Protocol(), 0, packet.FromV6
	return f
}

// origin returns where the packet at hand has arrived.
func (w *worker) origin() packet.Origin {
	if w.side == V6 {
		return packet.FromV6
	}
	return packet.FromV4
}

// errorFlow6 and errorFlow4 return the flows of ICMP errors of ours, as flow6 and flow4 do.
func (w *worker) errorFlow6(src, dst packet.Addr6, a drop.Answer) *packet.Selector6 {
	w.flows.six = packet.Selector6{Src: src, Dst: dst, SrcPort: uint16(a.Type), DstPort: uint16(a.Code), Proto: packet.NumICMPv6, Origin: packet.FromHost}
	return &w.flows.six
}

func (w *worker) errorFlow4(src, dst packet.Addr4, a drop.Answer) *packet.Selector4 {
	w.flows.four = packet.Selector4{Src: src, Dst: dst, SrcPort: uint16(a.Type), DstPort: uint16(a.Code), Proto: packet.NumICMP, Origin: packet.FromHost}
	return &w.flows.four
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
