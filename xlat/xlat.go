// Package xlat translates a packet from one IP family to the other (RFC 7915). It uses no tables and does no I/O. It
// writes the new headers into the caller's scratch memory and leaves the payload in the received frame.
package xlat

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// CopyTOS as Config.TOS or Config.TrafficClass copies the octet from the received packet.
const CopyTOS = -1

// Config holds the options of header translation. It must not be changed while it is in use.
type Config struct {
	TOS          int  // of IPv4 packets, or CopyTOS (RFC 7915 section 5.1)
	TrafficClass int  // of IPv6 packets, or CopyTOS (RFC 7915 section 4.1)
	ZeroUDPDrop  bool // refuse an IPv4 UDP datagram without a checksum instead of computing one (RFC 7915 section 4.5)
}

// maxDF0 is the length of the largest IPv4 packet with DF=0: a translated IPv6 packet of 1280 bytes (RFC 7915 section
// 5.1).
const maxDF0 = 1260

// To4 translates the IPv6 packet in v into o, with the addresses and ports of t (RFC 7915 section 5.1). o.Head needs
// a capacity of packet.Headroom + 80 bytes; To4 does not write its first Headroom bytes. id is the Identification for
// a packet without a Fragment header. To4 refuses packets that have no equivalent in IPv4 and ICMP queries with a
// wrong checksum.
func (c *Config) To4(o *packet.Out, v *packet.View, off packet.Offload, t *packet.Tuple4, id uint16) drop.Reason {
	h := v.IP6()
	if packet.IPv4Len+len(v.Data)-v.L4 > 0xffff {
		return drop.Large // the maximum length of an IPv6 packet is 40 bytes larger than that of an IPv4 packet
	}
	if r := start(o, v, &off, packet.IPv4Len); r != drop.None {
		return r
	}
	if v.Proto == packet.ICMP {
		if r := echoTo4(o, v, off, t); r != drop.None {
			return r
		}
	} else {
		if v.Proto == packet.UDP && off.Checksum != packet.ChecksumPartial && checksumOf(v) == 0 {
			return drop.UDPZeroChecksum
		}
		delta := packet.Sum(0).LessAddr6(h.Src()).LessAddr6(h.Dst()).Addr4(&t.Src.Addr).Addr4(&t.Dst.Addr)
		ports(o, v, delta, t.Src.Port, t.Dst.Port)
	}
	f := packet.Fields4{
		TOS: octet(c.TOS, h.TrafficClass()), TTL: h.HopLimit() - 1, Proto: number4(v.Proto),
		DF: o.SegmentLen() > maxDF0, ID: id,
	}
	if v.Fragmented { // an atomic fragment (RFC 7915 section 5.1.1)
		f.DF, f.ID = false, uint16(v.FragID)
	}
	packet.IPv4(o.Head[packet.Headroom:]).Put(f, o.Len(), &t.Src.Addr, &t.Dst.Addr)
	return drop.None
}

// To6 translates the IPv4 packet in v into o, with the addresses and ports of t (RFC 7915 section 4.1). o.Head needs
// a capacity of packet.Headroom + 100 bytes; To6 does not write its first Headroom bytes. To6 refuses packets that
// have no equivalent in IPv6 and ICMP queries with a wrong checksum.
func (c *Config) To6(o *packet.Out, v *packet.View, off packet.Offload, t *packet.Tuple6) drop.Reason {
	h := v.IP4()
	if r := start(o, v, &off, packet.IPv6Len); r != drop.None {
		return r
	}
	switch {
	case v.Proto == packet.ICMP:
		if r := echoTo6(o, v, off, t); r != drop.None {
			return r
		}
	case v.Proto == packet.UDP && off.Checksum != packet.ChecksumPartial && checksumOf(v) == 0:
		if c.ZeroUDPDrop {
			return drop.UDPZeroChecksum
		}
		udpChecksum6(o, v, t)
	default:
		delta := packet.Sum(0).LessAddr4(h.Src()).LessAddr4(h.Dst()).Addr6(&t.Src.Addr).Addr6(&t.Dst.Addr)
		ports(o, v, delta, t.Src.Port, t.Dst.Port)
	}
	packet.IPv6(o.Head[packet.Headroom:]).Put(octet(c.TrafficClass, h.TOS()), o.Len()-packet.IPv6Len, number6(v.Proto), h.TTL()-1,
		&t.Src.Addr, &t.Dst.Addr)
	return drop.None
}

// start prepares o for an IP header of ipLen bytes. It copies the transport header, points o.Payload to the payload
// of v, and converts the offload metadata.
func start(o *packet.Out, v *packet.View, off *packet.Offload, ipLen int) drop.Reason {
	at := packet.Headroom + ipLen
	o.Head = o.Head[:at+v.L4Len]
	copy(o.Head[at:], v.Data[v.L4:v.L4+v.L4Len])
	o.Payload = v.Data[v.L4+v.L4Len:]
	o.Offload, o.Inner = packet.Offload{}, packet.Inner{}
	if v.Proto == packet.UDP && off.GSO == packet.GSONone && off.Checksum == packet.ChecksumPartial {
		o.Inner = inner(v, off)
	}
	if off.GSO != packet.GSONone && off.Checksum == packet.ChecksumGood {
		halve(o, v, off)
	}
	return offload(o, v, *off, ipLen)
}

// inner computes the checksum of a packet tunnelled in a UDP datagram if the sender left that one to the NIC. The
// checksum of the datagram already covers the completed one, and is then treated like any other.
func inner(v *packet.View, off *packet.Offload) packet.Inner {
	from, at := int(off.CsumStart), int(off.CsumStart)+int(off.CsumOffset)
	if from < v.L4+packet.UDPLen || at+2 > len(v.Data) {
		return packet.Inner{} // the checksum of the datagram itself, or one that offload refuses
	}
	c := packet.Sum(0).Bytes(v.Data[from:]).Checksum()
	if c == 0 {
		c = 0xffff // in UDP, 0 means no checksum; elsewhere both represent zero
	}
	off.Checksum = packet.ChecksumUnknown
	return packet.Inner{At: uint16(at - v.L4 - packet.UDPLen + 1), Sum: c}
}

// halve replaces the verified checksum of a super-packet by a partial one, which segmentation needs. After receive
// offload the checksum of every segment is good, but the header contains only one of them: with rx-gro-list that of
// the first segment.
func halve(o *packet.Out, v *packet.View, off *packet.Offload) {
	at, n := v.ChecksumAt(), len(v.Transport())
	off.Checksum, off.CsumStart, off.CsumOffset = packet.ChecksumPartial, uint16(v.L4), uint16(at)
	var s packet.Sum
	if v.Data[0]>>4 == 4 {
		h := v.IP4()
		s = s.Addr4(h.Src()).Addr4(h.Dst()).Pseudo(n, number4(v.Proto))
	} else {
		h := v.IP6()
		s = s.Addr6(h.Src()).Addr6(h.Dst()).Pseudo(n, number6(v.Proto))
	}
	binary.BigEndian.PutUint16(transport(o, v)[at:], s.Fold())
}

// offload converts checksum and super-packet metadata to the offsets of the new headers. A checksum that is known to
// be good stays good, because it is updated incrementally.
func offload(o *packet.Out, v *packet.View, off packet.Offload, ipLen int) drop.Reason {
	partial := off.Checksum == packet.ChecksumPartial
	if partial && (int(off.CsumStart) != v.L4 || int(off.CsumOffset) != v.ChecksumAt()) {
		return drop.Offload
	}
	if v.Proto != packet.ICMP {
		o.Offload.Checksum = off.Checksum
	}
	if o.Offload.Checksum == packet.ChecksumPartial {
		o.Offload.CsumStart, o.Offload.CsumOffset = uint16(ipLen), off.CsumOffset
	}
	if off.GSO == packet.GSONone {
		return drop.None
	}
	kind, ok := swapGSO(off.GSO, v.Proto)
	if !ok || !partial {
		return drop.Offload
	}
	o.Offload.GSO, o.Offload.ECN, o.Offload.GSOSize = kind, off.ECN, off.GSOSize
	o.Offload.HdrLen = uint16(ipLen + v.L4Len)
	return drop.None
}

// swapGSO returns the kind of the translated super-packet.
func swapGSO(g packet.GSO, p packet.Proto) (packet.GSO, bool) {
	switch {
	case g == packet.GSOTCPv6 && p == packet.TCP:
		return packet.GSOTCPv4, true
	case g == packet.GSOTCPv4 && p == packet.TCP:
		return packet.GSOTCPv6, true
	case g == packet.GSOUDPL4 && p == packet.UDP:
		return packet.GSOUDPL4, true
	}
	return 0, false
}

// octet returns the TOS or Traffic Class to write: the configured value or the received one.
func octet(configured int, in uint8) uint8 {
	if configured == CopyTOS {
		return in
	}
	return uint8(configured)
}

func number4(p packet.Proto) uint8 {
	return [packet.Protos]uint8{packet.NumTCP, packet.NumUDP, packet.NumICMP}[p]
}

func number6(p packet.Proto) uint8 {
	return [packet.Protos]uint8{packet.NumTCP, packet.NumUDP, packet.NumICMPv6}[p]
}

func checksumOf(v *packet.View) uint16 {
	return binary.BigEndian.Uint16(v.Data[v.L4+v.ChecksumAt():])
}

// transport returns the transport header in the new head.
func transport(o *packet.Out, v *packet.View) []byte { return o.Head[len(o.Head)-v.L4Len:] }
