//go:build linux

package nexthop

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	rawsocket "github.com/mdlayher/packet"

	"nat64d/packet"
)

// announcer tells the neighbours where addresses of the host are, if an interface has another MAC, was replaced, or was down. The
// kernel does not do so by default (arp_notify, ndisc_notify). Neighbours would send to an old MAC for up to a minute, and repeat a
// question that was lost while the link came up only after a second. Only Run's goroutine uses it.
type announcer struct {
	t     *Table
	known map[netip.Addr][6]byte // the last MAC of each address of the two interfaces
	up    [sides]bool
	again []ownAddress // to be announced once more, in case the first frame was lost
	at    time.Time    // of the last announcement
}

// announceAgain is the time until the second announcement: 1 s at least in RFC 4861 section 7.2.6, 2 s in RFC 5227.
const announceAgain = announceInterval

// ownAddress is an address of the host on one of the two interfaces.
type ownAddress struct {
	addr netip.Addr
	side side
}

// ownAddresses returns the addresses of the host that neighbours on the two interfaces resolve.
func ownAddresses(owns []own, nics *[sides]nic) (list []ownAddress) {
	for _, o := range owns {
		d := v6
		if o.prefix.Addr().Is4() {
			d = v4
		}
		if o.usable() && o.index == nics[d].Index {
			list = append(list, ownAddress{o.prefix.Addr(), d})
		}
	}
	return list
}

// update announces the addresses that have another MAC than before, or were unreachable.
func (a *announcer) update(s *snapshot, now time.Time) {
	var list []ownAddress
	for _, o := range s.own {
		nic := &s.nics[o.side]
		if !nic.Up {
			continue // until a frame can be sent
		}
		if mac, ok := a.known[o.addr]; ok && (mac != nic.MAC || !a.up[o.side]) {
			list = append(list, o)
		}
		a.known[o.addr] = nic.MAC
	}
	for d := range a.up {
		a.up[d] = s.nics[d].Up
	}
	if len(list) > 0 {
		a.send(s, list)
		a.again, a.at = append(a.again, list...), now
	}
}

// repeat sends the last announcements once more.
func (a *announcer) repeat(s *snapshot, now time.Time) {
	if len(a.again) > 0 && now.Sub(a.at) >= announceAgain {
		a.send(s, a.again)
		a.again = nil
	}
}

// send announces addresses with the present MACs of their interfaces.
func (a *announcer) send(s *snapshot, list []ownAddress) {
	for d := range s.nics {
		l := &s.nics[d].Link
		if err := announce(l, side(d), list); err != nil {
			a.t.log.Warn("cannot announce addresses of this host", "interface", l.Name, "error", err)
		}
	}
}

// announce sends the announcements of one side.
func announce(l *Link, d side, list []ownAddress) error {
	var conn *rawsocket.Conn
	for _, o := range list {
		if o.side != d || !l.Up {
			continue
		}
		if conn == nil {
			var err error
			ifi := &net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: l.MAC[:]}
			if conn, err = rawsocket.Listen(ifi, rawsocket.Raw, 0, nil); err != nil { // protocol 0 receives nothing
				return err
			}
			defer conn.Close()
		}
		to, frame := everyone, []byte(nil)
		if d == v4 {
			m := announcement(o.addr.As4(), l.MAC)
			frame = m.frame(nil, to)
		} else {
			to = allNodesMAC
			frame = advertisement(o.addr.As16(), l.MAC, router6(l.Name))
		}
		if _, err := conn.WriteTo(frame, &rawsocket.Addr{HardwareAddr: to[:]}); err != nil {
			return err
		}
	}
	return nil
}

// router6 reports whether the kernel calls itself a router in its own advertisements. A different flag would make hosts
// remove it from their default routers (RFC 4861 section 7.2.5).
func router6(name string) bool {
	n, _ := conf6(name, "forwarding")
	return n != 0
}

// An unsolicited Neighbor Advertisement with the option Target Link-layer Address (RFC 4861 sections 4.4 and 4.6.1), after its
// Ethernet and IPv6 headers:
//
//	 0     1     2           4                     8                24    25    26          32
//	+-----+-----+-----------+---------------------+----------------+-----+-----+-----------+
//	| 136 | 0   | checksum  | R S O, 29 zero bits | target address | 2   | 1   | MAC       |
//	+-----+-----+-----------+---------------------+----------------+-----+-----+-----------+
const (
	advertisementLen  = 32
	typeAdvertisement = 136
	flagRouter        = 0x80
	flagOverride      = 0x20
	optionTargetMAC   = 2
	neighbourHops     = 255 // proves that no router has forwarded the packet
	etherIPv6         = 0x86dd
)

// allNodes is ff02::1, and allNodesMAC its Ethernet address.
var (
	allNodes    = packet.Addr6{0: 0xff, 1: 0x02, 15: 1}
	allNodesMAC = [6]byte{0x33, 0x33, 0, 0, 0, 1}
)

// advertisement returns the Ethernet frame of an unsolicited advertisement of addr at the station mac.
func advertisement(addr packet.Addr6, mac [6]byte, router bool) []byte {
	frame := make([]byte, packet.EthLen+packet.IPv6Len+advertisementLen)
	copy(frame, allNodesMAC[:])
	copy(frame[6:], mac[:])
	binary.BigEndian.PutUint16(frame[12:], etherIPv6)
	ip := packet.IPv6(frame[packet.EthLen:])
	ip.Put(0, advertisementLen, packet.NumICMPv6, neighbourHops, &addr, &allNodes)
	b := ip[packet.IPv6Len:]
	b[0], b[4] = typeAdvertisement, flagOverride
	if router {
		b[4] |= flagRouter
	}
	copy(b[8:], addr[:])
	b[24], b[25] = optionTargetMAC, 1
	copy(b[26:], mac[:])
	binary.BigEndian.PutUint16(b[2:], packet.PseudoHeader(ip, advertisementLen).Bytes(b).Checksum())
	return frame
}
