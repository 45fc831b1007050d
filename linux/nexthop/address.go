//go:build linux

package nexthop

import (
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// AddressState says who answers ARP for an address of pool4, and so whether replies to it can arrive here.
type AddressState uint8

// The states. Packets from addresses in any of them are translated.
const (
	AddressOfHost   AddressState = iota // an interface of the host owns it, and the kernel answers
	AddressLost                         // the host owned it while nat64d was running, and does not now: nobody answers
	AddressRouted                       // it is on no subnet of the v4 interface, or answering is off: it needs a route
	AddressWaiting                      // on a subnet, it is about to be probed, or is being probed
	AddressAnswered                     // probed, announced, and answered for
	AddressConflict                     // another station has it
)

// String returns a word for the operator.
func (s AddressState) String() string {
	return [...]string{"host", "lost", "routed", "probing", "answered", "conflict"}[s]
}

// Address is an address of pool4 and its state.
type Address struct {
	Addr    netip.Addr
	State   AddressState
	Station net.HardwareAddr // that has the address, in AddressConflict
}

// Addresses returns the states of the addresses given to SetProxied, in that order.
func (t *Table) Addresses() []Address {
	s := t.state.Load()
	proxied := *t.proxied.Load()
	list := make([]Address, len(proxied))
	for i, a := range proxied {
		list[i].Addr = a
		list[i].State, list[i].Station = t.address(s, a)
	}
	return list
}

func (t *Table) address(s *snapshot, a netip.Addr) (AddressState, net.HardwareAddr) {
	switch {
	case slices.Contains(s.hosts, a):
		return AddressOfHost, nil
	case s.lost[a]:
		return AddressLost, nil
	case !a.Is4():
		return AddressRouted, nil
	}
	state, station, ok := t.claims.state(a.As4())
	switch {
	case !ok && t.qualifies(s, a): // Run has yet to look at it
		return AddressWaiting, nil
	case !ok:
		return AddressRouted, nil
	case state == held:
		return AddressAnswered, nil
	case state == conflicting:
		return AddressConflict, station[:]
	}
	return AddressWaiting, nil
}

// qualifies reports whether ARP is to be answered for an address.
func (t *Table) qualifies(s *snapshot, a netip.Addr) bool {
	return len(answerable(s, []netip.Addr{a}, t.mode)) > 0
}

// AddressConflicts returns how often another station was found to have an address of pool4.
func (t *Table) AddressConflicts() uint64 { return t.claims.conflicts() }

// answerable returns which of the proxied addresses qualify: IPv4, neither owned by an interface of this host nor lost by
// one, and, unless the mode is on, within a subnet of the v4 interface but not its network or broadcast address.
func answerable(s *snapshot, proxied []netip.Addr, mode AnswerARP) (list []packet.Addr4) {
	if mode == ARPOff || s.nics[v4].Index == 0 {
		return nil
	}
	for _, a := range proxied {
		if !a.Is4() || slices.Contains(s.hosts, a) || s.lost[a] {
			continue
		}
		if mode == ARPOn || slices.ContainsFunc(s.subnets, func(p netip.Prefix) bool { return station(p, a) }) {
			list = append(list, a.As4())
		}
	}
	return list
}

// station reports whether a can be a station of the subnet p.
func station(p netip.Prefix, a netip.Addr) bool {
	last, ok := broadcastOf(p)
	return p.Contains(a) && (!ok || a != p.Masked().Addr() && a != last)
}

// hostAddresses are the IPv4 addresses that the host has had since the start. One that it no longer has may be another
// station's: it is not answered for until the host has it again. It belongs to Run's goroutine.
type hostAddresses map[netip.Addr]bool

// saw notes the host's addresses of now, and returns those that it has lost.
func (h hostAddresses) saw(hosts []netip.Addr) (lost map[netip.Addr]bool) {
	for _, a := range hosts {
		if a.Is4() {
			h[a] = true
		}
	}
	for a := range h {
		if !slices.Contains(hosts, a) {
			if lost == nil {
				lost = make(map[netip.Addr]bool)
			}
			lost[a] = true
		}
	}
	return lost
}

// parseHostAddress reads the IPv4 address in a message of the kernel about addresses (rtnetlink(7)).
func parseHostAddress(data []byte) (netip.Addr, bool) {
	if len(data) < unix.SizeofIfAddrmsg || data[0] != unix.AF_INET {
		return netip.Addr{}, false
	}
	attributes, err := nl.ParseRouteAttr(data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return netip.Addr{}, false
	}
	i := slices.IndexFunc(attributes, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == unix.IFA_LOCAL })
	if i < 0 || len(attributes[i].Value) != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(attributes[i].Value)), true
}
