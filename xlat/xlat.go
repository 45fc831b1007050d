// Package xlat rewrites a packet from one family to the other (RFC 7915): bytes and addresses in, bytes out. It knows
// no table and does no I/O. The new headers are written into the caller's scratch memory, the payload stays where it
// was received.
package xlat

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// CopyTOS as Config.TOS or Config.TrafficClass copies the octet from the other family.
const CopyTOS = -1

// Config says how headers are translated. It is immutable once in use.
type Config struct {
	TOS          int  // of IPv4 packets, or CopyTOS (RFC 7915 section 5.1)
	TrafficClass int  // of IPv6 packets, or CopyTOS (RFC 7915 section 4.1)
	ZeroUDPDrop  bool // refuse IPv4 UDP without a checksum instead of computing one (RFC 7915 section 4.5)
}

// maxDF0 is the largest IPv4 packet that leaves with DF=0: one that came as an IPv6 packet of at most 1280 bytes (RFC
// 7915 section 5.1).
const maxDF0 = 1260

// To4 translates the IPv6 packet in v into o, with the addresses and ports of t (RFC 7915 section 5.1). o.Head needs a
// capacity of packet.Headroom + 80 bytes; its first Headroom bytes are left alone. id is the Identification for a
// packet that has no Fragment header of its own. It refuses what cannot be expressed in IPv4 and ICMP queries whose
// checksum is wrong.
func (c *Config) To4(o *packet.Out, v *packet.View, off packet.Offload, t *packet.Tuple4, id uint16) drop.Reason {
	h := v.IP6()
	if packet.IPv4Len+len(v.Data)-v.L4 > 0xffff {
		return drop.Large // an IPv4 packet ends at 64 KiB, an IPv6 packet 40 bytes later
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
	if v.Fragmented { // an atomic fragment: RFC 7915 section 5.1.1
		f.DF, f.ID = false, uint16(v.FragID)
	}
	packet.IPv4(o.Head[packet.Headroom:]).Put(f, o.Len(), &t.Src.Addr, &t.Dst.Addr)
	return drop.None
}

// To6 translates the IPv4 packet in v into o, with the addresses and ports of t (RFC 7915 section 4.1). o.Head needs a
// capacity of packet.Headroom + 100 bytes; its first Headroom bytes are left alone. It refuses what cannot be expressed
// in IPv6 and ICMP queries whose checksum is wrong.
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

// start lays out o for an IP header of ipLen bytes: the transport header is copied behind it, the payload is v's own,
// the offload metadata move along.
func start(o *packet.Out, v *packet.View, off *packet.Offload, ipLen int) drop.Reason {
	at := packet.Headroom + ipLen
	o.Head = o.Head[:at+v.L4Len]
	copy(o.Head[at:], v.Data[v.L4:v.L4+v.L4Len])
	o.Payload = v.Data[v.L4+v.L4Len:]
	o.Offload, o.Inner = packet.Offload{}, packet.Inner{}
	if int(off.CsumStart) > v.L4 && v.Proto == packet.UDP && off.GSO == packet.GSONone && off.Checksum == packet.ChecksumPartial {
		o.Inner = inner(v, off)
	}
	if off.GSO != packet.GSONone && off.Checksum == packet.ChecksumGood {
		halve(o, v, off)
	}
	return offload(o, v, *off, ipLen)
}

// inner computes the checksum within the payload of a UDP datagram, of a packet that it carries as a tunnel, if its sender
// left it to the NIC. The datagram's own already covers the complete one; if it has none, it may get one here.
func inner(v *packet.View, off *packet.Offload) packet.Inner {
	from, at := int(off.CsumStart), int(off.CsumStart)+int(off.CsumOffset)
	if from < v.L4+packet.UDPLen || at+2 > len(v.Data) {
		return packet.Inner{} // it is refused
	}
	c := packet.Sum(0).Bytes(v.Data[from:]).Checksum()
	if c == 0 {
		c = 0xffff // in UDP 0 means that there is none; elsewhere the two are the same
	}
	off.Checksum = packet.ChecksumUnknown
	return packet.Inner{At: uint16(at - v.L4 - packet.UDPLen + 1), Sum: c}
}

// halve makes the checksum of a super-packet half done, as it must be where the packets are told apart again. Receive offload
// has found each of theirs good; where it strings them together (rx-gro-list), that of the first is left in the header.
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

// offload moves the metadata of a checksum and of a super-packet to where the new headers are. A checksum that is known to be
// good is so when it has been carried over.
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

// swapGSO returns the kind of super-packet that the translated one is.
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

// octet returns the TOS or Traffic Class to write: what is configured, or what came in.
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

// transport returns the part of the new head that is transport header.
func transport(o *packet.Out, v *packet.View) []byte { return o.Head[len(o.Head)-v.L4Len:] }
