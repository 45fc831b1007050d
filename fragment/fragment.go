// Package fragment reassembles and splits datagrams within bounds of memory and time (RFC 791 section 3.2, RFC 8200
// section 4.5, RFC 5722, RFC 1858). A NAT64 must reassemble: only the first fragment has the ports, and the checksums
// of ICMP, and of UDP datagrams that came without one, cover the whole datagram (RFC 6146 section 3.4). Unfragmented
// packets do not pass through this package.
package fragment

import (
	"cmp"
	"encoding/binary"
	"math"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// Limits bound the fragments that wait for the rest of their datagram. At a limit of a source the Reassembler discards
// the oldest datagram of that source, at the limit of all sources the oldest of all. A zero field means its default.
type Limits struct {
	Time           time.Duration // from the arrival of the first fragment to that of the last; default 2 s, the minimum of RFC 6146 section 3.4
	Bytes          int           // memory of all fragments; default 16 MiB
	PerSourceBytes int           // memory of the fragments of one source; default 1 MiB
	PerSource      int           // fragments of one source; 0: only PerSourceBytes limits them
	PrefixLen      int           // addresses of one IPv6 prefix of this length are one source; default 128
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

// Whole is a complete datagram. The zero value means that the datagram is not complete yet.
type Whole struct {
	// Data is an IP packet of the family of its fragments: the headers of the first fragment, without a Fragment
	// header, then the payloads of all. The Reassembler owns the memory, which is valid until the next Release.
	Data []byte
	// ID is the Identification: 32 bits in IPv6, 16 in IPv4.
	ID uint32
	// Largest is the size of the largest payload of a fragment, in bytes after the IP header and the Fragment header.
	// If the datagram is split again into pieces with at most that payload, no piece is larger than the largest
	// fragment.
	Largest int
	// DF is set if an IPv4 fragment came with Don't Fragment; Data has the flag, too. RFC 7915 section 4 forbids to
	// split such fragments further.
	DF bool
	// Fragments is the number of fragments that it arrived in.
	Fragments int
}

// header holds the parsed fields of one fragment.
type header struct {
	key    key
	ip     []byte // its IP headers up to the Fragment header
	data   []byte
	offset int // of data in the payload of the datagram, in bytes
	next   uint8
	more   bool // it is not the last
	df     bool
	ce     bool // congestion experienced
}

// Add6 adds the IPv6 fragment in v, for which Parse6 and Extensions6 have returned drop.None, and which is not atomic:
// an atomic fragment is a whole packet (RFC 6946). It stores a copy, or returns the datagram that the fragment
// completes. If the reason for a refusal has an ICMPv6 answer that needs a pointer, Pointer returns it.
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

// Add4 adds the IPv4 fragment in v, for which Parse4 has returned drop.None, as Add6 does. ICMPv4 has no errors for
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

// check validates a fragment without regard to others. extra is the length of the headers that count for maxSpan, icmp
// the protocol number of ICMP in the family.
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

// checkFirst requires the whole transport header in the first fragment, so that no later fragment can overwrite the
// header (RFC 1858 section 2.2, RFC 7112). The headers of UDP and ICMP have 8 bytes, which every fragment but the last
// has.
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
