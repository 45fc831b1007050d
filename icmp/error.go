// Package icmp implements the ICMP and ICMPv6 errors of the gateway: their contents, which packets they may answer,
// their rate limits, and the translation of errors of others (RFC 4443 section 2.4, RFC 1812 section 4.3.2, RFC
// 7915).
package icmp

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// Maximum length of error messages, in bytes of the whole IP packet: RFC 4443 section 2.4(c), RFC 1812 section
// 4.3.2.3.
const (
	MaxLen6 = 1280
	MaxLen4 = 576
)

// Header fields of errors: RFC 1812 section 4.3.2.5 recommends precedence 6. The other values are our own choice.
const (
	hops       = 64
	precedence = 0xc0
)

// Error is an ICMP error that the gateway originates.
type Error struct {
	Answer drop.Answer
	Rest   uint32 // bytes 4 to 7 of the message: MTU or pointer, 0 otherwise
	Quote  []byte // the packet that caused the error, starting with its IP header
}

// Put6 makes o the IPv6 packet that carries e (RFC 4443 section 2.4). It writes the headers into o.Head, which needs
// a capacity of packet.Headroom + 48 bytes, and quotes as much of the packet as fits.
func (e Error) Put6(o *packet.Out, src, dst *packet.Addr6) {
	quote := e.Quote[:min(len(e.Quote), MaxLen6-packet.IPv6Len-packet.ICMPLen)]
	n := packet.ICMPLen + len(quote)
	ip := start(o, packet.IPv6Len, quote)
	packet.IPv6(ip).Put(0, n, packet.NumICMPv6, hops, src, dst)
	e.message(ip[packet.IPv6Len:], quote, packet.Sum(0).Addr6(src).Addr6(dst).Pseudo(n, packet.NumICMPv6))
}

// Put4 makes o the IPv4 packet that carries e (RFC 1812 section 4.3.2.3), as Put6 does. The Identification is 0: a
// packet of 576 bytes is never fragmented.
func (e Error) Put4(o *packet.Out, src, dst *packet.Addr4) {
	quote := e.Quote[:min(len(e.Quote), MaxLen4-packet.IPv4Len-packet.ICMPLen)]
	ip := start(o, packet.IPv4Len, quote)
	f := packet.Fields4{TOS: precedence, TTL: hops, Proto: packet.NumICMP}
	packet.IPv4(ip).Put(f, packet.IPv4Len+packet.ICMPLen+len(quote), src, dst)
	e.message(ip[packet.IPv4Len:], quote, 0)
}

// start makes room for the headers of an error in o.Head and returns that part, starting with the IP header.
func start(o *packet.Out, ipLen int, quote []byte) []byte {
	o.Head = o.Head[:packet.Headroom+ipLen+packet.ICMPLen]
	o.Payload, o.Offload = quote, packet.Offload{}
	return o.Head[packet.Headroom:]
}

func (e Error) message(h, quote []byte, pseudo packet.Sum) {
	h[0], h[1], h[2], h[3] = e.Answer.Type, e.Answer.Code, 0, 0
	binary.BigEndian.PutUint32(h[4:], e.Rest)
	binary.BigEndian.PutUint16(h[packet.ICMPChecksum:], pseudo.Bytes(h).Bytes(quote).Checksum())
}

// Answerable6 reports whether RFC 4443 section 2.4(e) and RFC 7915 section 5.4 allow an ICMPv6 error in response to
// the IPv6 packet in v: the packet must be neither an error nor neighbour discovery. A fragment of ICMPv6 other than
// the first has no type, so it is not answered either. The caller has read the extension headers, and checks that the
// source is a single unicast node.
func Answerable6(v *packet.View) bool {
	number, message := behindAuth(v.Number, v.Data[v.L4:])
	if number != packet.NumICMPv6 {
		return number != packet.NumAuth
	}
	return !v.Later() && echo(message, packet.EchoRequest6, packet.EchoReply6)
}

// Answerable4 reports whether an ICMP error may be sent in response to the IPv4 packet in v, which must not be an
// error (RFC 1812 section 4.3.2.7), IGMP (RFC 7915 section 4.2) or a fragment other than the first.
func Answerable4(v *packet.View) bool {
	number, message := behindAuth(v.Number, v.Data[v.L4:])
	switch {
	case v.IP4().Offset() != 0, number == packet.NumIGMP, number == packet.NumAuth:
		return false
	case number != packet.NumICMP:
		return true
	}
	return echo(message, packet.EchoRequest4, packet.EchoReply4)
}

// behindAuth skips Authentication Headers (RFC 4302 section 2), which do not encrypt the header after them. If one is
// truncated, it returns NumAuth.
func behindAuth(number uint8, h []byte) (uint8, []byte) {
	for number == packet.NumAuth {
		if len(h) < 2 || len(h) < int(h[1])*4+8 {
			break
		}
		number, h = h[0], h[int(h[1])*4+8:]
	}
	return number, h
}

// echo reports whether an ICMP message has one of the two types.
func echo(message []byte, request, reply uint8) bool {
	return len(message) > 0 && (message[0] == request || message[0] == reply)
}
