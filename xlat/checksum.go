package xlat

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// ports writes the ports of a TCP or UDP header and updates its checksum incrementally (RFC 7915 sections 4.5 and
// 5.5, RFC 1624), so that a packet with a wrong checksum keeps a wrong one. delta is the change of the sum by the new
// addresses. The length and the protocol in the pseudo-header do not change.
func ports(o *packet.Out, v *packet.View, delta packet.Sum, src, dst uint16) {
	h := transport(o, v)
	field := h[v.ChecksumAt():]
	c := binary.BigEndian.Uint16(field)
	if o.Offload.Checksum == packet.ChecksumPartial {
		c = delta.AdjustPartial(c) // the pseudo-header sum does not include the ports; the NIC adds them
	} else {
		c = nonZero(v.Proto, delta.Less(v.SrcPort).Word(src).Less(v.DstPort).Word(dst).Adjust(c))
	}
	binary.BigEndian.PutUint16(field, c)
	binary.BigEndian.PutUint16(h, src)
	binary.BigEndian.PutUint16(h[2:], dst)
}

// nonZero replaces a UDP checksum of zero, which would mean that there is none (RFC 768, RFC 8200 section 8.1).
func nonZero(p packet.Proto, c uint16) uint16 {
	if c == 0 && p == packet.UDP {
		return 0xffff
	}
	return c
}

// udpChecksum6 computes the checksum of a UDP datagram that was received without one (RFC 6146 section 3.4).
func udpChecksum6(o *packet.Out, v *packet.View, t *packet.Tuple6) {
	h := transport(o, v)
	binary.BigEndian.PutUint16(h, t.Src.Port)
	binary.BigEndian.PutUint16(h[2:], t.Dst.Port)
	n := int(binary.BigEndian.Uint16(h[4:]))
	s := packet.Sum(0).Addr6(&t.Src.Addr).Addr6(&t.Dst.Addr).Pseudo(n, packet.NumUDP)
	s = s.Bytes(h).Bytes(o.Payload[:n-packet.UDPLen])
	if int(o.Inner.At)+1 <= n-packet.UDPLen { // the field lies within the datagram, not in bytes after it
		s = s.Add(o.Inner.Change(o.Payload))
	}
	binary.BigEndian.PutUint16(h[packet.UDPChecksum:], nonZero(packet.UDP, s.Checksum()))
}

// pseudo6 returns the sum of the ICMPv6 pseudo-header of the IPv6 packet in v.
func pseudo6(v *packet.View) packet.Sum {
	h := v.IP6()
	return packet.Sum(0).Addr6(h.Src()).Addr6(h.Dst()).Pseudo(len(v.Data)-v.L4, packet.NumICMPv6)
}

// echoTo4 translates an ICMPv6 echo message, whose checksum covers a pseudo-header, to ICMP, whose checksum does not
// (RFC 7915 section 5.2). It refuses a message with a wrong checksum (RFC 5508 section 3).
func echoTo4(o *packet.Out, v *packet.View, off packet.Offload, t *packet.Tuple4) drop.Reason {
	if !intact(v, off, pseudo6(v)) {
		return drop.ICMPChecksum
	}
	echo(o, v, t.Src.Port, 0)
	return drop.None
}

// echoTo6 translates an ICMP echo message (RFC 7915 section 4.2). It refuses a wrong checksum (RFC 5508 section 3).
func echoTo6(o *packet.Out, v *packet.View, off packet.Offload, t *packet.Tuple6) drop.Reason {
	if !intact(v, off, 0) {
		return drop.ICMPChecksum
	}
	n := len(v.Data) - v.L4
	echo(o, v, t.Dst.Port, packet.Sum(0).Addr6(&t.Src.Addr).Addr6(&t.Dst.Addr).Pseudo(n, packet.NumICMPv6))
	return drop.None
}

// intact reports whether the ICMP checksum is correct. It accepts a partial checksum, which the sending kernel has
// not completed.
func intact(v *packet.View, off packet.Offload, pseudo packet.Sum) bool {
	return off.Checksum != packet.ChecksumUnknown || pseudo.Bytes(v.Transport()).Fold() == 0xffff
}

// echo writes the type and the Identifier and computes the checksum from scratch. The caller has verified the old
// checksum, so an error cannot be hidden.
func echo(o *packet.Out, v *packet.View, id uint16, pseudo packet.Sum) {
	h := transport(o, v)
	h[0], h[2], h[3] = swapEcho(v.ICMPType), 0, 0
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[packet.ICMPChecksum:], pseudo.Bytes(h).Bytes(o.Payload).Checksum())
}
