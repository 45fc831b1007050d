package pool4

import (
	"cmp"
	"fmt"
	"net/netip"

	"nat64d/packet"
)

// Entry is one range of IPv4 transport addresses of one protocol: the ports, or for ICMP the Identifiers, Lo to Hi
// of one address, both ends included.
type Entry struct {
	Addr   netip.Addr
	Proto  packet.Proto
	Lo, Hi uint16 // host order
}

// String returns the entry in the form of a command, for instance "udp 192.0.2.1 7000-8000".
func (e Entry) String() string {
	if e.Lo == e.Hi {
		return fmt.Sprintf("%v %v %d", e.Proto, e.Addr, e.Lo)
	}
	return fmt.Sprintf("%v %v %d-%d", e.Proto, e.Addr, e.Lo, e.Hi)
}

// Compare orders entries by address, then protocol, then first and last port.
func (e Entry) Compare(f Entry) int {
	return cmp.Or(e.Addr.Compare(f.Addr), cmp.Compare(e.Proto, f.Proto), cmp.Compare(e.Lo, f.Lo), cmp.Compare(e.Hi, f.Hi))
}

// check validates an entry that does not come from ParseRange.
func (e Entry) check() error {
	switch {
	case e.Proto >= packet.Protos:
		return fmt.Errorf("pool4: protocol %d is unknown: it must be TCP, UDP or ICMP", uint8(e.Proto))
	case e.Lo > e.Hi:
		return fmt.Errorf("pool4: %v: the range is reversed: write %d-%d", e, e.Hi, e.Lo)
	case e.Lo == 0 && e.Proto != packet.ICMP:
		return fmt.Errorf("pool4: %v: %v has no port 0: the lowest is 1", e, e.Proto)
	}
	return CheckAddr(e.Addr)
}

// Usage is an entry and the number of its ports that are in use.
type Usage struct {
	Entry
	Used int // ports or Identifiers that dynamic and static bindings have
	Held int // those that no binding has, but that are held down
}

// RowUsage is the use of all ports of one address for one protocol.
type RowUsage struct {
	Addr  netip.Addr
	Proto packet.Proto
	Size  int // ports in the pool
	Used  int // of them, those that bindings have
	Held  int // of them, those that no binding has, but that are held down
	Peak  int // most ports of the address that bindings had at a time, static ones outside of the pool's ranges included
}

// unusable lists prefixes of addresses that can never be the source of a packet on an IPv4 network.
var unusable = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an address of \"this network\" (RFC 1122)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or broadcast address"},
}

// CheckAddr returns an error if an address cannot be in pool4.
func CheckAddr(a netip.Addr) error {
	if !a.Is4() {
		return fmt.Errorf("pool4: %v is not an IPv4 address: pool4 holds addresses such as 192.0.2.1", a)
	}
	for _, u := range unusable {
		if u.prefix.Contains(a) {
			return fmt.Errorf("pool4: %v is %s: pool4 needs unicast addresses that are routed to this machine", a, u.what)
		}
	}
	return nil
}
