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

// AddressState is the state of an address of pool4: which station answers ARP for it, and so whether replies reach
// the gateway.
type AddressState uint8

// The states. Packets from an address are translated in any state.
const (
	AddressOfHost   AddressState = iota // an interface of the host owns it, and the kernel answers
	AddressLost                         // an interface of the host owned it earlier while nat64d was running; no station answers
	AddressRouted                       // it is on no subnet of the v4 interface, or answer_arp is off: it needs a route
	AddressWaiting                      // it is on a subnet and will be probed, or is being probed
	AddressAnswered                     // nat64d has probed and announced it, and answers
	AddressConflict                     // another station has it
)

// String returns the state as a word for the operator.
func (s AddressState) String() string {
	return [...]string{"host", "lost", "routed", "probing", "answered", "conflict"}[s]
}

// Address is an address of pool4 with its state.
type Address struct {
	Addr    netip.Addr
	State   AddressState
	Station net.HardwareAddr // the other station, in AddressConflict
}

// Addresses returns the states of the addresses set by SetProxied, in the same order.
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
	case !ok && t.qualifies(s, a): // Run has not processed it yet
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

// qualifies reports whether ARP requests for an address should be answered.
func (t *Table) qualifies(s *snapshot, a netip.Addr) bool {
	return len(answerable(s, []netip.Addr{a}, t.mode)) > 0
}

// AddressConflicts returns how often another station with an address of pool4 was detected.
func (t *Table) AddressConflicts() uint64 { return t.claims.conflicts() }

// answerable returns the proxied addresses that qualify: IPv4 addresses that no interface of this host owns or has
// lost. Unless the mode is on, they must also be in a subnet of the v4 interface, without its network and broadcast
// address.
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

// station reports whether a can be a station's address in the subnet p.
func station(p netip.Prefix, a netip.Addr) bool {
	last, ok := broadcastOf(p)
	return p.Contains(a) && (!ok || a != p.Masked().Addr() && a != last)
}

// hostAddresses are the IPv4 addresses that the host has had since the start. An address that the host has lost may
// now be another station's, so it is not answered until the host has it again. Only Run's goroutine uses it.
type hostAddresses map[netip.Addr]bool

// saw adds the current addresses of the host, and returns the lost ones.
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

// parseHostAddress parses the IPv4 address in an address message of the kernel (rtnetlink(7)).
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
