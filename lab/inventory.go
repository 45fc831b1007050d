//go:build linux

package lab

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Inventory returns the interfaces, the routes of all tables, the rules and the forwarding settings of the namespace,
// each as a line. Comparing two shows what a program has left behind.
func (n *Namespace) Inventory() (lines []string, err error) {
	links, err := n.links.LinkList()
	if err != nil {
		return nil, fmt.Errorf("interfaces of %s: %w", n.Name, err)
	}
	for _, l := range links {
		lines = append(lines, "interface "+l.Attrs().Name)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := n.links.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("routes of %s: %w", n.Name, err)
		}
		for _, r := range routes {
			lines = append(lines, "route "+r.String())
		}
		rules, err := n.links.RuleList(family)
		if err != nil {
			return nil, fmt.Errorf("rules of %s: %w", n.Name, err)
		}
		for _, r := range rules {
			lines = append(lines, r.String())
		}
	}
	for _, name := range []string{"net/ipv4/ip_forward", everyone + "forwarding"} {
		value, err := n.Sysctl(name)
		if err != nil {
			return nil, err
		}
		lines = append(lines, name+" "+value)
	}
	return lines, nil
}
