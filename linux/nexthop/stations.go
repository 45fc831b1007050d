//go:build linux

package nexthop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	rawsocket "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// askTimes is how often Stations asks, in case a request is lost.
const askTimes = 2

// Stations asks on an interface which stations have IPv4 addresses, with the probes of RFC 5227 section 2.1.1, which change no
// neighbour's cache. It returns the stations that answer within a time, or when all have answered.
func Stations(nic string, addrs []netip.Addr, within time.Duration) (map[netip.Addr][6]byte, error) {
	i, err := net.InterfaceByName(nic)
	if err != nil {
		return nil, fmt.Errorf("arp: interface %s: %w", nic, err)
	}
	if len(i.HardwareAddr) != 6 {
		return nil, fmt.Errorf("arp: interface %s has no Ethernet address", nic)
	}
	conn, err := rawsocket.Listen(i, rawsocket.Raw, unix.ETH_P_ARP, &rawsocket.Config{Filter: untagged})
	if err != nil {
		return nil, fmt.Errorf("arp: %s: %w", nic, err)
	}
	defer conn.Close()
	wanted, found := map[netip.Addr]bool{}, map[netip.Addr][6]byte{}
	for _, a := range addrs {
		wanted[a] = true
	}
	for range askTimes {
		for a := range wanted {
			q := arp{op: arpRequest, senderMAC: [6]byte(i.HardwareAddr), targetIP: a.As4()}
			if err := send(conn, &q, everyone); err != nil {
				return nil, fmt.Errorf("arp: %s: %w", nic, err)
			}
		}
		if err := hear(conn, time.Now().Add(within/askTimes), wanted, found); err != nil {
			return found, fmt.Errorf("arp: %s: %w", nic, err)
		}
		if len(wanted) == 0 {
			break
		}
	}
	return found, nil
}

// hear moves addresses from wanted to found as their stations answer, until the deadline. A packet socket does not receive what
// this machine itself sends, such as nat64d's own announcements, on the interface that it leaves through.
func hear(conn *rawsocket.Conn, until time.Time, wanted map[netip.Addr]bool, found map[netip.Addr][6]byte) error {
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	buf := make([]byte, arpFrameLen)
	for len(wanted) > 0 {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		if q, ok := parseARP(buf[:n]); ok && wanted[netip.AddrFrom4(q.senderIP)] {
			found[netip.AddrFrom4(q.senderIP)] = q.senderMAC
			delete(wanted, netip.AddrFrom4(q.senderIP))
		}
	}
	return nil
}
