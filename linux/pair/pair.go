//go:build linux

// Package pair connects a gateway with the IP stack of its own host: a veth pair of which one end belongs to the stack, which routes,
// filters, masquerades and encrypts what passes it like any other traffic, while the gateway takes frames from the other end like from
// any NIC. The package also makes the routes, the nftables rules and the settings that go with a pair.
package pair

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// DefaultMTU is the MTU of a pair for which the configuration has none, in bytes.
const DefaultMTU = 1500

// inner is what the name of the gateway's end adds to that of the host's end.
const inner = "-in"

// MaxName is the maximum length of the name of the host's end, in bytes: the kernel takes 15 for either.
const MaxName = unix.IFNAMSIZ - 1 - len(inner)

// The link-layer addresses of the two ends. Each pair is a link of its own, so all pairs have the same.
var (
	HostMAC    = [6]byte{0x02, 0x64, 0xff, 0x9b, 0x00, 0x01}
	gatewayMAC = [6]byte{0x02, 0x64, 0xff, 0x9b, 0x00, 0x02}
)

// gateway is the next hop of the routes to the gateway, for both families (RFC 8950).
var gateway = netip.MustParseAddr("fe80::64")

// The protocol number that marks our routes (rtnetlink(7)), and their metric, which is below that of other programs' routes.
const (
	protocol = 164
	metric   = 64
)

// Inner returns the name of the gateway's end of the pair whose host's end has a name.
func Inner(name string) string { return name + inner }

// Pair is a veth pair. It is not safe for concurrent use.
type Pair struct {
	Name   string        // of the host's end, at most MaxName bytes
	Family packet.Family // of the packets that the host routes to the gateway
	MTU    int           // of both ends, in bytes
	Addr   netip.Addr    // IPv6 address of the host's end; zero: only a link-local one
}

// Ensure makes the pair, or repairs it. It changes only what differs, and returns a description of each change.
func (p *Pair) Ensure() (changed []string, err error) {
	outer, in, made, err := p.links()
	if err != nil {
		return nil, err
	}
	if made {
		changed = append(changed, "interface "+p.Name)
	}
	for _, l := range []netlink.Link{outer, in} {
		what, err := p.setUp(l)
		changed = append(changed, what...)
		if err != nil {
			return changed, err
		}
	}
	what, err := p.neighbour(outer.Attrs().Index)
	changed = append(changed, what...)
	if err != nil {
		return changed, err
	}
	what, err = p.address(outer)
	return append(changed, what...), err
}

// Remove deletes the pair, and with it the kernel deletes the routes. Without a pair it does nothing.
func (p *Pair) Remove() error {
	outer, _, err := p.find()
	if outer == nil {
		return err
	}
	return wrap("delete", p.Name, netlink.LinkDel(outer))
}

// links returns both ends, and makes them if there are none.
func (p *Pair) links() (outer, in netlink.Link, made bool, err error) {
	outer, in, err = p.find()
	if err != nil || outer != nil {
		return outer, in, false, err
	}
	v := netlink.NewVeth(netlink.LinkAttrs{Name: p.Name, HardwareAddr: HostMAC[:], MTU: p.MTU})
	v.PeerName, v.PeerHardwareAddr, v.PeerMTU = Inner(p.Name), gatewayMAC[:], uint32(p.MTU)
	if err := netlink.LinkAdd(v); err != nil {
		return nil, nil, false, wrap("make", p.Name, err)
	}
	outer, in, err = p.find()
	if err == nil && outer == nil {
		err = fmt.Errorf("interface %s: another program has deleted it", p.Name)
	}
	return outer, in, true, err
}

// find returns both ends, or nil if there is no interface of that name. An interface that Ensure has not made is an error.
func (p *Pair) find() (outer, in netlink.Link, err error) {
	var missing netlink.LinkNotFoundError
	outer, err = netlink.LinkByName(p.Name)
	if errors.As(err, &missing) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, wrap("find", p.Name, err)
	}
	in, err = netlink.LinkByName(Inner(p.Name))
	switch {
	case err != nil && !errors.As(err, &missing):
		return nil, nil, wrap("find", Inner(p.Name), err)
	case err != nil, outer.Type() != "veth", outer.Attrs().ParentIndex != in.Attrs().Index, !slices.Equal(outer.Attrs().HardwareAddr, HostMAC[:]):
		return nil, nil, fmt.Errorf("interface %s exists, and nat64d has not made it: choose another name for attach: host, or delete it (ip link del %s)", p.Name, p.Name)
	}
	return outer, in, nil
}

// setUp gives an end its settings and enables it. The stack has no address on the gateway's end, so that it leaves the packets there
// alone.
func (p *Pair) setUp(l netlink.Link) (changed []string, err error) {
	a := l.Attrs()
	disabled := "0"
	if a.Name != p.Name {
		disabled = "1"
	}
	if a.MTU != p.MTU {
		changed = append(changed, "MTU of "+a.Name)
		if err := netlink.LinkSetMTU(l, p.MTU); err != nil {
			return changed, wrap("set the MTU of", a.Name, err)
		}
	}
	differs, err := set(filepath.Join("ipv6/conf", a.Name, "disable_ipv6"), disabled)
	if err != nil && a.Name == p.Name { // the guard bounds the packets that the stack exchanges on the other end
		return changed, err
	}
	if differs && err == nil {
		changed = append(changed, "disable_ipv6 of "+a.Name)
	}
	if a.Flags&net.FlagUp == 0 {
		changed = append(changed, a.Name+" was down")
		if err := netlink.LinkSetUp(l); err != nil {
			return changed, wrap("enable", a.Name, err)
		}
	}
	return changed, nil
}

// neighbour makes the permanent neighbour to which the routes lead.
func (p *Pair) neighbour(index int) (changed []string, err error) {
	list, err := netlink.NeighList(index, netlink.FAMILY_V6)
	if err != nil {
		return nil, wrap("list the neighbours of", p.Name, err)
	}
	if slices.ContainsFunc(list, func(n netlink.Neigh) bool {
		return n.IP.Equal(gateway.AsSlice()) && n.State == netlink.NUD_PERMANENT && slices.Equal(n.HardwareAddr, gatewayMAC[:])
	}) {
		return nil, nil
	}
	n := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V6, State: netlink.NUD_PERMANENT, IP: gateway.AsSlice(), HardwareAddr: gatewayMAC[:]}
	return []string{"neighbour of " + p.Name}, wrap("make the neighbour of", p.Name, netlink.NeighSet(n))
}

// address gives the host's end its address. No other station is on the link, so nothing has to be detected.
func (p *Pair) address(outer netlink.Link) (changed []string, err error) {
	if !p.Addr.IsValid() {
		return nil, nil
	}
	list, err := netlink.AddrList(outer, netlink.FAMILY_V6)
	if err != nil {
		return nil, wrap("list the addresses of", p.Name, err)
	}
	if slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.Equal(p.Addr.AsSlice()) }) {
		return nil, nil
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
	return []string{"address of " + p.Name}, wrap(fmt.Sprintf("add %v to", p.Addr), p.Name, netlink.AddrAdd(outer, a))
}

// Route makes the host route the prefixes to the gateway, and removes the routes to others that an earlier call has made. The pair
// must exist. Like Ensure it returns a description of each change.
func (p *Pair) Route(to []netip.Prefix) (changed []string, err error) {
	outer, _, err := p.find()
	if err == nil && outer == nil {
		err = fmt.Errorf("interface %s does not exist", p.Name)
	}
	if err != nil {
		return nil, err
	}
	index, table := outer.Attrs().Index, tableOf(outer)
	family := netlink.FAMILY_V6
	if p.Family == packet.V4 {
		family = netlink.FAMILY_V4
	}
	filter := &netlink.Route{LinkIndex: index, Protocol: protocol, Table: unix.RT_TABLE_UNSPEC} // of all tables
	have, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, wrap("list the routes through", p.Name, err)
	}
	missing := slices.Clone(to)
	for i := range have {
		prefix := prefixOf(&have[i])
		if n := len(missing); have[i].Table == table && slices.Contains(to, prefix) {
			missing = slices.DeleteFunc(missing, func(q netip.Prefix) bool { return q == prefix })
			if len(missing) < n {
				continue
			}
		}
		changed = append(changed, fmt.Sprintf("no route to %v", prefix))
		if err := netlink.RouteDel(&have[i]); err != nil && !errors.Is(err, unix.ESRCH) {
			return changed, wrap("delete a route through", p.Name, err)
		}
	}
	for _, prefix := range missing {
		changed = append(changed, fmt.Sprintf("route to %v", prefix))
		if err := netlink.RouteReplace(p.route(index, table, prefix)); err != nil {
			return changed, wrap(fmt.Sprintf("route %v through", prefix), p.Name, err)
		}
	}
	return changed, nil
}

// tableOf returns the number of the table that routes through the host's end belong in: that of its VRF, or the main one.
func tableOf(outer netlink.Link) int {
	master, err := netlink.LinkByIndex(outer.Attrs().MasterIndex)
	if vrf, ok := master.(*netlink.Vrf); err == nil && ok {
		return int(vrf.Table)
	}
	return unix.RT_TABLE_MAIN
}

// route returns the route to a prefix.
func (p *Pair) route(index, table int, to netip.Prefix) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: index, Table: table, Protocol: protocol, Priority: metric,
		Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
	}
	if p.Family == packet.V4 {
		r.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: gateway.AsSlice()}
	} else {
		r.Gw = gateway.AsSlice()
	}
	return r
}

// prefixOf returns the destination of a route.
func prefixOf(r *netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a, bits)
}

// Files returns the files and folders that the package writes while nat64d runs.
func Files() []string {
	return []string{filepath.Join(sysctls, forward4), filepath.Join(sysctls, "ipv6/conf")}
}

// sysctls is the folder of the network settings.
const sysctls = "/proc/sys/net"

// get returns a network setting.
func get(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysctls, name))
	return strings.TrimSpace(string(b)), err
}

// set changes a network setting, and reports whether it had another value.
func set(name, value string) (differs bool, err error) {
	old, err := get(name)
	if err != nil || old == value {
		return false, err
	}
	return true, os.WriteFile(filepath.Join(sysctls, name), []byte(value), 0)
}

// wrap adds to an error of netlink, which is a bare number, the failed operation and the interface.
func wrap(doing, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s interface %s: %w", doing, name, err)
}
