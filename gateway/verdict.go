package gateway

import (
	"encoding/binary"
	"net/netip"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
)

// Fate is what became of a packet.
type Fate uint8

// The fates. A packet that waits gets another Verdict when it has waited.
const (
	Forwarded     Fate = iota // its translation went into the outbox
	Dropped                   // for a Reason
	LeftToHost                // it is not for the gateway, for a Reason
	WaitsForHop               // for the link address of the next hop, or of the next hop of an ICMP error about it
	WaitsForPiece             // a fragment of a datagram that is not complete
	StoredSYN                 // a SYN from IPv4 that waits for the client's (RFC 6146 section 3.5.2.2)
)

// String returns the name of the fate in the API.
func (f Fate) String() string {
	return [...]string{"forwarded", "dropped", "left_to_host", "waits_for_hop", "waits_for_fragments", "stored_syn"}[f]
}

// Silence is why no ICMP error was sent for a packet whose drop reason has one.
type Silence uint8

// The kinds of silence.
const (
	NotSilent   Silence = iota
	NotEnabled          // the configuration disables it
	NotAllowed          // never sent about such a packet: an ICMP error, a fragment, a multicast (RFC 4443 section 2.4, RFC 1812 section 4.3.2.7)
	NoWayBack           // no source address or no next hop
	RateLimited         // too many lately
	Silences            // how many there are
)

// Verdict is what became of one packet, and why. It holds no pointers.
type Verdict struct {
	At     time.Duration // of the batch, as Options.Clock returns it
	Side   packet.Family // on which the packet arrived
	Fate   Fate
	Reason drop.Reason
	Waited bool   // it has waited for the link address of a next hop before
	Frames uint16 // received frames that it was reassembled from; 1 if it arrived whole

	In     Header          // as it arrived, or as it was reassembled; its Length is 0 if it is not known
	Flow   session.Flow    // of the packet, or the one that an ICMP error is about; without a session as far as it is known
	State  session.Outcome // of Flow
	Prefix pool6.Prefix    // of Flow
	Turned session.Flow    // of a packet that hairpins: the flow of its second half
	Passed Progress        // how far it came

	Out    Header // of the translation, or the first of its pieces; its Length is 0 if none left
	Pieces uint16 // packets that left; a super-packet is one
	Hop    packet.Hop

	Answer     Header // the ICMP error or the reset that was sent for it; its Length is 0 if none was
	AnswerRest uint32 // the second word of the ICMP error: the MTU in a Packet Too Big
	Silence    Silence
}

// Progress is a set of the steps that a packet has passed.
type Progress uint8

// The steps.
const (
	InPrefix Progress = 1 << iota // Flow.Prefix and Flow.Remote are those of its IPv6 destination
	Looked                        // Flow and State are results of the tables
	Hairpins                      // RFC 6146 section 3.8
	Found                         // Hop is known
)

// Has reports whether p contains all steps of q.
func (p Progress) Has(q Progress) bool { return p&q == q }

// Header is what the headers of a packet contain. IPv4 addresses are IPv4-mapped.
type Header struct {
	Family   packet.Family
	Src, Dst packet.Endpoint6 // with the ports of TCP and UDP
	Number   uint8            // of the protocol
	Type     uint8            // ICMP
	Code     uint8            // ICMP
	Flags    uint8            // TCP
	HopLimit uint8            // or TTL
	Fragment bool             // a piece of a datagram
	DF       bool             // IPv4: Don't Fragment
	ID       uint16           // Identifier of an ICMP echo message
	Length   uint32           // of the IP packet; of a super-packet the whole
	Segment  uint16           // payload bytes of each segment of a super-packet; 0: it is none
}

// Source returns the source with its port.
func (h *Header) Source() netip.AddrPort { return addrPort(&h.Src) }

// Destination returns the destination with its port.
func (h *Header) Destination() netip.AddrPort { return addrPort(&h.Dst) }

func addrPort(e *packet.Endpoint6) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.Addr).Unmap(), e.Port)
}

// Echo reports whether the packet is an ICMP echo message, whose ID is valid.
func (h *Header) Echo() bool {
	switch h.Number {
	case packet.NumICMP:
		return h.Type == packet.EchoRequest4 || h.Type == packet.EchoReply4
	case packet.NumICMPv6:
		return h.Type == packet.EchoRequest6 || h.Type == packet.EchoReply6
	}
	return false
}

// read sets the header to what b contains, which begins with an IP header and may end before the packet does. length is that of
// the whole packet. It reads malformed headers as far as possible.
func (h *Header) read(b []byte, length int, off *packet.Offload) {
	*h = Header{Length: uint32(length)}
	if off.GSO != packet.GSONone {
		h.Segment = off.GSOSize
	}
	var rest []byte
	switch {
	case len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		rest = h.read6(b)
	case len(b) >= packet.IPv4Len && b[0]>>4 == 4:
		rest = h.read4(b)
	}
	h.transport(rest)
}

// read6 and read4 return what begins with the transport header, nil in a later fragment.
func (h *Header) read6(b packet.IPv6) []byte {
	h.Family, h.Src.Addr, h.Dst.Addr, h.HopLimit = packet.V6, *b.Src(), *b.Dst(), b.HopLimit()
	h.Number = b.NextHeader()
	rest := []byte(b[packet.IPv6Len:])
	for len(rest) >= 8 {
		size := int(rest[1])*8 + 8
		switch h.Number {
		case packet.NumFragment:
			size = packet.FragLen
			where := binary.BigEndian.Uint16(rest[2:])
			h.Fragment = where&^6 != 0
			if where>>3 != 0 {
				h.Number = rest[0]
				return nil
			}
		case packet.NumHopByHop, packet.NumRouting, packet.NumDestOpts:
		default:
			return rest
		}
		h.Number = rest[0]
		rest = rest[min(size, len(rest)):]
	}
	return rest
}

func (h *Header) read4(b packet.IPv4) []byte {
	h.Family, h.Src.Addr, h.Dst.Addr, h.HopLimit = packet.V4, mapped4(*b.Src()), mapped4(*b.Dst()), b.TTL()
	h.Number, h.DF = b.Protocol(), b.DF()
	h.Fragment = binary.BigEndian.Uint16(b[6:])&0x3fff != 0
	n := b.HeaderLen()
	if b.Offset() != 0 || n > len(b) || n < packet.IPv4Len {
		return nil
	}
	return b[n:]
}

func (h *Header) transport(b []byte) {
	switch {
	case len(b) < packet.UDPLen:
	case h.Number == packet.NumTCP || h.Number == packet.NumUDP:
		h.Src.Port, h.Dst.Port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if h.Number == packet.NumTCP && len(b) >= packet.TCPLen {
			h.Flags = b[13]
		}
	case h.Number == packet.NumICMP || h.Number == packet.NumICMPv6:
		h.Type, h.Code = b[0], b[1]
		if h.Echo() {
			h.ID = binary.BigEndian.Uint16(b[4:])
		}
	}
}

// ipLength returns the length of the IP packet that b begins with: that in its header, or of b if the header has none that fits.
func ipLength(b []byte) int {
	n := 0
	switch {
	case len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		if n = packet.IPv6(b).PayloadLen(); n != 0 {
			n += packet.IPv6Len
		}
	case len(b) >= packet.IPv4Len && b[0]>>4 == 4:
		n = packet.IPv4(b).TotalLen()
	}
	if n == 0 || n > len(b) {
		return len(b)
	}
	return n
}

// mapped4 returns an IPv4 address as an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
func mapped4(a packet.Addr4) packet.Addr6 {
	return packet.Addr6{10: 0xff, 11: 0xff, 12: a[0], 13: a[1], 14: a[2], 15: a[3]}
}
