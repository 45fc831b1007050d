//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Plug6 connects the client to the gateway; Unplug6 undoes it. Each Plug6 creates interfaces with new indexes and new
// hardware addresses.
func (l *Lab) Plug6() error {
	if err := l.cable(l.Client, l.Gateway, l.NIC6, l.opt.MTU6); err != nil {
		return err
	}
	if err := l.Gateway.add(l.NIC6, Gateway6+"/64"); err != nil {
		return err
	}
	return l.configureClient()
}

// Plug4 connects the server to the gateway; Unplug4 undoes it.
func (l *Lab) Plug4() error {
	if err := l.cable(l.Server, l.Gateway, l.NIC4, l.opt.MTU4); err != nil {
		return err
	}
	if err := l.Gateway.add(l.NIC4, Gateway4+"/24"); err != nil {
		return err
	}
	return l.configureServer()
}

// Unplug6 deletes the gateway's interface towards the client. The client's interface disappears with it.
func (l *Lab) Unplug6() error { return l.unplug(l.NIC6) }

// Unplug4 deletes the gateway's interface towards the server. The server's interface disappears with it.
func (l *Lab) Unplug4() error { return l.unplug(l.NIC4) }

// plugOne connects all three through a bridge in a separate namespace: the gateway has a single NIC.
func (l *Lab) plugOne() error {
	bridge := netlink.NewLinkAttrs()
	bridge.Name = "bridge"
	if err := l.wire.links.LinkAdd(&netlink.Bridge{LinkAttrs: bridge}); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := l.wire.SetUp("bridge", true); err != nil {
		return err
	}
	mtus := []struct {
		end  *Namespace
		port string
		mtu  int
	}{{l.Client, "c6", 0}, {l.Gateway, "gw", max(l.opt.MTU6, l.opt.MTU4)}, {l.Server, "s4", 0}}
	for _, m := range mtus {
		if err := l.cable(m.end, l.wire, m.port, m.mtu); err != nil {
			return err
		}
		if err := l.wire.join(m.port, "bridge"); err != nil {
			return err
		}
	}
	if err := errors.Join(l.Gateway.add("eth0", Gateway6+"/64"), l.Gateway.add("eth0", Gateway4+"/24")); err != nil {
		return err
	}
	return errors.Join(l.configureClient(), l.configureServer())
}

func (l *Lab) configureClient() error {
	for i := range max(1, l.opt.Clients) {
		if err := l.Client.add("eth0", ClientAddress(i).String()+"/64"); err != nil {
			return err
		}
	}
	return l.Client.route("eth0", Prefix6, Gateway6)
}

func (l *Lab) configureServer() error {
	if err := l.Server.add("eth0", Server4+"/24"); err != nil {
		return err
	}
	return l.Server.route("eth0", Routed4, Gateway4)
}

// Forward makes the gateway a plain IPv6 router between the client, the pods and the server, which then has the address
// Server6, or reverts that. Benchmarks compare a gateway with this forwarding.
func (l *Lab) Forward(on bool) error {
	value := map[bool]string{true: "1", false: "0"}
	if err := l.Server.SetSysctl(everyone+"disable_ipv6", value[!on]); err != nil {
		return err
	}
	if err := l.Gateway.SetSysctl(everyone+"forwarding", value[on]); err != nil {
		return err
	}
	if !on {
		return errors.Join(l.Gateway.remove6(l.NIC4, forwarding6+"/64"), l.Client.unroute("eth0", serverNetwork))
	}
	if err := errors.Join(l.Gateway.add(l.NIC4, forwarding6+"/64"), l.Server.add("eth0", Server6+"/64")); err != nil {
		return err
	}
	errs := []error{l.Client.route("eth0", serverNetwork, Gateway6), l.Server.route("eth0", clientNetwork, forwarding6)}
	if l.pods > 0 {
		errs = append(errs, l.Server.route("eth0", podNetwork+"/64", forwarding6))
	}
	return errors.Join(errs...)
}

// cable connects the eth0 of an end to a port of a hub, and sets both up.
func (l *Lab) cable(end, hub *Namespace, port string, mtu int) error {
	if mtu == 0 {
		mtu = defaultMTU
	}
	connect := l.veth
	if l.opt.TAP {
		connect = l.taps
	}
	if err := connect(end, hub, port, mtu, max(mtu, minimumEndMTU)); err != nil {
		return fmt.Errorf("cable from %s to %s: %w", end.Name, hub.Name, err)
	}
	if l.opt.NoOffload && end != l.Gateway {
		if err := end.noOffload("eth0"); err != nil {
			return err
		}
	}
	return errors.Join(hub.SetUp(port, true), end.SetUp("eth0", true))
}

// veth connects two interfaces by making them a veth pair.
func (l *Lab) veth(end, hub *Namespace, port string, mtu, endMTU int) error {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU = port, mtu
	pair := netlink.NewVeth(a)
	pair.PeerName, pair.PeerMTU = "eth0", uint32(endMTU)
	pair.PeerNamespace = netlink.NsFd(end.handle)
	return hub.links.LinkAdd(pair)
}

// taps connects two TAP devices with a cable.
func (l *Lab) taps(end, hub *Namespace, port string, mtu, endMTU int) error {
	a, err := hub.OpenTAP(port)
	if err != nil {
		return err
	}
	b, err := end.OpenTAP("eth0")
	if err != nil {
		return errors.Join(err, unix.Close(a))
	}
	c := newCable(a, b)
	if err := l.Switch.add(c); err != nil {
		return errors.Join(err, l.Switch.remove(c))
	}
	l.cables[plug{hub, port}] = c
	return errors.Join(hub.setMTU(port, mtu), end.setMTU("eth0", endMTU), hub.setQueue(port, tapQueue), end.setQueue("eth0", tapQueue))
}

// plug is the end of a cable at a hub.
type plug struct {
	hub  *Namespace
	port string
}

// Cable returns the cable at an interface of the gateway, or nil without Options.TAP.
func (l *Lab) Cable(nic string) *Cable { return l.cables[plug{l.Gateway, nic}] }

// unplug removes the interface of the gateway and the other end of its link.
func (l *Lab) unplug(nic string) error {
	if c := l.Cable(nic); c != nil {
		delete(l.cables, plug{l.Gateway, nic})
		return l.Switch.remove(c)
	}
	return l.Gateway.with(nic, l.Gateway.links.LinkDel)
}

// SetUp sets an interface up or down.
func (n *Namespace) SetUp(name string, up bool) error {
	return n.with(name, func(link netlink.Link) error {
		if up {
			return n.links.LinkSetUp(link)
		}
		return n.links.LinkSetDown(link)
	})
}

// SetSuperPackets sets the maximum length in bytes of the super-packets that an interface sends, in either family. A
// length of more than 64 KiB enables BIG TCP.
func (n *Namespace) SetSuperPackets(name string, size int) error {
	return n.with(name, func(link netlink.Link) error {
		return errors.Join(n.links.LinkSetGSOMaxSize(link, size), n.links.LinkSetGSOIPv4MaxSize(link, size))
	})
}

// Statistics returns the counters of an interface.
func (n *Namespace) Statistics(name string) (s netlink.LinkStatistics, err error) {
	err = n.with(name, func(link netlink.Link) error {
		s = *link.Attrs().Statistics
		return nil
	})
	return s, err
}

func (n *Namespace) with(name string, f func(netlink.Link) error) error {
	link, err := n.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s of %s: %w", name, n.Name, err)
	}
	if err := f(link); err != nil {
		return fmt.Errorf("interface %s of %s: %w", name, n.Name, err)
	}
	return nil
}

func (n *Namespace) join(name, bridge string) error {
	master, err := n.links.LinkByName(bridge)
	if err != nil {
		return err
	}
	return n.with(name, func(link netlink.Link) error { return n.links.LinkSetMaster(link, master) })
}

func (n *Namespace) setMTU(name string, mtu int) error {
	return n.with(name, func(link netlink.Link) error { return n.links.LinkSetMTU(link, mtu) })
}

func (n *Namespace) setQueue(name string, frames int) error {
	return n.with(name, func(link netlink.Link) error { return n.links.LinkSetTxQLen(link, frames) })
}

func (n *Namespace) add(name, prefix string) error {
	return n.with(name, func(link netlink.Link) error {
		return n.links.AddrAdd(link, address(prefix))
	})
}

func (n *Namespace) remove6(name, prefix string) error {
	return n.with(name, func(link netlink.Link) error { return n.links.AddrDel(link, address(prefix)) })
}

func (n *Namespace) route(name, prefix, via string) error {
	return n.with(name, func(link netlink.Link) error {
		return n.links.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: network(prefix), Gw: net.ParseIP(via)})
	})
}

func (n *Namespace) unroute(name, prefix string) error {
	return n.with(name, func(link netlink.Link) error {
		return n.links.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: network(prefix)})
	})
}

// address returns the prefix as netlink has it; prefixes are constants of this package. An IPv6 one skips duplicate
// address detection.
func address(prefix string) *netlink.Addr {
	p := netip.MustParsePrefix(prefix)
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func network(prefix string) *net.IPNet { return address(prefix).IPNet }
