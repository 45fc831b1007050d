package packet

import "encoding/binary"

// Ports are the protocol and the ports of a packet at a glance.
type Ports struct {
	Proto    Proto
	Src, Dst uint16 // both are the Identifier of an ICMP message
}

// Peek6 returns the ports of an IPv6 packet that needs no parsing: one without extension headers. Nothing is checked, so
// it only serves to prepare for the packet; data is at least an IPv6 header if ok is true.
func Peek6(data []byte) (p Ports, ok bool) {
	if len(data) < IPv6Len {
		return Ports{}, false
	}
	return peek(data[IPv6Len:], IPv6(data).NextHeader(), NumICMPv6)
}

// Peek4 returns the ports of an IPv4 packet that is not a fragment, as Peek6 does.
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

// peek reads what lies at the same place in all transport headers.
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
