package doctor

import (
	"fmt"
	"net/netip"
)

// The arithmetic of MTUs: an IPv6 header is 20 bytes longer than an IPv4 one, and RFC 8200 section 5 sets the minimum.
const (
	headerGrowth = 20
	minimumMTU6  = 1280
	minimumMTU4  = minimumMTU6 - headerGrowth
)

func interfaces(f *Facts) (list []finding) {
	for _, s := range []*Side{&f.V6, &f.V4} {
		for _, why := range s.Lacks {
			list = append(list, say(s.mend(), "%s", why))
		}
	}
	return list
}

// mend returns the command that gives the interface what it lacks.
func (s *Side) mend() string {
	switch {
	case !s.Exists:
		return "ip link set INTERFACE name " + s.Name
	case !s.Up:
		return "ip link set " + s.Name + " up"
	case s.Sysctl.Disable6 == 1 && s.Family == "-6":
		return enable6(s)
	}
	return fmt.Sprintf("ip %s address add ADDRESS/LENGTH dev %s", s.Family, s.Name)
}

func ipv6Off(f *Facts) []finding {
	if f.V6.Sysctl.Disable6 != 1 || f.V6.Pair {
		return nil
	}
	return []finding{say(enable6(&f.V6), "IPv6 is disabled on %s: the kernel neither has addresses there nor answers neighbours", f.V6.Name)}
}

func enable6(s *Side) string {
	return "sysctl -w net.ipv6.conf." + sysctlName(s.Name) + ".disable_ipv6=0"
}

func duplicates(f *Facts) (list []finding) {
	for _, s := range f.nics() {
		for _, a := range s.Duplicate {
			list = append(list, say(fmt.Sprintf("ip -6 address delete %v dev %s", s.withLength(a), s.Name),
				"another station on %s has %v, so that the kernel does not use it: give this machine another address", s.Name, a))
		}
	}
	return list
}

// withLength returns an address with the length of its subnet on the interface.
func (s *Side) withLength(a netip.Addr) netip.Prefix {
	best := netip.PrefixFrom(a, a.BitLen())
	for _, p := range s.Subnets {
		if p.Contains(a) && (best.IsSingleIP() || p.Bits() > best.Bits()) {
			best = netip.PrefixFrom(a, p.Bits())
		}
	}
	return best
}

func tooSmall(f *Facts) []finding {
	if !f.V6.Exists || f.V6.MTU >= minimumMTU6 {
		return nil
	}
	return []finding{say(fmt.Sprintf("ip link set %s mtu %d", f.V6.Name, minimumMTU6),
		"the MTU of %s is %d, and IPv6 needs %d: the kernel has removed IPv6 from it", f.V6.Name, f.V6.MTU, minimumMTU6)}
}

func sizes(f *Facts) (list []finding) {
	if f.V4.Exists && f.V4.MTU < minimumMTU4 {
		list = append(list, say(fmt.Sprintf("ip link set %s mtu %d", f.V4.Name, minimumMTU4),
			"the MTU of %s is %d, so that nat64d must fragment IPv6 packets of %d bytes, which every client may send", f.V4.Name, f.V4.MTU, minimumMTU6))
	}
	if f.V6.Exists && f.V6.MTU >= minimumMTU6 && f.Pool.LowestMTU > f.V6.MTU {
		list = append(list, say(fmt.Sprintf("nat64ctl config set translation.lowest_ipv6_mtu %d", minimumMTU6),
			"translation.lowest_ipv6_mtu is %d, but the MTU of %s is %d: IPv4 packets that may be fragmented are split twice", f.Pool.LowestMTU, f.V6.Name, f.V6.MTU))
	}
	return list
}

func larger(f *Facts) []finding {
	if !f.V4.Exists || f.V6.MTU <= f.V4.MTU+headerGrowth || f.Pool.Clamps {
		return nil
	}
	return []finding{say("nat64ctl config set translation.tcp_mss_clamp auto",
		"the MTU of %s is %d, that of %s only %d: a client's first large packet to each server is answered with Packet Too Big", f.V6.Name, f.V6.MTU, f.V4.Name, f.V4.MTU)}
}

func offloads(f *Facts) (list []finding) {
	for _, s := range f.sides() {
		switch {
		case s.Offloads == nil:
		case s.Offloads["rx-lro"]:
			list = append(list, say("ethtool -K "+s.Name+" lro off", "%s merges packets in a way that cannot be undone exactly (LRO): path MTU discovery and throughput suffer", s.Name))
		case !s.Offloads["rx-gro"]:
			list = append(list, say("ethtool -K "+s.Name+" gro on", "receive offload (GRO) is off on %s: each segment is translated by itself, which costs several times as much", s.Name))
		}
	}
	return list
}

func routers(f *Facts) (list []finding) {
	for _, s := range []*Side{&f.V6, &f.V4} {
		for _, r := range s.Routers {
			if r.Answers || !s.Up {
				continue
			}
			destination := "PREFIX"
			if r.Default {
				destination = "default"
			}
			list = append(list, say(fmt.Sprintf("ip %s route replace %s via ROUTER dev %s", s.Family, destination, s.Name),
				"the router %v on %s does not answer: packets that need it are dropped (neighbour)", r.Addr, s.Name))
		}
	}
	return list
}

func defaultRoute(f *Facts) []finding {
	s := &f.V4
	switch {
	case s.Pair && s.Elsewhere == "":
		return []finding{say("ip -4 route add default via ROUTER dev INTERFACE", "this machine has no IPv4 default route: clients reach only the IPv4 networks that it has other routes to")}
	case !s.Up, s.Default, s.Pair:
		return nil
	case s.Elsewhere != "":
		return []finding{say("ip -4 route replace default via ROUTER dev "+s.Name,
			"the IPv4 default route leaves through %s, not through %s: packets of clients that need it are dropped (other_interface)", s.Elsewhere, s.Name)}
	}
	return []finding{say("ip -4 route add default via ROUTER dev "+s.Name,
		"%s has no default route: clients reach only the IPv4 networks that this machine has other routes to", s.Name)}
}

// forwarding examines what attach: host takes.
func forwarding(f *Facts) (list []finding) {
	for i, s := range []*Side{&f.V6, &f.V4} {
		if s.Pair && !f.Host.Forwards[i] {
			family, name := [2]string{"IPv6", "IPv4"}[i], [2]string{"net.ipv6.conf.all.forwarding", "net.ipv4.ip_forward"}[i]
			list = append(list, say("sysctl -w "+name+"=1", "this machine does not forward %s: only its own programs are served (host.forwarding: manage makes it forward)", family))
		}
	}
	return list
}

func advertisements(f *Facts) (list []finding) {
	for _, s := range f.nics() {
		if s.Sysctl.Forwarding6 == 1 && s.Sysctl.AcceptRA == 1 {
			list = append(list, say("sysctl -w net.ipv6.conf."+sysctlName(s.Name)+".accept_ra=2",
				"%s forwards IPv6, and so the kernel ignores Router Advertisements there: addresses and routes that it has learned from them expire", s.Name))
		}
	}
	return list
}

func reversePath(f *Facts) []finding {
	s := &f.V4
	if s.Sysctl.ReversePath != 1 || s.Default || s.Elsewhere == "" {
		return nil
	}
	return []finding{say("sysctl -w net.ipv4.conf."+sysctlName(s.Name)+".rp_filter=2",
		"the kernel filters by the reverse path on %s, but its default route leaves through %s: it does not answer ARP requests for pool4 of routers whose address it would reach there",
		s.Name, s.Elsewhere)}
}
