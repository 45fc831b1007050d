// Package fragment reassembles and splits datagrams within bounds of memory and time (RFC 791 section 3.2, RFC 8200
// section 4.5, RFC 5722, RFC 1858). A NAT64 has to: only the first fragment has the ports, and the checksums of ICMP and
// of UDP datagrams that came without one need the whole (RFC 6146 section 3.4). The path of whole packets does not come
// here.
package fragment

import (
	"cmp"
	"encoding/binary"
	"math"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// Limits bound what waits for the rest of its datagram. Where one of them is reached, the oldest datagram makes way: of its
// source at a limit of the source, of all at the limit of all. A zero field means its default.
type Limits struct {
	Time           time.Duration // from the first fragment's arrival to the last one's; 2 s, the least that RFC 6146 section 3.4 allows
	Bytes          int           // memory of all fragments; 16 MiB
	PerSourceBytes int           // memory of one source's fragments; 1 MiB
	PerSource      int           // fragments of one source; 0: no limit but that of memory
	PrefixLen      int           // addresses of one IPv6 prefix of this length are one source; 128
}

func (l Limits) withDefaults() Limits {
	if l.Time == 0 {
		l.Time = 2 * time.Second
	}
	l.Bytes = cmp.Or(l.Bytes, 16<<20)
	l.PerSourceBytes = cmp.Or(l.PerSourceBytes, 1<<20)
	l.PerSource = cmp.Or(l.PerSource, math.MaxInt)
	l.PrefixLen = cmp.Or(l.PrefixLen, 128)
	return l
}

// Whole is a datagram that has become whole. The zero value stands for one that has not.
type Whole struct {
	// Data is an IP packet of the family in which its fragments came: the headers of its first fragment, without a
	// Fragment header, then the payloads of all. The memory is the Reassembler's and is valid until the next Release.
	Data []byte
	// ID is the Identification: 32 bits in IPv6, 16 in IPv4.
	ID uint32
	// Largest is the most payload that one fragment brought, in bytes behind the IP header and the Fragment header. Who
	// splits the datagram again into pieces with no more payload than that makes none larger than what came.
	Largest int
	// DF says that an IPv4 fragment came with Don't Fragment; Data has the flag, too. RFC 7915 section 4 forbids to make
	// such fragments smaller.
	DF bool
}

// header is what there is to know of one fragment.
type header struct {
	key    key
	ip     []byte // its IP headers up to the Fragment header
	data   []byte
	offset int // where data belongs in the payload of the datagram, in bytes
	next   uint8
	more   bool // it is not the last
	df     bool
	ce     bool // congestion experienced
}

// Add6 takes the IPv6 fragment in v, of which Parse6 and Extensions6 have returned drop.None, and which is not atomic:
// an atomic fragment is a whole packet (RFC 6946). It keeps a copy, or, when the fragment completes its datagram, returns
// that. A refused fragment that the sender is to be told of has a reason with an Answer6; Pointer says where it points.
func (r *Reassembler) Add6(v *packet.View, now time.Duration) (Whole, drop.Reason) {
	at := v.L4 - packet.FragLen
	ip, word := v.IP6(), binary.BigEndian.Uint16(v.Data[at+2:])
	f := header{
		key:    key{src: *ip.Src(), dst: *ip.Dst(), id: v.FragID},
		ip:     v.Data[:at],
		data:   v.Transport(),
		offset: int(word &^ 7),
		next:   v.Number,
		more:   word&1 != 0,
		ce:     ip.TrafficClass()&ecnCE == ecnCE,
	}
	if bad := f.check(at-packet.IPv6Len, packet.NumICMPv6); bad != drop.None {
		return Whole{}, bad
	}
	return r.add(&f, now)
}

// Add4 takes the IPv4 fragment in v, of which Parse4 has returned drop.None, as Add6 does. IPv4 has no errors for
// refused fragments.
func (r *Reassembler) Add4(v *packet.View, now time.Duration) (Whole, drop.Reason) {
	ip := v.IP4()
	f := header{
		key:    key{id: uint32(ip.ID()), proto: v.Number},
		ip:     v.Data[:v.L4],
		data:   v.Transport(),
		offset: int(ip.Offset()) * 8,
		next:   v.Number,
		more:   binary.BigEndian.Uint16(ip[6:])&flagMF != 0,
		df:     ip.DF(),
		ce:     ip.TOS()&ecnCE == ecnCE,
	}
	copy(f.key.src[:], ip.Src()[:])
	copy(f.key.dst[:], ip.Dst()[:])
	if bad := f.check(v.L4, packet.NumICMP); bad != drop.None {
		return Whole{}, bad
	}
	return r.add(&f, now)
}

// Pointer returns the second word of the Parameter Problem that answers the IPv6 fragment in v, refused for r: the
// Payload Length field, the Fragment Offset field (RFC 8200 section 4.5), or for a first fragment whose headers are
// incomplete the packet's first byte (RFC 7112 section 5).
func Pointer(v *packet.View, r drop.Reason) uint32 {
	switch r {
	case drop.FragmentLength:
		return 4
	case drop.FragmentSpan:
		return uint32(v.L4 - packet.FragLen + 2)
	}
	return 0
}

const (
	flagDF  = 0x4000
	flagMF  = 0x2000
	ecnMask = 3
	ecnCE   = 3 // RFC 3168 section 5
)

// maxSpan is the largest Payload Length of IPv6 and Total Length of IPv4.
const maxSpan = 0xffff

// check looks for what is wrong with a fragment by itself. extra is the part of its headers that counts for maxSpan, icmp
// the family's number of ICMP.
func (f *header) check(extra int, icmp uint8) drop.Reason {
	switch {
	case len(f.data) == 0, f.more && len(f.data)%8 != 0:
		return drop.FragmentLength
	case extra+f.offset+len(f.data) > maxSpan:
		return drop.FragmentSpan
	case f.next == packet.NumTCP && f.offset == 8:
		return drop.FragmentTiny
	case f.offset == 0:
		return f.checkFirst(icmp)
	}
	return drop.None
}

// checkFirst asks for the whole transport header in the first fragment, so that nothing behind it can rewrite the
// header (RFC 1858 section 2.2, RFC 7112). That of UDP and ICMP has the 8 bytes that every fragment has which is not
// the last.
func (f *header) checkFirst(icmp uint8) drop.Reason {
	switch f.next {
	case packet.NumTCP:
		if len(f.data) < packet.TCPLen {
			return drop.FragmentHeader
		}
	case packet.NumUDP, icmp:
		if len(f.data) < packet.UDPLen {
			return drop.FragmentHeader
		}
	default:
		return drop.UnknownTransport
	}
	return drop.None
}
