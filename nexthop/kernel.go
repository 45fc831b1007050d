package nexthop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"nat64d/drop"
)

// kernel asks the kernel for the state of the network namespace in which it was opened. One goroutine may use it.
type kernel struct {
	handle *netlink.Handle  // links, addresses, rules, neighbours
	routes *nl.SocketHandle // what handle does not tell completely

	// interrupted says that something changed during the last snapshot, which may therefore be inconsistent.
	interrupted bool
}

// openKernel opens a kernel in the namespace of the calling thread.
func openKernel() (*kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: open: %w", err)
	}
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("netlink: open: %w", err)
	}
	return &kernel{handle: h, routes: &nl.SocketHandle{Socket: s}}, nil
}

// close frees the sockets.
func (k *kernel) close() {
	k.handle.Close()
	k.routes.Close()
}

// checkInterfaces makes sure that both interfaces exist and are Ethernet ones.
func (k *kernel) checkInterfaces(i Interfaces) error {
	links, err := k.handle.LinkList()
	if err := k.listed("interfaces", err); err != nil {
		return err
	}
	for _, name := range []string{i.V6, i.V4} {
		n := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name })
		if n < 0 {
			return fmt.Errorf("interface %q does not exist: this host has %s", name, names(links))
		}
		if a := links[n].Attrs(); !ethernet(a) {
			return fmt.Errorf("interface %q is of type %s: must be an Ethernet one", name, a.EncapType)
		}
	}
	return nil
}

// names lists interfaces for an error message.
func names(links []netlink.Link) string {
	var s []string
	for _, l := range links {
		s = append(s, l.Attrs().Name)
	}
	return strings.Join(s, ", ")
}

// ethernet says whether frames of an interface have Ethernet headers.
func ethernet(a *netlink.LinkAttrs) bool { return a.EncapType == "ether" && len(a.HardwareAddr) == 6 }

// listed judges the error of a list.
func (k *kernel) listed(what string, err error) error {
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted):
		k.interrupted = true
		return nil
	case err != nil:
		return fmt.Errorf("netlink: list %s: %w", what, err)
	}
	return nil
}

// snapshot reads everything anew. The neighbours that are as they were in old keep their marks.
func (k *kernel) snapshot(i Interfaces, old *snapshot) (*snapshot, error) {
	s := &snapshot{asked: new(bart.Table[way])}
	k.interrupted = false
	var err error
	if s.nics[v6].Link, err = k.link(i.V6); err != nil {
		return nil, err
	}
	if s.nics[v4].Link, err = k.link(i.V4); err != nil {
		return nil, err
	}
	s.nics[v6].MTU = min(s.nics[v6].MTU, mtu6(i.V6))
	s.forwards = forwards6(i.V6)
	if err := k.addresses(s); err != nil {
		return nil, err
	}
	if err := k.rules(s); err != nil {
		return nil, err
	}
	if s.fib, err = k.fib(); err != nil {
		return nil, err
	}
	return s, k.neighbours(s, old)
}

// link reads the state of the named interface; the index is 0 if there is none.
func (k *kernel) link(name string) (Link, error) {
	link, err := k.handle.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return Link{Name: name}, nil
	case err != nil:
		return Link{}, fmt.Errorf("netlink: interface %s: %w", name, err)
	}
	a := link.Attrs()
	if !ethernet(a) {
		return Link{Name: name}, nil // another interface took the name
	}
	return Link{
		Name:  name,
		Index: a.Index,
		MAC:   [6]byte(a.HardwareAddr),
		MTU:   uint32(a.MTU),
		Up:    a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0,
	}, nil
}

// mtu6 returns the IPv6 MTU of an interface, which a router advertisement or the administrator may have set below
// that of the link (RFC 4861 section 4.6.4). Without IPv6 it is no limit.
func mtu6(name string) uint32 {
	const none = 1 << 16
	if n, ok := conf6(name, "mtu"); ok {
		return n
	}
	return none
}

// forwards6 says whether the kernel forwards IPv6 packets that come in on an interface. That is one switch for all
// interfaces; the switch of a single one, also called forwarding, says whether it is a router's. Kernels from 6.17 on
// can forward from a single one, too.
func forwards6(name string) bool {
	all, _ := conf6("all", "forwarding")
	one, _ := conf6(name, "force_forwarding")
	return all != 0 || one != 0
}

// conf6 reads a number from the settings of an interface, false if there is none.
func conf6(name, setting string) (uint32, bool) {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", name, setting))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	return uint32(n), err == nil
}

// addresses reads the addresses of the host.
func (k *kernel) addresses(s *snapshot) error {
	list, err := k.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err := k.listed("addresses", err); err != nil {
		return err
	}
	var owns []own
	for i := range list {
		o, ok := ownFrom(&list[i])
		if !ok {
			continue
		}
		owns = append(owns, o)
		s.hosts = append(s.hosts, o.prefix.Addr())
		if o.index == s.nics[v4].Index && o.prefix.Addr().Is4() {
			s.subnets = append(s.subnets, o.prefix)
		}
	}
	for d := range s.sources {
		s.sources[d] = sources(owns, s.nics[d].Index, side(d))
	}
	return nil
}

// rules finds out whether routing is by destination alone.
func (k *kernel) rules(s *snapshot) error {
	for d, family := range [sides]int{v6: netlink.FAMILY_V6, v4: netlink.FAMILY_V4} {
		list, err := k.handle.RuleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without this family
		}
		if err := k.listed("rules", err); err != nil {
			return err
		}
		s.policy[d] = slices.ContainsFunc(list, beyondDefault) || len(list) < 2
	}
	return nil
}

// beyondDefault says whether r is none of the rules that the kernel starts with.
func beyondDefault(r netlink.Rule) bool {
	defaults := map[int]int{0: unix.RT_TABLE_LOCAL, 32766: unix.RT_TABLE_MAIN, 32767: unix.RT_TABLE_DEFAULT}
	table, ok := defaults[r.Priority]
	plain := r.Src == nil && r.Dst == nil && r.Mark == 0 && r.Tos == 0 && r.IifName == "" && r.OifName == "" &&
		r.IPProto == 0 && r.Sport == nil && r.Dport == nil && r.UIDRange == nil && !r.Invert && r.SuppressPrefixlen < 0
	return !ok || r.Table != table || !plain
}

// fib reads all routes.
func (k *kernel) fib() (fib, error) {
	f := newFIB()
	req := k.request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.AF_UNSPEC)
	err := req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(b []byte) bool {
		if c, ok := parseRoute(b); ok {
			f.load(c)
		}
		return true
	})
	return f, k.listed("routes", err)
}

// request returns a route request.
func (k *kernel) request(kind, flags int, family uint8) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.routes}
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
	return req
}

// way asks the kernel for the route of a packet that this host would send to dst. A look-up as for a forwarded packet
// ("iif") would fail while the kernel does not forward.
func (k *kernel) way(dst netip.Addr, index int) way {
	family := uint8(unix.AF_INET)
	if dst.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.routes}
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: uint8(dst.BitLen())}})
	req.AddData(nl.NewRtAttr(unix.RTA_DST, dst.AsSlice()))
	w := way{reason: drop.NoRoute} // also what an error of the kernel says
	_ = req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(b []byte) bool {
		if c, ok := parseRoute(b); ok {
			if found, ok := (routes{c.route}).way(dst, index); ok {
				w = found
			}
		}
		return true
	})
	return w
}

// neighbours reads the neighbours of both interfaces.
func (k *kernel) neighbours(s, old *snapshot) error {
	for d := range s.nics {
		n := &s.nics[d]
		n.neighbours = new(bart.Table[*neighbour])
		if n.Index == 0 || side(d) == v4 && s.oneNIC() {
			continue
		}
		list, err := k.handle.NeighList(n.Index, netlink.FAMILY_ALL)
		if err := k.listed("neighbours of "+n.Name, err); err != nil {
			return err
		}
		for i := range list {
			n.load(&list[i], &old.nics[d])
		}
	}
	s.share()
	return nil
}

// resolve makes the kernel find the link-layer address of a neighbour, or check that of a stale one, as a packet to
// it would (NTF_USE). It must replace: the kernel refuses to add an entry that exists.
func (k *kernel) resolve(index int, a netip.Addr) error {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	err := k.handle.NeighSet(&netlink.Neigh{
		LinkIndex: index,
		Family:    family,
		Flags:     netlink.NTF_USE,
		IP:        a.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("netlink: resolve %v: %w", a, err)
	}
	return nil
}
