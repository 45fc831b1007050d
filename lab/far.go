//go:build linux

package lab

import (
	"errors"
	"net"

	"github.com/vishvananda/netlink"
)

// The maximum segment sizes that the far hosts announce: those of an MTU of 1500.
const (
	farSegment6 = 1440
	farSegment4 = 1460
)

// plugFar6 connects the far client to the client, which becomes its router.
func (l *Lab) plugFar6() error {
	if err := l.cable(l.FarClient, l.Client, "far", 0); err != nil {
		return err
	}
	return errors.Join(
		l.Client.SetSysctl(everyone+"forwarding", "1"),
		l.Client.SetSysctl("net/ipv6/icmp/ratelimit", "0"),
		l.Client.add("far", farRouter6+"/64"),
		l.FarClient.add("eth0", FarClient6+"/64"),
		l.FarClient.routeAll("::/0", farRouter6, farSegment6),
		l.Gateway.route(l.NIC6, farNetwork6, Client6))
}

// plugFar4 connects the far server to the server, which becomes its router.
func (l *Lab) plugFar4() error {
	if err := l.cable(l.FarServer, l.Server, "far", 0); err != nil {
		return err
	}
	return errors.Join(
		l.Server.SetSysctl("net/ipv4/ip_forward", "1"),
		l.Server.SetSysctl("net/ipv4/icmp_ratelimit", "0"),
		l.Server.add("far", farRouter4+"/24"),
		l.FarServer.add("eth0", FarServer4+"/24"),
		l.FarServer.routeAll("0.0.0.0/0", farRouter4, farSegment4),
		l.Gateway.route(l.NIC4, farNetwork4, Server4))
}

// SetFarMTU6 sets the MTU of the link to the far client, at both ends.
func (l *Lab) SetFarMTU6(mtu int) error {
	return errors.Join(l.Client.setMTU("far", mtu), l.FarClient.setMTU("eth0", mtu))
}

// SetFarMTU4 sets the MTU of the link to the far server, at both ends.
func (l *Lab) SetFarMTU4(mtu int) error {
	return errors.Join(l.Server.setMTU("far", mtu), l.FarServer.setMTU("eth0", mtu))
}

// routeAll makes a router the only way out of a host that announces a segment size of its own choice.
func (n *Namespace) routeAll(prefix, via string, segment int) error {
	return n.with("eth0", func(link netlink.Link) error {
		return n.links.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: network(prefix), Gw: net.ParseIP(via), AdvMSS: segment,
		})
	})
}
