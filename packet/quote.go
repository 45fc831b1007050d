package packet

import (
	"encoding/binary"

	"nat64d/drop"
)

// The fewest transport bytes of a quoted packet that contain its ports or its Identifier (RFC 6146 section 3.4).
const (
	minQuotedPorts = 4
	minQuotedEcho  = 8
)

// Quoted4 parses the IPv4 packet quoted by an ICMP error, which may be truncated anywhere after its ports. The
// gateway sent that packet, so the Identifier of an echo message is SrcPort. L4Len is the number of transport header
// bytes in the quote. The header checksum is not verified: routers quote a stale one or zero, and the checksum of the
// error covers the quote.
func (v *View) Quoted4(data []byte) drop.Reason {
	*v = View{}
	if len(data) < IPv4Len || data[0]>>4 != 4 {
		return drop.ICMPErrorInner
	}
	h := IPv4(data)
	v.L4, v.Number = h.HeaderLen(), h.Protocol()
	if v.L4 < IPv4Len || v.L4 > len(data) {
		return drop.ICMPErrorInner
	}
	v.Data = data
	if total := h.TotalLen(); total >= v.L4 { // a smaller value is no length: the quote of a super-packet above 64 KiB has 0
		v.Data = data[:min(len(data), total)]
	}
	w := binary.BigEndian.Uint16(h[6:])
	if w&fragMask != 0 { // the ports are in another fragment
		return drop.ICMPErrorInner
	}
	v.Fragmented, v.FragID = w&flagMF != 0, uint32(h.ID())
	return v.quoted(NumICMP, EchoRequest4, EchoReply4, &v.SrcPort)
}

// Quoted6 parses the IPv6 packet quoted by an ICMPv6 error, as Quoted4 does. The gateway sent that packet to the
// client, so the Identifier of an echo message is DstPort.
func (v *View) Quoted6(data []byte) drop.Reason {
	*v = View{}
	if len(data) < IPv6Len || data[0]>>4 != 6 {
		return drop.ICMPErrorInner
	}
	v.Data = data
	if n := IPv6(data).PayloadLen(); n != 0 { // the quote of a super-packet above 64 KiB has 0
		v.Data = data[:min(len(data), IPv6Len+n)]
	}
	if v.Extensions6() != drop.None || v.Routing != 0 {
		return drop.ICMPErrorInner
	}
	if v.Later() {
		return drop.ICMPErrorInner
	}
	return v.quoted(NumICMPv6, EchoRequest6, EchoReply6, &v.DstPort)
}

func (v *View) quoted(icmp, request, reply uint8, id *uint16) drop.Reason {
	h := v.Transport()
	switch {
	case v.Number == icmp && len(h) >= minQuotedEcho:
		v.Proto, v.L4Len, v.ICMPType = ICMP, ICMPLen, h[0]
		if h[0] != request && h[0] != reply {
			return drop.ICMPErrorInner
		}
		*id = binary.BigEndian.Uint16(h[4:])
		return drop.None
	case v.Number == NumTCP && len(h) >= minQuotedPorts:
		v.Proto, v.L4Len = TCP, min(len(h), TCPLen)
	case v.Number == NumUDP && len(h) >= minQuotedPorts:
		v.Proto, v.L4Len = UDP, min(len(h), UDPLen)
	default:
		return drop.ICMPErrorInner
	}
	v.SrcPort, v.DstPort = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
	return drop.None
}
