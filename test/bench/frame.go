package main

import (
	"encoding/binary"
	"net"
	"net/netip"

	"nat64d/lab"
)

// Offsets of the headers in a frame.
const (
	etherLength = 14
	ip4Length   = 20
	ip6Length   = 40
	udpLength   = 8
	hopLimit    = 64
	protocolUDP = 17
)

// frame is a UDP packet in an Ethernet frame, complete except for its ports.
type frame struct {
	whole  []byte // a virtio_net_hdr and the frame
	bytes  []byte
	source int    // offset of the last byte of the source address
	udp    int    // offset of the UDP header
	sum    uint32 // of everything that the UDP checksum covers, except the ports; not folded
	client int    // offset of the source address from that of the first client
}

// newFrame returns a frame with size bytes of data between two addresses of one family.
func newFrame(fromMAC, toMAC net.HardwareAddr, from, to netip.Addr, size int) frame {
	f := frame{source: etherLength + 15, udp: etherLength + ip4Length}
	if to.Is6() {
		f.source, f.udp = etherLength+23, etherLength+ip6Length
	}
	length := udpLength + size
	f.whole = make([]byte, lab.VnetHeader+f.udp+length)
	f.bytes = f.whole[lab.VnetHeader:]
	copy(f.bytes, toMAC)
	copy(f.bytes[6:], fromMAC)
	if to.Is6() {
		putIP6(f.bytes[12:], from, to, length)
	} else {
		putIP4(f.bytes[12:], from, to, length)
	}
	udp := f.bytes[f.udp:]
	binary.BigEndian.PutUint16(udp[4:], uint16(length))
	for i := range size {
		udp[udpLength+i] = byte(i)
	}
	// The pseudo-header: addresses, length, protocol.
	f.sum = sum(from.AsSlice()) + sum(to.AsSlice()) + uint32(length) + protocolUDP + sum(udp)
	return f
}

// putIP6 writes an Ethernet type and an IPv6 header.
func putIP6(b []byte, from, to netip.Addr, length int) {
	binary.BigEndian.PutUint16(b, 0x86dd)
	ip := b[2:]
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(length))
	ip[6], ip[7] = protocolUDP, hopLimit
	copy(ip[8:], from.AsSlice())
	copy(ip[24:], to.AsSlice())
}

// putIP4 writes an Ethernet type and an IPv4 header with DF set.
func putIP4(b []byte, from, to netip.Addr, length int) {
	binary.BigEndian.PutUint16(b, 0x0800)
	ip := b[2:]
	ip[0] = 4<<4 | ip4Length/4
	binary.BigEndian.PutUint16(ip[2:], uint16(ip4Length+length))
	binary.BigEndian.PutUint16(ip[6:], 0x4000)
	ip[8], ip[9] = hopLimit, protocolUDP
	copy(ip[12:], from.AsSlice())
	copy(ip[16:], to.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], fold(sum(ip[:ip4Length])))
}

// setClient sets the source address to the n-th after the original one. The last byte must not overflow.
func (f *frame) setClient(n int) {
	if n == f.client {
		return
	}
	f.bytes[f.source] += byte(n - f.client)
	f.sum += uint32(n) - uint32(f.client) // the byte is the low half of a word
	f.client = n
	if ip := f.bytes[etherLength:f.udp]; len(ip) == ip4Length {
		binary.BigEndian.PutUint16(ip[10:], 0)
		binary.BigEndian.PutUint16(ip[10:], fold(sum(ip)))
	}
}

// setPorts sets the ports and completes the checksum.
func (f *frame) setPorts(p ports) {
	udp := f.bytes[f.udp:]
	binary.BigEndian.PutUint16(udp, p.source)
	binary.BigEndian.PutUint16(udp[2:], p.destination)
	c := fold(f.sum + uint32(p.source) + uint32(p.destination))
	if c == 0 {
		c = 0xffff // 0 would mean that there is no checksum
	}
	binary.BigEndian.PutUint16(udp[6:], c)
}

// sum adds the 16-bit words of b.
func sum(b []byte) (s uint32) {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

// fold returns the Internet checksum (RFC 1071) of a sum.
func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
