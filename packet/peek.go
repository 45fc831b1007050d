package packet

import "encoding/binary"

// Ports are the protocol and the ports of a packet, read without validation.
type Ports struct {
	Proto    Proto
	Src, Dst uint16 // both are the Identifier of an ICMP echo message
}

// Peek6 reads the ports of an IPv6 packet without extension headers. It validates nothing, so its result may only be
// used to prefetch table entries. If ok is true, data holds at least an IPv6 header.
func Peek6(data []byte) (p Ports, ok bool) {
	if len(data) < IPv6Len {
		return Ports{}, false
	}
	return peek(data[IPv6Len:], IPv6(data).NextHeader(), NumICMPv6)
}

// Peek4 does the same for an IPv4 packet that is not a fragment.
func Peek4(data []byte) (p Ports, ok bool) {
	if len(data) < IPv4Len {
		return Ports{}, false
	}
	h := IPv4(data)
	n := h.HeaderLen()
	if n > len(data) || h.Offset() != 0 {
		return Ports{}, false
	}
	return peek(data[n:], h.Protocol(), NumICMP)
}

// peek reads the ports, which have the same offset in all transport headers.
func peek(h []byte, number, icmp uint8) (Ports, bool) {
	if len(h) < UDPLen {
		return Ports{}, false
	}
	p := Ports{Src: binary.BigEndian.Uint16(h), Dst: binary.BigEndian.Uint16(h[2:])}
	switch number {
	case NumTCP:
		p.Proto = TCP
	case NumUDP:
		p.Proto = UDP
	case icmp:
		id := binary.BigEndian.Uint16(h[4:])
		p = Ports{ICMP, id, id}
	default:
		return Ports{}, false
	}
	return p, true
}
