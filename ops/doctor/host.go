package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

// nearlyFull is the share of pool4 in use, in percent, from which it counts as nearly full.
const nearlyFull = 90

func guarded(f *Facts) (list []finding) {
	for _, why := range f.Host.Guard {
		list = append(list, say("modprobe -a nf_tables nft_reject; systemctl restart nat64d", "%s", why))
	}
	if !f.Host.GuardOff {
		return list
	}
	for _, a := range f.Pool.Addresses {
		if a.Owned {
			list = append(list, say("nat64ctl config set host.guard true --persist; systemctl restart nat64d",
				"host.guard is off, and this machine has the address %v of pool4: it resets every connection that nat64d translates", a.Addr))
		}
	}
	return list
}

func addresses(f *Facts) (list []finding) {
	for _, a := range f.Pool.Addresses {
		switch {
		case a.Lost:
			list = append(list, say(fmt.Sprintf("ip address add %v dev %s", f.V4.withLength(a.Addr), f.V4.Name),
				"%v, an address of pool4, was an address of this machine and is not any more: replies to it do not arrive", a.Addr))
		case a.Station != nil:
			list = append(list, say("nat64ctl pool4 remove "+a.Addr.String(),
				"station %v answers for %v, an address of pool4: replies go there", a.Station, a.Addr))
		}
	}
	return list
}

func empty(f *Facts) (list []finding) {
	for _, u := range f.Pool.Usage {
		switch {
		case u.Ports > 0:
		case len(u.Waiting) > 0:
			list = append(list, say("ip -4 address", "pool4 has no address for %s: %s", u.Protocol, u.Waiting[0]))
		default:
			list = append(list, say("nat64ctl pool4 add ADDRESS PORTS --"+u.Protocol,
				"pool4 has no address for %s: each protocol needs one of its own", u.Protocol))
		}
	}
	return list
}

func full(f *Facts) (list []finding) {
	for _, u := range f.Pool.Usage {
		if u.Ports > 0 && 100*u.Used >= nearlyFull*u.Ports {
			list = append(list, say("nat64ctl pool4 add ADDRESS PORTS --"+u.Protocol,
				"%d of %d ports of pool4 are in use for %s: new flows will be refused (pool_exhausted)", u.Used, u.Ports, u.Protocol))
		}
	}
	return list
}

func reserved(f *Facts) []finding {
	if f.Host.Unreserved == "" {
		return nil
	}
	return []finding{say("sysctl -w net.ipv4.ip_local_reserved_ports="+f.Host.Reserve,
		"the kernel may give ports %s of pool4 to connections of this machine, which then fail", f.Host.Unreserved)}
}

func portRange(f *Facts) []finding {
	if f.Host.Scarce == "" {
		return nil
	}
	return []finding{say("sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"", "%s", f.Host.Scarce)}
}

func listeners(f *Facts) []finding { return sockets(f, false) }

func connections(f *Facts) []finding { return sockets(f, true) }

// maxSockets is the maximum number of sockets that are listed of each kind.
const maxSockets = 10

func sockets(f *Facts, connected bool) (list []finding) {
	more := 0
	for _, s := range f.Host.Sockets {
		if s.Connected != connected {
			continue
		}
		if len(list) == maxSockets {
			more++
			continue
		}
		list = append(list, say(fmt.Sprintf("nat64ctl pool4 remove %v %d --%v", s.Entry.Addr, s.Local.Port(), s.Entry.Proto),
			"%s, which is a port of pool4: the guard cuts it off", s.Text))
	}
	if more > 0 {
		list = append(list, say("ss -tuanp", "%d more sockets of this machine are on ports of pool4", more))
	}
	return list
}

func natRules(f *Facts) []finding { return rules(f.Host.NAT) }

func policies(f *Facts) []finding { return rules(f.Host.Policies) }

func rules(rs []Rule) (list []finding) {
	for _, r := range rs {
		list = append(list, say(r.Delete, "%s", r.Text))
	}
	return list
}

func paused(f *Facts) []finding {
	if !f.Paused {
		return nil
	}
	return []finding{say("nat64ctl resume", "translation is paused: no packet is translated")}
}

func unready(f *Facts) []finding { return sentences(f.Unready) }

func warnings(f *Facts) []finding { return sentences(f.Warnings) }

func sentences(texts []string) (list []finding) {
	for _, t := range texts {
		list = append(list, say("journalctl -u nat64d", "%s", strings.ReplaceAll(t, "\n", "; ")))
	}
	return list
}

func disagreement(f *Facts) (list []finding) {
	for _, p := range f.DNS.Prefixes {
		if !contains(f.Pool.Prefixes, p) {
			list = append(list, say("nat64ctl pool6 add "+p.String(),
				"DNS64 (%s) makes addresses in %v (RFC 7050), which is not in pool6: clients send to a prefix that is not translated", f.DNS.Server, p))
		}
	}
	return list
}

func contains(list []netip.Prefix, p netip.Prefix) bool {
	for _, q := range list {
		if q == p {
			return true
		}
	}
	return false
}

func silence(f *Facts) []finding {
	switch {
	case f.DNS.Server == "":
		return nil
	case f.DNS.Trouble != "":
		command := "nat64ctl dns64 status"
		if _, err := netip.ParseAddr(f.DNS.Server); err == nil { // another server than that of nat64d
			command = "dig @" + f.DNS.Server + " ipv4only.arpa AAAA"
		}
		return []finding{say(command, "DNS64 (%s) does not answer the question for ipv4only.arpa (RFC 7050): %s", f.DNS.Server, f.DNS.Trouble)}
	case len(f.DNS.Prefixes) == 0:
		return []finding{say("nat64ctl dns64 snippet bind", "%s is no DNS64: it gives ipv4only.arpa no IPv6 address (RFC 7050), so clients find no server that has only IPv4", f.DNS.Server)}
	}
	return nil
}

func echo(f *Facts) []finding {
	if f.Echo == nil || f.Echo.Trouble == "" {
		return nil
	}
	command := f.Echo.Command
	if command == "" {
		command = "ip route get " + f.Echo.To.String()
	}
	return []finding{say(command, "a ping to %v through the translator fails: %s", f.Echo.To, f.Echo.Trouble)}
}

func pathMTU(f *Facts) []finding {
	e := f.Echo
	if e == nil || e.Trouble != "" || e.Passed >= e.Sent || e.Learned {
		return nil
	}
	return []finding{say(fmt.Sprintf("ip link set %s mtu %d", f.V4.Name, e.Passed),
		"packets of more than %d bytes to %v are lost, and no router answers with its MTU: downloads hang; the MTU of %s, %d, is too large, or ICMP is filtered",
		e.Passed, e.To, f.V4.Name, f.V4.MTU)}
}

// sysctlName returns the name of an interface in the notation of sysctl(8), whose separator is a dot.
func sysctlName(nic string) string { return strings.ReplaceAll(nic, ".", "/") }
