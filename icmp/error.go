// Package icmp holds what the gateway itself says in ICMP and ICMPv6: the errors that it originates, when they may be
// sent, and how often (RFC 4443 section 2.4, RFC 1812 section 4.3.2).
package icmp

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// Largest error messages, in bytes of the whole IP packet: RFC 4443 section 2.4(c), RFC 1812 section 4.3.2.3.
const (
	MaxLen6 = 1280
	MaxLen4 = 576
)

// Our own choices for the headers of errors: RFC 1812 section 4.3.2.5 asks for precedence 6.
const (
	hops       = 64
	precedence = 0xc0
)

// Error is an error that the gateway originates.
type Error struct {
	Answer drop.Answer
	Rest   uint32 // bytes 4 to 7 of the message: MTU or pointer, 0 otherwise
	Quote  []byte // the packet that caused it, from its IP header on
}

// Put6 makes o the IPv6 packet that carries e (RFC 4443 section 2.4): the headers go into o.Head, which needs a capacity
// of packet.Headroom + 48 bytes, and the payload is as much of the quote as fits.
func (e Error) Put6(o *packet.Out, src, dst *packet.Addr6) {
	quote := e.Quote[:min(len(e.Quote), MaxLen6-packet.IPv6Len-packet.ICMPLen)]
	n := packet.ICMPLen + len(quote)
	ip := start(o, packet.IPv6Len, quote)
	packet.IPv6(ip).Put(0, n, packet.NumICMPv6, hops, src, dst)
	e.message(ip[packet.IPv6Len:], quote, packet.Sum(0).Addr6(src).Addr6(dst).Pseudo(n, packet.NumICMPv6))
}

// Put4 makes o the IPv4 packet that carries e (RFC 1812 section 4.3.2.3), as Put6 does. Its Identification is 0: it is
// never fragmented, since 576 bytes pass everywhere.
func (e Error) Put4(o *packet.Out, src, dst *packet.Addr4) {
	quote := e.Quote[:min(len(e.Quote), MaxLen4-packet.IPv4Len-packet.ICMPLen)]
	ip := start(o, packet.IPv4Len, quote)
	f := packet.Fields4{TOS: precedence, TTL: hops, Proto: packet.NumICMP}
	packet.IPv4(ip).Put(f, packet.IPv4Len+packet.ICMPLen+len(quote), src, dst)
	e.message(ip[packet.IPv4Len:], quote, 0)
}

// start makes room for the headers of an error and returns it, from the IP header on.
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

// Answerable6 reports whether an ICMPv6 error may answer the IPv6 packet in v, whose extension headers have been walked:
// not when it is an error itself or neighbour discovery (RFC 4443 section 2.4(e), RFC 7915 section 5.4), and not when that
// cannot be seen, as in a fragment of ICMPv6 other than the first. That its source is one unicast node is the caller's check.
func Answerable6(v *packet.View) bool {
	number, message := behindAuth(v.Number, v.Data[v.L4:])
	if number != packet.NumICMPv6 {
		return number != packet.NumAuth
	}
	return !v.Later() && echo(message, packet.EchoRequest6, packet.EchoReply6)
}

// Answerable4 reports whether an ICMP error may answer the IPv4 packet in v: not when it is an error itself (RFC 1812
// section 4.3.2.7), IGMP (RFC 7915 section 4.2) or a fragment other than the first.
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

// behindAuth skips Authentication Headers (RFC 4302 section 2), which leave what follows them readable. If one is cut short,
// number stays that of the header.
func behindAuth(number uint8, h []byte) (uint8, []byte) {
	for number == packet.NumAuth {
		if len(h) < 2 || len(h) < int(h[1])*4+8 {
			break
		}
		number, h = h[0], h[int(h[1])*4+8:]
	}
	return number, h
}

// echo reports whether an ICMP message has one of two types.
func echo(message []byte, request, reply uint8) bool {
	return len(message) > 0 && (message[0] == request || message[0] == reply)
}
