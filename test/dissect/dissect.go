// Package dissect checks IP packets with google/gopacket, which shares no code with the gateway. Package packet cannot do that for
// itself: where it writes a field wrongly and reads it in the same way, a test that uses it for both passes. Only tests import
// this package.
package dissect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Packet is an IP packet or a fragment of one. Of IP4 and IP6 exactly one is set, of the transport headers at most one, and none
// in a fragment. Its layers share the memory of the bytes it was decoded from.
type Packet struct {
	Src, Dst netip.AddrPort // the ports are 0 where there are none
	IP4      *layers.IPv4
	IP6      *layers.IPv6
	Fragment *layers.IPv6Fragment
	TCP      *layers.TCP
	UDP      *layers.UDP
	ICMP4    *layers.ICMPv4
	ICMP6    *layers.ICMPv6
	Payload  []byte // of the last header that was decoded
}

// IP decodes a packet that begins with its IP header. It returns an error if a header is malformed, or if a length, the
// checksum of the IPv4 header or, in a whole packet, the checksum of TCP, UDP, ICMP or ICMPv6 is not what gopacket computes. In the
// second case it returns the packet as well, for captures of packets whose checksum is still to be completed.
func IP(b []byte) (*Packet, error) {
	p := &Packet{}
	number, err := p.network(b)
	if err == nil {
		err = p.transport(number)
	}
	if err != nil {
		return nil, fmt.Errorf("%w, in %x", err, b[:min(len(b), 80)])
	}
	p.endpoints()
	if err := p.verify(b); err != nil {
		return p, fmt.Errorf("%w, in %x", err, b[:min(len(b), 80)])
	}
	return p, nil
}

// network decodes the IP header and the Fragment header, and returns the protocol of what follows, 0 in a fragment.
func (p *Packet) network(b []byte) (number layers.IPProtocol, err error) {
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		p.IP4 = &layers.IPv4{}
		err = p.IP4.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		number, p.Payload = p.IP4.Protocol, p.IP4.Payload
	case len(b) > 0 && b[0]>>4 == 6:
		p.IP6 = &layers.IPv6{}
		err = p.IP6.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
		number, p.Payload = p.IP6.NextHeader, p.IP6.Payload
	default:
		err = errors.New("neither IPv4 nor IPv6")
	}
	if err == nil && p.IP6 != nil && number == layers.IPProtocolIPv6Fragment {
		l := gopacket.NewPacket(p.Payload, layers.LayerTypeIPv6Fragment, gopacket.NoCopy).Layer(layers.LayerTypeIPv6Fragment)
		if p.Fragment, _ = l.(*layers.IPv6Fragment); p.Fragment == nil {
			return 0, errors.New("a Fragment header is cut short")
		}
		number, p.Payload = p.Fragment.NextHeader, p.Fragment.Payload
	}
	if err == nil && p.Fragmented() {
		number = 0
	}
	return number, err
}

// transport decodes the header of a protocol, if it is one of those whose checksum verify knows.
func (p *Packet) transport(number layers.IPProtocol) error {
	var l gopacket.DecodingLayer
	switch number {
	case layers.IPProtocolTCP:
		p.TCP = &layers.TCP{}
		l = p.TCP
	case layers.IPProtocolUDP:
		p.UDP = &layers.UDP{}
		l = p.UDP
	case layers.IPProtocolICMPv4:
		p.ICMP4 = &layers.ICMPv4{}
		l = p.ICMP4
	case layers.IPProtocolICMPv6:
		p.ICMP6 = &layers.ICMPv6{}
		l = p.ICMP6
	default:
		return nil
	}
	err := l.DecodeFromBytes(p.Payload, gopacket.NilDecodeFeedback)
	if p.TCP != nil && len(p.TCP.Contents) == 4*int(p.TCP.DataOffset) {
		err = nil // only an option is malformed, which a translator has to pass on
	}
	p.Payload = l.LayerPayload()
	return err
}

// endpoints sets Src and Dst.
func (p *Packet) endpoints() {
	var src, dst uint16
	switch {
	case p.TCP != nil:
		src, dst = uint16(p.TCP.SrcPort), uint16(p.TCP.DstPort)
	case p.UDP != nil:
		src, dst = uint16(p.UDP.SrcPort), uint16(p.UDP.DstPort)
	}
	from, to := p.layer().NetworkFlow().Endpoints()
	s, _ := netip.AddrFromSlice(from.Raw())
	d, _ := netip.AddrFromSlice(to.Raw())
	p.Src, p.Dst = netip.AddrPortFrom(s, src), netip.AddrPortFrom(d, dst)
}

func (p *Packet) layer() gopacket.NetworkLayer {
	if p.IP4 != nil {
		return p.IP4
	}
	return p.IP6
}

// Fragmented reports whether the packet is a fragment. An atomic one (RFC 6946) is, too.
func (p *Packet) Fragmented() bool {
	if p.IP4 != nil {
		return p.IP4.Flags&layers.IPv4MoreFragments != 0 || p.IP4.FragOffset != 0
	}
	return p.Fragment != nil
}

// verify has gopacket write the packet again, with lengths and checksums that it computes, and compares the result with b.
func (p *Packet) verify(b []byte) error {
	made, err := p.headers()
	if err != nil {
		return err
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, made...); err != nil {
		return err
	}
	want := buf.Bytes()
	if at := len(want) - len(p.Payload) - 2; p.UDP != nil && want[at] == 0 && want[at+1] == 0 {
		want[at], want[at+1] = 0xff, 0xff // gopacket leaves it 0, which would mean that there is none (RFC 768)
	}
	if len(b) != len(want) {
		return fmt.Errorf("%d bytes, but gopacket makes %d of the headers", len(b), len(want))
	}
	for i := range b {
		if b[i] != want[i] {
			return fmt.Errorf("byte %d is %#02x, but gopacket computes %#02x", i, b[i], want[i])
		}
	}
	return nil
}

// headers returns copies of the headers, which gopacket changes when it writes them, and the payload. TCP has no length, and gopacket
// does not keep the padding of its options. So its checksum is computed where it is, and it counts as payload.
func (p *Packet) headers() (made []gopacket.SerializableLayer, err error) {
	var ip gopacket.NetworkLayer
	if p.IP4 != nil {
		h := *p.IP4
		ip, made = &h, append(made, &h)
	} else {
		h := *p.IP6
		ip, made = &h, append(made, &h)
	}
	rest := p.Payload
	switch {
	case p.TCP != nil:
		rest = ip.LayerPayload()
		err = p.TCP.SetNetworkLayerForChecksum(ip)
		if sum, bad := p.TCP.ComputeChecksum(); bad != nil || sum != 0 {
			err = errors.Join(bad, fmt.Errorf("the TCP checksum is off by %#04x", sum))
		}
	case p.UDP != nil:
		h := *p.UDP
		err = h.SetNetworkLayerForChecksum(ip)
		made = append(made, &h)
	case p.ICMP6 != nil:
		h := *p.ICMP6
		err = h.SetNetworkLayerForChecksum(ip)
		made = append(made, &h)
	case p.ICMP4 != nil:
		h := *p.ICMP4
		made = append(made, &h)
	default:
		rest = ip.LayerPayload()
	}
	return append(made, gopacket.Payload(rest)), err
}

// Finish returns a packet with a checksum that was left to the NIC, completed as a NIC does it: the field holds the sum of the
// pseudo-header, and the bytes from start on are added to it (virtio 1.2 section 5.1.6.2).
func Finish(b []byte, start, offset int) []byte {
	b = bytes.Clone(b)
	var sum uint32
	for i, c := range b[start:] {
		sum += uint32(c) << (8 * (^i & 1))
		sum = sum>>16 + sum&0xffff
	}
	sum = ^sum & 0xffff
	if sum == 0 && offset == 6 { // UDP, where 0 would mean "none" (RFC 768)
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[start+offset:], uint16(sum))
	return b
}
