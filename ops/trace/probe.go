package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"nat64d/packet"
)

// Probe is a packet to explain.
type Probe struct {
	Proto    packet.Proto
	Src, Dst netip.AddrPort // of one family; the Identifier of an ICMP echo message is the port of both
	Flags    uint8          // of TCP
	Reply    bool           // an ICMP echo reply, not a request
	Length   int            // of the IP packet; 0: as short as possible
	DF       bool           // of IPv4
	HopLimit uint8
}

// headerLens are the lengths of the transport headers, which have no options.
var headerLens = [packet.Protos]int{packet.TCP: packet.TCPLen, packet.UDP: packet.UDPLen, packet.ICMP: packet.ICMPLen}

// Side returns the side on which the packet arrives.
func (p *Probe) Side() packet.Family {
	if p.Src.Addr().Is4() {
		return packet.V4
	}
	return packet.V6
}

// Packet returns the packet, whose payload is zero, or why there is no such packet.
func (p *Probe) Packet() ([]byte, error) {
	ip := packet.IPv6Len
	if p.Side() == packet.V4 {
		ip = packet.IPv4Len
	}
	least := ip + headerLens[p.Proto]
	length := p.Length
	switch {
	case length == 0:
		length = least
	case length < least:
		return nil, fmt.Errorf("%d bytes are too few: the headers of the packet have %d", length, least)
	case length > 65535:
		return nil, fmt.Errorf("%d bytes are too many: an IP packet has 65535 at most", length)
	}
	b := make([]byte, length)
	p.putIP(b, length-ip)
	p.putTransport(b[ip:])
	p.putChecksum(b, ip)
	return b, nil
}

func (p *Probe) putIP(b []byte, payload int) {
	number := [packet.Protos]uint8{packet.TCP: packet.NumTCP, packet.UDP: packet.NumUDP, packet.ICMP: packet.NumICMPv6}[p.Proto]
	if p.Side() == packet.V6 {
		src, dst := packet.Addr6(p.Src.Addr().As16()), packet.Addr6(p.Dst.Addr().As16())
		packet.IPv6(b).Put(0, payload, number, p.HopLimit, &src, &dst)
		return
	}
	if p.Proto == packet.ICMP {
		number = packet.NumICMP
	}
	src, dst := packet.Addr4(p.Src.Addr().As4()), packet.Addr4(p.Dst.Addr().As4())
	packet.IPv4(b).Put(packet.Fields4{TTL: p.HopLimit, Proto: number, DF: p.DF, ID: 1}, len(b), &src, &dst)
}

// putTransport writes the transport header, without its checksum.
func (p *Probe) putTransport(b []byte) {
	if p.Proto == packet.ICMP {
		b[0] = p.echoType()
		binary.BigEndian.PutUint16(b[4:], p.Src.Port())
		binary.BigEndian.PutUint16(b[6:], 1) // sequence number
		return
	}
	binary.BigEndian.PutUint16(b, p.Src.Port())
	binary.BigEndian.PutUint16(b[2:], p.Dst.Port())
	if p.Proto == packet.UDP {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		return
	}
	b[12], b[13] = packet.TCPLen/4<<4, p.Flags
	binary.BigEndian.PutUint16(b[14:], 0xffff) // window
}

func (p *Probe) echoType() byte {
	switch six := p.Side() == packet.V6; {
	case six && p.Reply:
		return packet.EchoReply6
	case six:
		return packet.EchoRequest6
	case p.Reply:
		return packet.EchoReply4
	}
	return packet.EchoRequest4
}

func (p *Probe) putChecksum(b []byte, ip int) {
	at := ip + [packet.Protos]int{packet.TCP: packet.TCPChecksum, packet.UDP: packet.UDPChecksum, packet.ICMP: 2}[p.Proto]
	sum := packet.Sum(0)
	if p.Proto != packet.ICMP || p.Side() == packet.V6 {
		sum = packet.PseudoHeader(b, len(b)-ip)
	}
	c := sum.Bytes(b[ip:]).Checksum()
	if c == 0 && p.Proto == packet.UDP {
		c = 0xffff // 0 means that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[at:], c)
}
