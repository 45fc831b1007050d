//go:build linux

package nexthop

import (
	"encoding/binary"

	"nat64d/packet"
)

// An ARP packet for IPv4 on Ethernet (RFC 826), after its Ethernet header:
//
//	 0        2        4      5      6         8            14         18           24         28
//	+--------+--------+------+------+---------+------------+----------+------------+----------+
//	| hw = 1 | 0x0800 | 6    | 4    | op      | sender MAC | sender IP| target MAC | target IP|
//	+--------+--------+------+------+---------+------------+----------+------------+----------+
const (
	arpLen      = 28
	arpFrameLen = packet.EthLen + arpLen

	etherARP  = 0x0806
	etherIPv4 = 0x0800
	hwEther   = 1
)

// Operations.
const (
	arpRequest = 1
	arpReply   = 2
)

// arp is an ARP packet.
type arp struct {
	op        uint16
	senderMAC [6]byte
	senderIP  packet.Addr4
	targetMAC [6]byte
	targetIP  packet.Addr4
}

// parseARP parses an Ethernet frame. It returns false if the frame is not ARP for IPv4 on Ethernet.
func parseARP(frame []byte) (arp, bool) {
	if len(frame) < arpFrameLen || binary.BigEndian.Uint16(frame[12:]) != etherARP {
		return arp{}, false
	}
	b := frame[packet.EthLen:]
	if binary.BigEndian.Uint16(b) != hwEther || binary.BigEndian.Uint16(b[2:]) != etherIPv4 || b[4] != 6 || b[5] != 4 {
		return arp{}, false
	}
	return arp{
		op:        binary.BigEndian.Uint16(b[6:]),
		senderMAC: [6]byte(b[8:]),
		senderIP:  packet.Addr4(b[14:]),
		targetMAC: [6]byte(b[18:]),
		targetIP:  packet.Addr4(b[24:]),
	}, true
}

// frame appends a as an Ethernet frame to the station with the MAC address to.
func (a *arp) frame(dst []byte, to [6]byte) []byte {
	dst = append(dst, to[:]...)
	dst = append(dst, a.senderMAC[:]...)
	dst = binary.BigEndian.AppendUint16(dst, etherARP)
	dst = binary.BigEndian.AppendUint16(dst, hwEther)
	dst = binary.BigEndian.AppendUint16(dst, etherIPv4)
	dst = append(dst, 6, 4)
	dst = binary.BigEndian.AppendUint16(dst, a.op)
	dst = append(dst, a.senderMAC[:]...)
	dst = append(dst, a.senderIP[:]...)
	dst = append(dst, a.targetMAC[:]...)
	return append(dst, a.targetIP[:]...)
}

// replyTo returns the reply of the station mac to the request q (RFC 826). A probe, whose sender address is zero, is
// answered like any other request: its sender then does not use the address (RFC 5227 section 2.1.1).
func replyTo(q arp, mac [6]byte) arp {
	return arp{op: arpReply, senderMAC: mac, senderIP: q.targetIP, targetMAC: q.senderMAC, targetIP: q.senderIP}
}

// announcement returns the ARP announcement of ip at the station mac (RFC 5227 section 3). It also updates the
// entries of neighbours that have cached a previous owner.
func announcement(ip packet.Addr4, mac [6]byte) arp {
	return arp{op: arpRequest, senderMAC: mac, senderIP: ip, targetIP: ip}
}

var everyone = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
