package xlat

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/packet"
)

// ErrorRoom is the capacity that the Head of an error's packet.Out needs, in bytes.
const ErrorRoom = packet.Headroom + icmp.MaxLen6 + 256

// Error contains the fields of a translated ICMP error that the caller has computed.
type Error struct {
	Answer     drop.Answer // new type and code
	Rest       uint32      // new second word: MTU or pointer
	Quote      *packet.View
	Extensions []byte // RFC 4884 extensions; nil if there are none or the new type cannot carry them
}

// ErrorTo6 translates the ICMP error in v into o (RFC 7915 sections 4.2 and 4.3). src and dst are the new outer
// addresses; quoted is the IPv6 tuple of the quoted packet as its sender sent it. o.Head needs a capacity of
// ErrorRoom.
func (c *Config) ErrorTo6(o *packet.Out, v *packet.View, e Error, src, dst *packet.Addr6, quoted packet.Tuple6) {
	h := v.IP4()
	b := o.Head[:packet.Headroom+packet.IPv6Len+packet.ICMPLen]
	b = c.quoteTo6(b, e.Quote, quoted)
	b = e.finish(b, packet.Headroom+packet.IPv6Len, icmp.MaxLen6-packet.IPv6Len-packet.ICMPLen, 8, 4)
	ip := packet.IPv6(b[packet.Headroom:])
	n := len(ip) - packet.IPv6Len
	ip.Put(octet(c.TrafficClass, h.TOS()), n, packet.NumICMPv6, h.TTL()-1, src, dst)
	e.checksum(ip[packet.IPv6Len:], packet.Sum(0).Addr6(src).Addr6(dst).Pseudo(n, packet.NumICMPv6))
	o.Head, o.Payload, o.Offload, o.Inner = b, nil, packet.Offload{}, packet.Inner{}
}

// ErrorTo4 translates the ICMPv6 error in v into o (RFC 7915 sections 5.2 and 5.3), as ErrorTo6 does.
func (c *Config) ErrorTo4(o *packet.Out, v *packet.View, e Error, src, dst *packet.Addr4, quoted packet.Tuple4, id uint16) {
	h := v.IP6()
	b := o.Head[:packet.Headroom+packet.IPv4Len+packet.ICMPLen]
	b = c.quoteTo4(b, e.Quote, quoted)
	b = e.finish(b, packet.Headroom+packet.IPv4Len, icmp.MaxLen4-packet.IPv4Len-packet.ICMPLen, 4, 5)
	ip := packet.IPv4(b[packet.Headroom:])
	f := packet.Fields4{TOS: octet(c.TOS, h.TrafficClass()), TTL: h.HopLimit() - 1, Proto: packet.NumICMP, DF: len(ip) > maxDF0, ID: id}
	ip.Put(f, len(ip), src, dst)
	e.checksum(ip[packet.IPv4Len:], 0)
	o.Head, o.Payload, o.Offload, o.Inner = b, nil, packet.Offload{}, packet.Inner{}
}

// finish truncates the quote in the message b[at:] to the permitted length and appends the extensions. lengthAt is
// the offset of the RFC 4884 length field in the message.
func (e *Error) finish(b []byte, at, room, unit, lengthAt int) []byte {
	body := at + packet.ICMPLen
	quote, padding, extended := icmp.Fit(len(b)-body, len(e.Extensions), room, unit)
	b = b[:body+quote]
	m := b[at:body]
	m[0], m[1] = e.Answer.Type, e.Answer.Code
	binary.BigEndian.PutUint32(m[4:], e.Rest)
	if extended {
		m[lengthAt] = uint8((quote + padding) / unit)
		b = append(b, zeros[:padding]...)
		b = append(b, e.Extensions...)
	}
	return b
}

var zeros [128 + 8]byte

func (e *Error) checksum(message []byte, pseudo packet.Sum) {
	message[2], message[3] = 0, 0
	binary.BigEndian.PutUint16(message[packet.ICMPChecksum:], pseudo.Bytes(message).Checksum())
}

// quoteTo6 appends the quoted IPv4 packet in q, translated to the IPv6 packet that its sender sent (RFC 7915 section
// 4.3). The TTL is not decremented. The length is that of the whole packet even if the quote is truncated, or that of
// the quote if it is longer.
func (c *Config) quoteTo6(b []byte, q *packet.View, t packet.Tuple6) []byte {
	h := q.IP4()
	n := max(h.TotalLen(), len(q.Data)) - q.L4
	at := len(b)
	b = b[:at+packet.IPv6Len]
	if q.Fragmented {
		packet.IPv6(b[at:]).Put(octet(c.TrafficClass, h.TOS()), n+packet.FragLen, packet.NumFragment, h.TTL(), &t.Src.Addr, &t.Dst.Addr)
		b = append(b, number6(q.Proto), 0, 0, 1) // offset 0, more fragments
		b = binary.BigEndian.AppendUint32(b, q.FragID)
	} else {
		packet.IPv6(b[at:]).Put(octet(c.TrafficClass, h.TOS()), n, number6(q.Proto), h.TTL(), &t.Src.Addr, &t.Dst.Addr)
	}
	delta := packet.Sum(0).LessAddr4(h.Src()).LessAddr4(h.Dst()).Addr6(&t.Src.Addr).Addr6(&t.Dst.Addr)
	if q.Proto == packet.ICMP {
		delta = packet.Sum(0).Addr6(&t.Src.Addr).Addr6(&t.Dst.Addr).Pseudo(n, packet.NumICMPv6)
	}
	return quoteTransport(b, q, delta, t.Src.Port, t.Dst.Port)
}

// quoteTo4 appends the quoted IPv6 packet in q, translated to the IPv4 packet that its sender sent (RFC 7915 section
// 5.3).
func (c *Config) quoteTo4(b []byte, q *packet.View, t packet.Tuple4) []byte {
	h := q.IP6()
	n := max(packet.IPv6Len+h.PayloadLen(), len(q.Data)) - q.L4
	f := packet.Fields4{TOS: octet(c.TOS, h.TrafficClass()), TTL: h.HopLimit(), Proto: number4(q.Proto), DF: packet.IPv4Len+n > maxDF0}
	if q.Fragmented {
		f.DF, f.ID = false, uint16(q.FragID)
		f.MF = binary.BigEndian.Uint16(q.Data[q.L4-packet.FragLen+2:])&1 != 0
	}
	at := len(b)
	b = b[:at+packet.IPv4Len]
	total := min(packet.IPv4Len+n, 0xffff) // an IPv6 packet may be 40 bytes longer than an IPv4 one
	packet.IPv4(b[at:]).Put(f, total, &t.Src.Addr, &t.Dst.Addr)
	delta := packet.Sum(0).LessAddr6(h.Src()).LessAddr6(h.Dst()).Addr4(&t.Src.Addr).Addr4(&t.Dst.Addr)
	if q.Proto == packet.ICMP {
		delta = packet.Sum(0).LessAddr6(h.Src()).LessAddr6(h.Dst()).Less(uint16(n)).Less(packet.NumICMPv6)
	}
	return quoteTransport(b, q, delta, t.Src.Port, t.Dst.Port)
}

// quoteTransport appends the quoted transport header and payload with the translated ports, or with the translated
// Identifier and ICMP type. It updates a quoted checksum incrementally, because the quote usually lacks most of the
// data that the checksum covers.
func quoteTransport(b []byte, q *packet.View, delta packet.Sum, src, dst uint16) []byte {
	at := len(b)
	b = append(b, q.Data[q.L4:min(len(q.Data), q.L4+icmp.MaxLen6)]...)
	h := b[at:]
	if q.Proto == packet.ICMP {
		old := binary.BigEndian.Uint16(h)
		h[0] = swapEcho(h[0])
		id := src + dst // one of the two is the Identifier, the other is 0
		delta = delta.Less(old).Word(binary.BigEndian.Uint16(h)).Less(q.SrcPort + q.DstPort).Word(id)
		binary.BigEndian.PutUint16(h[4:], id)
	} else {
		delta = delta.Less(q.SrcPort).Word(src).Less(q.DstPort).Word(dst)
		binary.BigEndian.PutUint16(h, src)
		binary.BigEndian.PutUint16(h[2:], dst)
	}
	if len(h) < q.ChecksumAt()+2 {
		return b
	}
	field := h[q.ChecksumAt():]
	if c := binary.BigEndian.Uint16(field); c != 0 || q.Proto != packet.UDP {
		binary.BigEndian.PutUint16(field, nonZero(q.Proto, delta.Adjust(c)))
	}
	return b
}

// swapEcho returns the corresponding type of an echo message in the other family.
func swapEcho(t uint8) uint8 {
	switch t {
	case packet.EchoRequest4:
		return packet.EchoRequest6
	case packet.EchoReply4:
		return packet.EchoReply6
	case packet.EchoRequest6:
		return packet.EchoRequest4
	}
	return packet.EchoReply4
}
