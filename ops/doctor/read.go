//go:build linux

package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nat64d/linux/ethtool"
	"nat64d/linux/guard"
	"nat64d/linux/nexthop"
	"nat64d/pool4"
)

// Gateway is what Read needs to know of the gateway.
type Gateway struct {
	V6, V4  string        // names of the interfaces
	Pairs   [2]bool       // whether they are ends of pairs, V6 first
	Entries []pool4.Entry // transport addresses of pool4 and of static bindings
	Reserve bool          // host.reserve_ports
}

// answerWithin is how long Read waits for neighbours: our own choice.
const answerWithin = 300 * time.Millisecond

// maxRouters limits the next hops of a side that are asked.
const maxRouters = 8

// Read collects the facts of the machine in the network namespace of the calling thread. It changes nothing, but asks neighbours
// on both links whether they are there. Facts that it cannot read stay unknown, and its error gives the reason.
func Read(g Gateway) (*Facts, error) {
	f := &Facts{V6: Side{Name: g.V6, Family: "-6", Pair: g.Pairs[0]}, V4: Side{Name: g.V4, Family: "-4", Pair: g.Pairs[1]}}
	f.Pool.Entries = g.Entries
	var errs []error
	for _, s := range []*Side{&f.V6, &f.V4} {
		errs = append(errs, s.read())
	}
	errs = append(errs, f.ask(), f.readHost(g))
	return f, errors.Join(errs...)
}

// family returns the address family of the side.
func (s *Side) family() int {
	if s.Family == "-6" {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// read reads the interface, its addresses, routes and settings.
func (s *Side) read() error {
	s.Sysctl = Sysctl{
		Forwarding6: sysctl("ipv6/conf/" + s.Name + "/forwarding"), AcceptRA: sysctl("ipv6/conf/" + s.Name + "/accept_ra"),
		Disable6:    sysctl("ipv6/conf/" + s.Name + "/disable_ipv6"),
		ReversePath: max(sysctl("ipv4/conf/"+s.Name+"/rp_filter"), sysctl("ipv4/conf/all/rp_filter")), // the kernel uses the larger one
	}
	link, err := netlink.LinkByName(s.Name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", s.Name, err)
	}
	a := link.Attrs()
	s.Exists, s.MTU = true, a.MTU
	s.Up = a.RawFlags&unix.IFF_UP != 0 && a.OperState != netlink.OperDown && a.OperState != netlink.OperLowerLayerDown
	if features, err := ethtool.Get(s.Name); err == nil {
		s.Offloads = features.Active
	}
	return errors.Join(s.readAddresses(link), s.readRoutes(a.Index))
}

func (s *Side) readAddresses(link netlink.Link) error {
	list, err := netlink.AddrList(link, s.family())
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", s.Name, err)
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		s.Subnets = append(s.Subnets, netip.PrefixFrom(ip.Unmap(), bits))
		if a.Flags&unix.IFA_F_DADFAILED != 0 {
			s.Duplicate = append(s.Duplicate, ip)
		}
	}
	return nil
}

// readRoutes finds the next hops on the interface, and the default route, in the main table.
func (s *Side) readRoutes(index int) error {
	list, err := netlink.RouteListFiltered(s.family(), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, r := range list {
		anywhere := r.Dst == nil
		if !anywhere {
			ones, _ := r.Dst.Mask.Size()
			anywhere = ones == 0
		}
		hops := []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
		if len(r.MultiPath) > 0 {
			hops = r.MultiPath
		}
		for _, h := range hops {
			s.route(h, index, anywhere)
		}
	}
	return nil
}

// route takes a next hop of a route into account.
func (s *Side) route(h *netlink.NexthopInfo, index int, anywhere bool) {
	if h.LinkIndex != index {
		if link, err := netlink.LinkByIndex(h.LinkIndex); anywhere && err == nil && link.Attrs().Name != "lo" {
			s.Elsewhere = link.Attrs().Name
		}
		return
	}
	s.Default = s.Default || anywhere
	gw, ok := netip.AddrFromSlice(h.Gw)
	if gw = gw.Unmap(); !ok || gw.Is6() != (s.Family == "-6") {
		return
	}
	at := slices.IndexFunc(s.Routers, func(r Router) bool { return r.Addr == gw })
	switch {
	case at >= 0:
		s.Routers[at].Default = s.Routers[at].Default || anywhere
	case len(s.Routers) < maxRouters:
		s.Routers = append(s.Routers, Router{Addr: gw, Default: anywhere})
	}
}

// ask asks the routers of both sides, and whether another station has an address of pool4.
func (f *Facts) ask() error {
	waiting := f.V6.askRouters()
	var ask []netip.Addr
	for _, r := range f.V4.Routers {
		ask = append(ask, r.Addr)
	}
	own := map[netip.Addr]bool{}
	for _, p := range f.V4.Subnets {
		own[p.Addr()] = true
	}
	for _, e := range f.Pool.Entries {
		if own[e.Addr] && !slices.Contains(ask, e.Addr) {
			ask = append(ask, e.Addr)
		}
	}
	var stations map[netip.Addr][6]byte
	var err error
	if f.V4.Up && len(ask) > 0 {
		stations, err = nexthop.Stations(f.V4.Name, ask, answerWithin)
	} else if waiting {
		time.Sleep(answerWithin)
	}
	for i := range f.V4.Routers {
		r := &f.V4.Routers[i]
		_, r.Answers = stations[r.Addr]
		r.Answers = r.Answers || err != nil // unknown
	}
	for a := range own {
		if mac, taken := stations[a]; taken {
			f.Pool.Addresses = append(f.Pool.Addresses, Address{Addr: a, Owned: true, Station: mac[:]})
		}
	}
	f.V6.heard()
	return err
}

// askRouters has the kernel search for the next hops of the IPv6 side that it does not know, and reports whether there are any.
func (s *Side) askRouters() (asked bool) {
	link, err := netlink.LinkByName(s.Name)
	if err != nil || len(s.Routers) == 0 {
		return false
	}
	known := s.neighbours(link.Attrs().Index)
	for _, r := range s.Routers {
		if known[r.Addr]&^(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
			_ = netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: s.family(), IP: r.Addr.AsSlice(), Flags: netlink.NTF_USE}) // then it stays unknown
			asked = true
		}
	}
	return asked
}

// heard finds out which next hops of the IPv6 side the kernel knows now.
func (s *Side) heard() {
	link, err := netlink.LinkByName(s.Name)
	if err != nil || len(s.Routers) == 0 {
		return
	}
	known := s.neighbours(link.Attrs().Index)
	for i := range s.Routers {
		s.Routers[i].Answers = known[s.Routers[i].Addr]&^(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0
	}
}

// neighbours returns the states of the kernel's neighbours.
func (s *Side) neighbours(index int) map[netip.Addr]int {
	known := map[netip.Addr]int{}
	list, _ := netlink.NeighList(index, s.family()) // without an answer no router counts as known
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			known[a.Unmap()] = n.State
		}
	}
	return known
}

// readHost reads what the machine does on the ports of the gateway.
func (f *Facts) readHost(g Gateway) error {
	w := guard.New(guard.Options{V6: g.V6, V4: g.V4, ReservePorts: g.Reserve})
	sockets, err := w.Sockets(g.Entries)
	for i, text := range guard.Describe(sockets) {
		s := &sockets[i]
		f.Host.Sockets = append(f.Host.Sockets, Socket{Text: text, Connected: s.Connected(), Local: s.Local, Entry: s.Entry})
	}
	var wrong error
	f.Host.Unreserved, f.Host.Reserve, wrong = guard.Unreserved(g.Entries)
	err = errors.Join(err, wrong)
	if g.Reserve {
		if scarce := guard.Scarce(g.Entries); scarce != nil {
			f.Host.Scarce = scarce.Error()
		}
	}
	rules, wrong := w.Masquerades(g.Entries)
	for _, r := range rules {
		f.Host.NAT = append(f.Host.NAT, Rule{Text: r.Text, Delete: fmt.Sprintf("nft delete rule %s %s %s handle %d", r.Family, r.Table, r.Chain, r.Handle)})
	}
	f.Host.Policies = ipsecPolicies(g.Entries)
	return errors.Join(err, wrong)
}

// ipsecPolicies returns the policies that the kernel would apply to packets from pool4, in the order of their indexes. A kernel
// without IPsec has none.
func ipsecPolicies(entries []pool4.Entry) (list []Rule) {
	all, err := netlink.XfrmPolicyList(unix.AF_INET)
	if err != nil {
		return nil
	}
	slices.SortFunc(all, func(a, b netlink.XfrmPolicy) int { return cmp.Compare(a.Index, b.Index) })
	for _, p := range all {
		if !covers(&p, entries) {
			continue
		}
		list = append(list, Rule{
			Text: fmt.Sprintf("an IPsec policy (%v src %v dst %v) covers packets that nat64d sends from pool4: they are dropped (ipsec), because nat64d cannot encrypt them",
				p.Dir, p.Src, p.Dst),
			Delete: fmt.Sprintf("ip xfrm policy delete %v index %d", p.Dir, p.Index),
		})
	}
	return list
}

// covers reports whether a policy encrypts or blocks packets from an address of pool4.
func covers(p *netlink.XfrmPolicy, entries []pool4.Entry) bool {
	applies := p.Action != netlink.XFRM_POLICY_ALLOW
	switch p.Dir {
	case netlink.XFRM_DIR_OUT:
		applies = applies || len(p.Tmpls) > 0
	case netlink.XFRM_DIR_FWD:
		applies = applies || slices.ContainsFunc(p.Tmpls, func(t netlink.XfrmPolicyTmpl) bool { return t.Optional == 0 })
	default:
		return false
	}
	return applies && (p.Src == nil || slices.ContainsFunc(entries, func(e pool4.Entry) bool { return p.Src.Contains(e.Addr.AsSlice()) }))
}

// sysctl reads a number below /proc/sys/net, or returns -1.
func sysctl(name string) int {
	b, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return -1
	}
	return n
}
