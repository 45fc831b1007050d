//go:build linux

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
)

// kernel reads the state of the network namespace in which it was opened. It is not safe for concurrent use.
type kernel struct {
	handle *netlink.Handle  // links, addresses, rules, neighbours
	routes *nl.SocketHandle // for data that handle does not return completely
	xfrm   *nl.SocketHandle // IPsec policies; nil: the kernel has no IPsec
	blind  bool             // the process may not list IPsec policies

	// interrupted reports that the state changed during the last snapshot, which may therefore be inconsistent.
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
	k := &kernel{handle: h, routes: &nl.SocketHandle{Socket: s}}
	x, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_XFRM)
	switch {
	case err == nil:
		k.xfrm = &nl.SocketHandle{Socket: x}
	case !withoutIPsec(err):
		k.close()
		return nil, fmt.Errorf("netlink: open: %w", err)
	}
	return k, nil
}

// close closes the sockets.
func (k *kernel) close() {
	k.handle.Close()
	k.routes.Close()
	if k.xfrm != nil {
		k.xfrm.Close()
	}
}

// checkInterfaces returns an error if an interface is not an Ethernet one. It returns a sentence for each interface
// that does not exist.
func (k *kernel) checkInterfaces(i Interfaces) (missing []string, err error) {
	links, err := k.handle.LinkList()
	if err := k.listed("interfaces", err); err != nil {
		return nil, err
	}
	for _, name := range []string{i.V6, i.V4} {
		n := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name })
		if n < 0 {
			missing = append(missing, fmt.Sprintf("interface %q does not exist, waiting for it: this host has %s", name, names(links)))
			continue
		}
		if a := links[n].Attrs(); !ethernet(a) {
			return nil, fmt.Errorf("interface %q is of type %s: must be an Ethernet one", name, a.EncapType)
		}
	}
	return slices.Compact(missing), nil
}

// names returns a list of interfaces for a message.
func names(links []netlink.Link) string {
	var s []string
	for _, l := range links {
		s = append(s, l.Attrs().Name)
	}
	return strings.Join(s, ", ")
}

// ethernet reports whether frames of an interface have Ethernet headers.
func ethernet(a *netlink.LinkAttrs) bool { return a.EncapType == "ether" && len(a.HardwareAddr) == 6 }

// listed handles the error of a dump.
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

// snapshot does a full read. Neighbours that are unchanged since old keep their marks.
func (k *kernel) snapshot(i Interfaces, old *snapshot) (*snapshot, error) {
	s := &snapshot{fib: newFIB()}
	k.interrupted = false
	var err error
	if s.nics[v6], err = k.link(i.V6); err != nil {
		return nil, err
	}
	if s.nics[v4], err = k.link(i.V4); err != nil {
		return nil, err
	}
	s.attach(i)
	s.nics[v6].MTU = min(s.nics[v6].MTU, mtu6(i.V6))
	s.forwards = forwards6(i.V6)
	if err := k.addresses(s); err != nil {
		return nil, err
	}
	if err := k.rules(s); err != nil {
		return nil, err
	}
	if err := k.fib(&s.fib); err != nil {
		return nil, err
	}
	if s.ipsec, err = k.ipsec(); err != nil {
		return nil, err
	}
	s.choose()
	return s, k.neighbours(s, old)
}

// attach records which sides are pairs.
func (s *snapshot) attach(i Interfaces) {
	s.nics[v6].host, s.nics[v4].host = i.Host6, i.Host4
	s.nics[v4].serveOwn = i.ServeOwn
}

// link returns the state of the named interface. The index is 0 if it does not exist.
func (k *kernel) link(name string) (nic, error) {
	link, err := k.handle.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return nic{Link: Link{Name: name}}, nil
	case err != nil:
		return nic{}, fmt.Errorf("netlink: interface %s: %w", name, err)
	}
	n := nicOf(link)
	if n.vrf == 0 {
		return n, nil
	}
	master, err := k.handle.LinkByIndex(link.Attrs().MasterIndex)
	if err != nil {
		return nic{}, fmt.Errorf("netlink: VRF of interface %s: %w", name, err)
	}
	n.master = master.Attrs().Name
	return n, nil
}

// nicOf converts the netlink attributes of an interface. It sets no index if the interface is not an Ethernet one,
// which then has taken the name.
func nicOf(link netlink.Link) nic {
	a := link.Attrs()
	if !ethernet(a) {
		return nic{Link: Link{Name: a.Name, Type: a.EncapType}}
	}
	n := nic{Link: Link{
		Name:  a.Name,
		Index: a.Index,
		MAC:   [6]byte(a.HardwareAddr),
		MTU:   uint32(a.MTU),
		Up:    a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0,
	}}
	if vrf, ok := a.Slave.(*netlink.VrfSlave); ok {
		n.vrf = vrf.Table
	}
	return n
}

// mtu6 returns the IPv6 MTU of an interface, which a router advertisement or the administrator may set below the MTU
// of the link (RFC 4861 section 4.6.4). Without IPv6 there is no limit.
func mtu6(name string) uint32 {
	const none = 1 << 16
	if n, ok := conf6(name, "mtu"); ok {
		return n
	}
	return none
}

// forwards6 reports whether the kernel forwards IPv6 packets received on an interface. One switch controls forwarding
// on all interfaces; the setting "forwarding" of a single interface only selects whether it behaves as a router.
// Since Linux 6.17, forwarding can also be enabled for a single interface.
func forwards6(name string) bool {
	all, _ := conf6("all", "forwarding")
	one, _ := conf6(name, "force_forwarding")
	return all != 0 || one != 0
}

// conf6 reads a numeric setting of an interface. It returns false if there is none.
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
	s.own = ownAddresses(owns, &s.nics)
	s.primary4 = primary4(owns)
	for d := range s.sources {
		s.sources[d] = sources(owns, s.nics[d].Index, side(d))
	}
	return nil
}

// rules reads the routing rules of both families and adds the tables that they refer to.
func (k *kernel) rules(s *snapshot) error {
	for d, family := range [sides]uint8{v6: unix.AF_INET6, v4: unix.AF_INET} {
		list, err := k.ruleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			list, err = defaultRules(), nil // a kernel without this family, or without policy routing
		}
		if err := k.listed("rules", err); err != nil {
			return err
		}
		s.rules[d] = s.fib.compile(list, &s.nics, side(d))
	}
	for d := range s.nics {
		if s.nics[d].vrf != 0 {
			s.fib.add(s.nics[d].vrf)
		}
	}
	return k.groups(s)
}

// ruleList returns the rules of a family in order.
func (k *kernel) ruleList(family uint8) (list []ruleMessage, err error) {
	req := k.request(unix.RTM_GETRULE, unix.NLM_F_DUMP, family)
	err = req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWRULE, func(b []byte) bool {
		if r, ok := parseRule(b); ok {
			list = append(list, r)
		}
		return true
	})
	return list, err
}

// groups reads the groups of all interfaces if a rule matches a group.
func (k *kernel) groups(s *snapshot) error {
	if !slices.ContainsFunc(slices.Concat(s.rules[:]...), func(r rule) bool { return r.suppress.group >= 0 }) {
		return nil
	}
	links, err := k.handle.LinkList()
	if err := k.listed("interfaces", err); err != nil {
		return err
	}
	s.groups = map[int]uint32{}
	for _, l := range links {
		s.groups[l.Attrs().Index] = l.Attrs().Group
	}
	return nil
}

// fib reads the routes of the tables in f.
func (k *kernel) fib(f *fib) error {
	req := k.request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.AF_UNSPEC)
	err := req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(b []byte) bool {
		if c, ok := parseRoute(b); ok {
			f.load(c)
		}
		return true
	})
	return k.listed("routes", err)
}

// request returns a route request.
func (k *kernel) request(kind, flags int, family uint8) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.routes}
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: family}})
	return req
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

// resolve makes the kernel resolve the link-layer address of a neighbour or probe a stale one, as sending a packet
// would (NTF_USE). The request must replace, because the kernel rejects the addition of an existing entry.
func (k *kernel) resolve(index int, a netip.Addr) error {
	n := entry(index, a)
	n.Flags = netlink.NTF_USE
	if err := k.handle.NeighSet(n); err != nil {
		return fmt.Errorf("netlink: resolve %v: %w", a, err)
	}
	return nil
}

// forget deletes a neighbour, if there is one.
func (k *kernel) forget(index int, a netip.Addr) error {
	if err := k.handle.NeighDel(entry(index, a)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("netlink: delete neighbour %v: %w", a, err)
	}
	return nil
}

// entry returns the entry of a neighbour for a request.
func entry(index int, a netip.Addr) *netlink.Neigh {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	return &netlink.Neigh{LinkIndex: index, Family: family, IP: a.AsSlice()}
}
