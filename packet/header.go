package packet

import "encoding/binary"

// Lengths of headers in bytes.
const (
	IPv6Len = 40
	IPv4Len = 20 // without options
	FragLen = 8  // IPv6 Fragment header
	TCPLen  = 20 // without options
	UDPLen  = 8
	ICMPLen = 8
)

// Protocol numbers (IANA).
const (
	NumHopByHop = 0
	NumICMP     = 1
	NumIGMP     = 2
	NumTCP      = 6
	NumUDP      = 17
	NumRouting  = 43
	NumFragment = 44
	NumAuth     = 51
	NumICMPv6   = 58
	NumDestOpts = 60
)

// Offsets of the checksum field in each transport header.
const (
	TCPChecksum  = 16
	UDPChecksum  = 6
	ICMPChecksum = 2
)

// Flags of a TCP header (RFC 9293 section 3.1), in its byte 13.
const (
	FlagFIN = 0x01
	FlagSYN = 0x02
	FlagRST = 0x04
	FlagPSH = 0x08
	FlagACK = 0x10
	FlagCWR = 0x80
)

// ICMP types (RFC 792, RFC 4443).
const (
	EchoReply4   = 0
	EchoRequest4 = 8
	EchoRequest6 = 128
	EchoReply6   = 129
)

// IPv6 is an IPv6 packet (RFC 8200 section 3) of at least IPv6Len bytes:
//
//	0                   1                   2                   3
//	0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|Version| Traffic Class |           Flow Label                  |
//	|         Payload Length        |  Next Header  |   Hop Limit   |
//	|                      Source Address (16)                      |
//	|                    Destination Address (16)                   |
type IPv6 []byte

// TrafficClass returns DSCP and ECN.
func (h IPv6) TrafficClass() uint8 { return h[0]<<4 | h[1]>>4 }

// PayloadLen returns the Payload Length field, in bytes.
func (h IPv6) PayloadLen() int { return int(binary.BigEndian.Uint16(h[4:])) }

// NextHeader returns the first Next Header field.
func (h IPv6) NextHeader() uint8 { return h[6] }

// HopLimit returns the Hop Limit field.
func (h IPv6) HopLimit() uint8 { return h[7] }

// Src returns the source address, in place.
func (h IPv6) Src() *Addr6 { return (*Addr6)(h[8:24]) }

// Dst returns the destination address, in place.
func (h IPv6) Dst() *Addr6 { return (*Addr6)(h[24:40]) }

// Put writes the whole header. Its Flow Label is 0.
func (h IPv6) Put(tc uint8, payload int, next, hops uint8, src, dst *Addr6) {
	_ = h[IPv6Len-1]
	binary.BigEndian.PutUint64(h, 6<<60|uint64(tc)<<52|uint64(uint16(payload))<<16|uint64(next)<<8|uint64(hops))
	*h.Src(), *h.Dst() = *src, *dst
}

// IPv4 is an IPv4 packet (RFC 791 section 3.1) of at least IPv4Len bytes:
//
//	0                   1                   2                   3
//	0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|Version|  IHL  |Type of Service|          Total Length         |
//	|         Identification        |Flags|      Fragment Offset    |
//	|  Time to Live |    Protocol   |         Header Checksum       |
//	|                       Source Address                          |
//	|                    Destination Address                        |
type IPv4 []byte

// Bits of the word that contains the fragment offset.
const (
	flagDF   = 0x4000
	flagMF   = 0x2000
	fragMask = 0x1fff
)

// HeaderLen returns the length of the header with its options, in bytes.
func (h IPv4) HeaderLen() int { return int(h[0]&0x0f) * 4 }

// TOS returns DSCP and ECN.
func (h IPv4) TOS() uint8 { return h[1] }

// TotalLen returns the Total Length field, in bytes.
func (h IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(h[2:])) }

// ID returns the Identification field.
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// DF returns the Don't Fragment flag.
func (h IPv4) DF() bool { return binary.BigEndian.Uint16(h[6:])&flagDF != 0 }

// Offset returns the fragment offset, in units of 8 bytes.
func (h IPv4) Offset() uint16 { return binary.BigEndian.Uint16(h[6:]) & fragMask }

// TTL returns the Time to Live field.
func (h IPv4) TTL() uint8 { return h[8] }

// PutTTL replaces the Time to Live and updates the header checksum.
func (h IPv4) PutTTL(ttl uint8) {
	const at, checksum = 8, 10 // offset of the word with the TTL, and of the checksum
	s := Sum(0).Less(binary.BigEndian.Uint16(h[at:]))
	h[at] = ttl
	s = s.Word(binary.BigEndian.Uint16(h[at:]))
	binary.BigEndian.PutUint16(h[checksum:], s.Adjust(binary.BigEndian.Uint16(h[checksum:])))
}

// Protocol returns the Protocol field.
func (h IPv4) Protocol() uint8 { return h[9] }

// Src returns the source address, in place.
func (h IPv4) Src() *Addr4 { return (*Addr4)(h[12:16]) }

// Dst returns the destination address, in place.
func (h IPv4) Dst() *Addr4 { return (*Addr4)(h[16:20]) }

// Fields4 are the fields of an IPv4 header that cannot be derived from payload and addresses.
type Fields4 struct {
	TOS   uint8
	TTL   uint8
	Proto uint8
	DF    bool
	MF    bool
	ID    uint16
}

// Put writes the whole header without options and computes its checksum; total is the Total Length in bytes.
func (h IPv4) Put(f Fields4, total int, src, dst *Addr4) {
	_ = h[IPv4Len-1]
	first := 0x45<<56 | uint64(f.TOS)<<48 | uint64(uint16(total))<<32 | uint64(f.ID)<<16
	if f.DF {
		first |= flagDF
	}
	if f.MF {
		first |= flagMF
	}
	third := uint32(f.TTL)<<24 | uint32(f.Proto)<<16
	third |= uint32(Sum(first).add(uint64(third)).Addr4(src).Addr4(dst).Checksum())
	binary.BigEndian.PutUint64(h, first)
	binary.BigEndian.PutUint32(h[8:], third)
	*h.Src(), *h.Dst() = *src, *dst
}
