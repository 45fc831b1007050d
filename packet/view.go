package packet

import (
	"encoding/binary"

	"nat64d/drop"
)

// View is the result of parsing one IP packet. Parse6 and Parse4 read the IP header, Extensions6 the IPv6 extension
// headers, Transport6 and Transport4 the transport header. The caller calls them in that order and makes its own
// checks between them. Data is the caller's memory.
type View struct {
	Data []byte // exactly the IP packet, without link-layer padding

	L4       int      // offset of the transport header
	L4Len    int      // length of the transport header in bytes: 8 to 60 for TCP, 8 for UDP and ICMP
	Number   uint8    // protocol number on the wire
	Proto    Proto    // valid if Transport6 or Transport4 returned None
	SrcPort  uint16   // the Identifier in an ICMP query from IPv6
	DstPort  uint16   // the Identifier in an ICMP query from IPv4
	Event    TCPEvent // TCP only
	ICMPType uint8    // ICMP only
	Error    bool     // an ICMP error: has no ports, but quotes a packet that has them

	Routing    int    // offset of Segments Left in a Routing header with segments left; 0: there is none
	Fragmented bool   // has a Fragment header, or is an IPv4 fragment
	FragID     uint32 // valid if Fragmented
}

// IP6 returns the packet as an IPv6 packet.
func (v *View) IP6() IPv6 { return v.Data }

// IP4 returns the packet as an IPv4 packet.
func (v *View) IP4() IPv4 { return v.Data }

// Transport returns the transport header and the payload.
func (v *View) Transport() []byte { return v.Data[v.L4:] }

// ChecksumAt returns the offset of the checksum field in the transport header.
func (v *View) ChecksumAt() int {
	return [Protos]int{TCP: TCPChecksum, UDP: UDPChecksum, ICMP: ICMPChecksum}[v.Proto]
}

// Parse6 validates the IPv6 header of data (RFC 8200 section 3) and cuts data to the length of the packet.
func (v *View) Parse6(data []byte) drop.Reason {
	*v = View{}
	if len(data) < IPv6Len || data[0]>>4 != 6 {
		return drop.Header6
	}
	end := IPv6Len + IPv6(data).PayloadLen()
	if end > len(data) {
		return drop.Truncated
	}
	v.Data = data[:end]
	return drop.None
}

// Parse4 validates the IPv4 header of data and its checksum (RFC 1812 section 5.2.2), and cuts data to the length of
// the packet.
func (v *View) Parse4(data []byte) drop.Reason {
	*v = View{}
	if len(data) < IPv4Len || data[0]>>4 != 4 {
		return drop.Header4
	}
	h := IPv4(data)
	hlen, total := h.HeaderLen(), h.TotalLen()
	if hlen < IPv4Len || total < hlen {
		return drop.Header4
	}
	if total > len(data) {
		return drop.Truncated
	}
	if Sum(0).Bytes(data[:hlen]).Fold() != 0xffff {
		return drop.HeaderChecksum4
	}
	v.Data, v.L4, v.Number = data[:total], hlen, h.Protocol()
	return drop.None
}

// Extension headers that are not skipped. A stateful NAT64 treats them as unknown transports; after a Fragment header
// they are misplaced (RFC 7915 section 5.1.1).
const (
	numMobility = 135
	numHIP      = 139
	numShim6    = 140
)

// Bounds of the walk along IPv6 extension headers, against packets that consist of headers only. The values are our
// own choice.
const (
	maxExtensions     = 16
	maxExtensionBytes = 512
)

// Extensions6 walks the extension headers of an IPv6 packet up to its transport header (RFC 7915 section 5.1).
func (v *View) Extensions6() drop.Reason {
	v.L4, v.Number = IPv6Len, v.IP6().NextHeader()
	for range maxExtensions {
		switch v.Number {
		case NumHopByHop, NumRouting, NumDestOpts, NumFragment:
		case NumAuth, numMobility, numHIP, numShim6:
			if v.Fragmented {
				return drop.ExtensionHeaders
			}
			return drop.None
		default:
			return drop.None
		}
		if len(v.Data)-v.L4 < 8 || v.L4 > IPv6Len+maxExtensionBytes || v.Fragmented {
			// No header may stand between the Fragment header and the transport header (RFC 7915 section 5.1.1).
			return drop.ExtensionHeaders
		}
		size := v.extension(v.Data[v.L4:])
		if size > len(v.Data)-v.L4 {
			return drop.ExtensionHeaders
		}
		v.Number = v.Data[v.L4]
		v.L4 += size
	}
	return drop.ExtensionHeaders
}

// extension records the relevant fields of the extension header h and returns its size in bytes.
func (v *View) extension(h []byte) int {
	switch {
	case v.Number == NumFragment:
		v.Fragmented, v.FragID = true, binary.BigEndian.Uint32(h[4:])
		return FragLen
	case v.Number == NumRouting && h[3] != 0 && v.Routing == 0:
		v.Routing = v.L4 + 3
	}
	return int(h[1])*8 + 8
}

// Headers6 reads all headers after the IPv6 header: Extensions6, then Transport6.
func (v *View) Headers6() drop.Reason {
	if r := v.Extensions6(); r != drop.None {
		return r
	}
	return v.Transport6()
}

// Transport6 reads the transport header of an IPv6 packet. The caller has called Extensions6.
func (v *View) Transport6() drop.Reason {
	if v.Fragmented && !v.atomic() {
		return drop.Fragment
	}
	if v.Number == NumICMPv6 {
		return v.icmp(&v.SrcPort, EchoRequest6, EchoReply6)
	}
	return v.ports()
}

// error6 reports whether t is an ICMPv6 error type (RFC 4443 section 2.1). error4 reports whether t is an ICMP error
// type that has a counterpart in ICMPv6 (RFC 7915 section 4.2).
func error6(t uint8) bool { return t < 128 }

func error4(t uint8) bool { return t == 3 || t == 11 || t == 12 }

// Later reports whether the packet is an IPv6 fragment other than the first, which has no transport header.
func (v *View) Later() bool {
	return v.Fragmented && binary.BigEndian.Uint16(v.Data[v.L4-FragLen+2:])&0xfff8 != 0
}

// atomic reports whether the Fragment header before L4 belongs to an atomic fragment (RFC 6946): offset and M are
// zero.
func (v *View) atomic() bool {
	return binary.BigEndian.Uint16(v.Data[v.L4-FragLen+2:])&0xfff9 == 0
}

// SourceRouted reports whether an IPv4 packet has an unexpired source route option (RFC 7915 section 4.1).
func (v *View) SourceRouted() bool {
	return v.L4 > IPv4Len && sourceRoute(v.Data[IPv4Len:v.L4])
}

// Transport4 reads the transport header of an IPv4 packet.
func (v *View) Transport4() drop.Reason {
	h := v.IP4()
	if w := binary.BigEndian.Uint16(h[6:]); w&(flagMF|fragMask) != 0 {
		v.Fragmented, v.FragID = true, uint32(h.ID())
		return drop.Fragment
	}
	if v.Number == NumICMP {
		return v.icmp(&v.DstPort, EchoRequest4, EchoReply4)
	}
	return v.ports()
}

// sourceRoute reports whether the options contain a loose (131) or strict (137) source route whose pointer is within
// its length.
func sourceRoute(options []byte) bool {
	for len(options) > 0 && options[0] != 0 {
		if options[0] == 1 {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return false
		}
		kind, size := options[0], options[1]
		if (kind == 131 || kind == 137) && size >= 3 && options[2] <= size {
			return true
		}
		options = options[size:]
	}
	return false
}

func (v *View) ports() drop.Reason {
	h := v.Transport()
	switch v.Number {
	case NumTCP:
		if r := v.tcp(h); r != drop.None {
			return r
		}
	case NumUDP:
		if len(h) < UDPLen {
			return drop.UDPHeader
		}
		v.Proto, v.L4Len = UDP, UDPLen
		if n := int(binary.BigEndian.Uint16(h[4:])); n < UDPLen || n > len(h) {
			return drop.UDPHeader
		}
	default:
		return drop.UnknownTransport
	}
	v.SrcPort, v.DstPort = binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:])
	return drop.None
}

func (v *View) tcp(h []byte) drop.Reason {
	if len(h) < TCPLen {
		return drop.TCPHeader
	}
	v.Proto, v.L4Len = TCP, int(h[12]>>4)*4
	if v.L4Len < TCPLen || v.L4Len > len(h) {
		return drop.TCPHeader
	}
	var ok bool
	v.Event, ok = tcpEvent(h[13])
	if !ok {
		return drop.TCPHeader
	}
	return drop.None
}

// tcpEvent returns the event for the flags. It returns false for a segment without any flag and for SYN combined with
// FIN or RST: no TCP sends these.
func tcpEvent(flags uint8) (TCPEvent, bool) {
	syn := flags&FlagSYN != 0
	switch {
	case flags&0x3f == 0, syn && flags&(FlagFIN|FlagRST) != 0:
		return Other, false
	case flags&FlagRST != 0:
		return RST, true
	case syn:
		return SYN, true
	case flags&FlagFIN != 0:
		return FIN, true
	}
	return Other, true
}

func (v *View) icmp(id *uint16, request, reply uint8) drop.Reason {
	h := v.Transport()
	if len(h) < ICMPLen {
		return drop.ICMPHeader
	}
	v.Proto, v.L4Len, v.ICMPType = ICMP, ICMPLen, h[0]
	if v.Number == NumICMPv6 && error6(h[0]) || v.Number == NumICMP && error4(h[0]) {
		v.Error = true
		return drop.None
	}
	if h[0] != request && h[0] != reply || h[1] != 0 {
		return drop.ICMPType
	}
	*id = binary.BigEndian.Uint16(h[4:])
	return drop.None
}
