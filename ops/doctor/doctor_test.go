package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"nat64d/ops/control"
	"nat64d/pool4"
)

var (
	mapped = netip.MustParseAddr("192.0.2.1")
	peer   = netip.MustParseAddr("198.51.100.7")
)

// healthy returns the facts of a machine without a problem.
func healthy() *Facts {
	side := Side{Exists: true, Up: true, MTU: 1500, Default: true, Offloads: map[string]bool{"rx-gro": true}}
	f := &Facts{V6: side, V4: side}
	f.V6.Name, f.V6.Family, f.V6.Subnets = "eth0", "-6", []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}
	f.V4.Name, f.V4.Family, f.V4.Subnets = "eth1", "-4", []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}
	f.V4.Routers = []Router{{Addr: netip.MustParseAddr("192.0.2.254"), Answers: true, Default: true}}
	f.Pool = Pool{
		Usage: []Usage{{"tcp", 1000, 10, nil}, {"udp", 1000, 10, nil}, {"icmp", 1000, 10, nil}}, Prefixes: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")},
		Addresses: []Address{{Addr: mapped, Owned: true}}, LowestMTU: 1280,
	}
	f.DNS = DNS{Server: "of nat64d", Prefixes: f.Pool.Prefixes}
	f.Echo = &Echo{To: peer, Sent: 1500, Passed: 1500}
	return f
}

func TestExamineFindsNothingOnHealthyMachine(t *testing.T) {
	t.Parallel()
	for _, e := range Examine(healthy()) {
		if e.Severity != control.SeverityOK {
			t.Errorf("%+v", e)
		}
	}
	if n := len(Examine(healthy())); n != len(checks) {
		t.Errorf("%d results of %d checks", n, len(checks))
	}
}

func TestExamineFindsEachProblem(t *testing.T) {
	t.Parallel()
	station := []byte{2, 0, 0, 0, 0, 1}
	tests := []struct {
		check, command string
		spoil          func(*Facts)
	}{
		{"interface", "ip link set INTERFACE name eth1", func(f *Facts) { f.V4.Exists, f.V4.Up, f.V4.Lacks = false, false, []string{"does not exist"} }},
		{"interface", "ip link set eth0 up", func(f *Facts) { f.V6.Up, f.V6.Lacks = false, []string{"is down"} }},
		{"interface", "ip -6 address add ADDRESS/LENGTH dev eth0", func(f *Facts) { f.V6.Lacks = []string{"no address"} }},
		{"IPv6 off", "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0", func(f *Facts) { f.V6.Sysctl.Disable6 = 1 }},
		{"duplicate address", "ip -6 address delete 2001:db8::1/64 dev eth0", func(f *Facts) { f.V6.Duplicate = []netip.Addr{f.V6.Subnets[0].Addr()} }},
		{"smallest MTU", "ip link set eth0 mtu 1280", func(f *Facts) { f.V6.MTU = 1279 }},
		{"MTU", "ip link set eth1 mtu 1260", func(f *Facts) { f.V4.MTU = 1259; f.Pool.Clamps = true }},
		{"MTU", "translation.lowest_ipv6_mtu 1280", func(f *Facts) { f.Pool.LowestMTU = 1501 }},
		{"larger MTU", "translation.tcp_mss_clamp auto", func(f *Facts) { f.V6.MTU = 1521 }},
		{"offloads", "ethtool -K eth1 gro on", func(f *Facts) { f.V4.Offloads = map[string]bool{} }},
		{"offloads", "ethtool -K eth0 lro off", func(f *Facts) { f.V6.Offloads = map[string]bool{"rx-gro": true, "rx-lro": true} }},
		{"router", "ip -4 route replace default via ROUTER dev eth1", func(f *Facts) { f.V4.Routers[0].Answers = false }},
		{"router", "ip -6 route replace PREFIX via ROUTER dev eth0", func(f *Facts) { f.V6.Routers = []Router{{Addr: netip.MustParseAddr("fe80::1")}} }},
		{"default route", "ip -4 route add default via ROUTER dev eth1", func(f *Facts) { f.V4.Default = false }},
		{"default route", "ip -4 route replace default via ROUTER dev eth1", func(f *Facts) { f.V4.Default, f.V4.Elsewhere = false, "eth2" }},
		{"default route", "ip -4 route add default via ROUTER dev INTERFACE", func(f *Facts) { f.V4.Default, f.V4.Pair = false, true }},
		{"forwarding", "sysctl -w net.ipv6.conf.all.forwarding=1", func(f *Facts) { f.V6.Pair = true }},
		{"router advertisements", "sysctl -w net.ipv6.conf.eth0.accept_ra=2", func(f *Facts) { f.V6.Sysctl.Forwarding6, f.V6.Sysctl.AcceptRA = 1, 1 }},
		{"reverse path", "sysctl -w net.ipv4.conf.eth1.rp_filter=2", func(f *Facts) { f.V4.Sysctl.ReversePath, f.V4.Default, f.V4.Elsewhere = 1, false, "eth2" }},
		{"guard", "systemctl restart nat64d", func(f *Facts) { f.Host.Guard = []string{"not in place"} }},
		{"guard", "host.guard true", func(f *Facts) { f.Host.GuardOff = true }},
		{"pool4 address", "ip address add 192.0.2.1/24 dev eth1", func(f *Facts) { f.Pool.Addresses[0] = Address{Addr: mapped, Lost: true} }},
		{"pool4 address", "nat64ctl pool4 remove 192.0.2.1", func(f *Facts) { f.Pool.Addresses[0].Station = station }},
		{"pool4", "nat64ctl pool4 add ADDRESS PORTS --udp", func(f *Facts) { f.Pool.Usage[1].Ports = 0 }},
		{"pool4", "ip -4 address", func(f *Facts) {
			f.Pool.Usage[1] = Usage{Protocol: "udp", Waiting: []string{"interface eth1 has no IPv4 address"}}
		}},
		{"pool4 full", "nat64ctl pool4 add ADDRESS PORTS --tcp", func(f *Facts) { f.Pool.Usage[0].Used = 900 }},
		{"reserved ports", "sysctl -w net.ipv4.ip_local_reserved_ports=22,7000-8000", func(f *Facts) { f.Host.Unreserved, f.Host.Reserve = "7000-8000", "22,7000-8000" }},
		{"port range", "sysctl -w net.ipv4.ip_local_port_range", func(f *Facts) { f.Host.Scarce = "0 of 1000 ports are left" }},
		{"listener", "nat64ctl pool4 remove 192.0.2.1 7022 --tcp", func(f *Facts) { f.Host.Sockets = []Socket{socketAt("192.0.2.1:7022", false)} }},
		{"connection", "nat64ctl pool4 remove 192.0.2.1 7022 --tcp", func(f *Facts) { f.Host.Sockets = []Socket{socketAt("192.0.2.1:7022", true)} }},
		{"NAT rule", "nft delete rule ip nat post handle 4", func(f *Facts) { f.Host.NAT = []Rule{{"masquerades", "nft delete rule ip nat post handle 4"}} }},
		{"IPsec policy", "ip xfrm policy delete dir out index 9", func(f *Facts) { f.Host.Policies = []Rule{{"encrypts", "ip xfrm policy delete dir out index 9"}} }},
		{"paused", "nat64ctl resume", func(f *Facts) { f.Paused = true }},
		{"readiness", "journalctl -u nat64d", func(f *Facts) { f.Unready = []string{"a worker is stuck"} }},
		{"DNS64", "nat64ctl pool6 add 2001:db8:64::/96", func(f *Facts) { f.DNS.Prefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")} }},
		{"DNS64 answer", "nat64ctl dns64 status", func(f *Facts) { f.DNS.Trouble = "SERVFAIL" }},
		{"DNS64 answer", "dig @2001:db8::53 ipv4only.arpa AAAA", func(f *Facts) { f.DNS.Server, f.DNS.Trouble = "2001:db8::53", "SERVFAIL" }},
		{"DNS64 answer", "nat64ctl dns64 snippet", func(f *Facts) { f.DNS.Prefixes = nil }},
		{"probe", "ip route get 198.51.100.7", func(f *Facts) { f.Echo.Trouble = "no answer" }},
		{"path MTU", "ip link set eth1 mtu 1400", func(f *Facts) { f.Echo.Passed = 1400 }},
		{"warning", "journalctl -u nat64d", func(f *Facts) { f.Warnings = []string{"lines of the log were lost"} }},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		seen[tt.check] = true
		f := healthy()
		tt.spoil(f)
		found := slices.DeleteFunc(Examine(f), func(e control.Finding) bool { return e.Severity == control.SeverityOK })
		at := slices.IndexFunc(found, func(e control.Finding) bool { return e.Check == tt.check && strings.Contains(e.Command, tt.command) })
		if at < 0 || found[at].Reason == "" {
			t.Errorf("%s: found %+v, want the command %q", tt.check, found, tt.command)
		}
	}
	for _, c := range checks {
		if !seen[c.name] {
			t.Errorf("no test spoils %q", c.name)
		}
	}
}

func socketAt(local string, connected bool) Socket {
	a := netip.MustParseAddrPort(local)
	e, _ := pool4.ParseRange(a.Addr().String(), "7000-8000")
	return Socket{Text: "sshd", Connected: connected, Local: a, Entry: e[0]}
}

// A host with thousands of sockets on ports of pool4 does not fill the terminal.
func TestExamineListsFewSockets(t *testing.T) {
	t.Parallel()
	f := healthy()
	for range 1000 {
		f.Host.Sockets = append(f.Host.Sockets, socketAt("192.0.2.1:7022", false))
	}
	found := slices.DeleteFunc(Examine(f), func(e control.Finding) bool { return e.Check != "listener" })
	if len(found) != maxSockets+1 || !strings.HasPrefix(found[maxSockets].Reason, "990 more") {
		t.Errorf("%d findings, the last is %+v", len(found), found[len(found)-1])
	}
}

// A router that answers a large packet with its MTU is no black hole.
func TestPathMTUThatIsLearnedIsNoFinding(t *testing.T) {
	t.Parallel()
	f := healthy()
	f.Echo.Passed, f.Echo.Learned = 1400, true
	if found := pathMTU(f); found != nil {
		t.Error(found)
	}
}
