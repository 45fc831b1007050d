//go:build linux

package nexthop_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/lab"
	"nat64d/linux/nexthop"
	"nat64d/packet"
)

// gateway is a Table that follows the kernel of a lab's gateway, with the Cache of a worker.
type gateway struct {
	*testing.T
	*lab.Lab
	*nexthop.Table
	*nexthop.Cache
	linkEvents atomic.Int32
}

// network returns a lab for the test. Without addresses to proxy, no process answers ARP.
func network(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// failure is a log writer that fails the test: no action of a test should cause an error in the log.
type failure struct{ *testing.T }

func (f failure) Write(b []byte) (int, error) {
	f.Errorf("logged: %s", b)
	return len(b), nil
}

// follow starts a Table in the gateway of l.
func follow(t *testing.T, l *lab.Lab, mode nexthop.AnswerARP) *gateway {
	t.Helper()
	return followWith(t, l, mode, func(*nexthop.Table) {})
}

// followWith is follow with a function that prepares the Table before it runs.
func followWith(t *testing.T, l *lab.Lab, mode nexthop.AnswerARP, prepare func(*nexthop.Table)) *gateway {
	t.Helper()
	g := &gateway{T: t, Lab: l}
	do(t, l, func() (err error) {
		g.Table, err = nexthop.New(nexthop.Interfaces{V6: l.NIC6, V4: l.NIC4}, mode,
			slog.New(slog.NewTextHandler(failure{t}, &slog.HandlerOptions{Level: slog.LevelError})))
		return err
	})
	g.Cache = nexthop.NewCache(g.Table)
	g.OnLink(func() { g.linkEvents.Add(1) })
	prepare(g.Table)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Gateway.Do(func() error { return g.Table.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not return")
		}
	})
	return g
}

// do calls f in the gateway's namespace and fails the test on an error.
func do(t *testing.T, l *lab.Lab, f func() error) {
	t.Helper()
	if err := l.Gateway.Do(f); err != nil {
		t.Fatal(err)
	}
}

// ip runs ip(8) in a namespace.
func ip(t *testing.T, n *lab.Namespace, command string) string {
	t.Helper()
	out, err := n.Output(t.Context(), "ip", strings.Fields(command)...)
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", command, err, out)
	}
	return out
}

// ip runs ip(8) in the gateway.
func (g *gateway) ip(command string) string { g.Helper(); return ip(g.T, g.Gateway, command) }

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// result is an answer of a Cache as a word, with the MTU when it is usable.
func result(h packet.Hop, pending bool, r drop.Reason) string {
	switch {
	case pending && r == drop.Neighbour:
		return "pending"
	case pending:
		return "pending with " + r.String()
	case r != drop.None:
		return r.String()
	}
	return fmt.Sprintf("%x mtu %d", h.Dst, h.MTU)
}

// hop returns the answer for an address of either family.
func (g *gateway) hop(addr string) string {
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		return result(g.Hop4(&packet.Selector4{Dst: a.As4()}))
	}
	return result(g.Hop6(&packet.Selector6{Dst: a.As16()}))
}

// resolve requests the next hop of an address of either family.
func (g *gateway) resolve(addr string) {
	if a := netip.MustParseAddr(addr); a.Is4() {
		g.Resolve4(packet.Selector4{Dst: a.As4()}, packet.Client{})
	} else {
		g.Resolve6(packet.Selector6{Dst: a.As16()}, packet.Client{})
	}
}

// want waits for an answer, and requests resolution while it is pending.
func (g *gateway) want(addr, answer string) {
	g.Helper()
	got := ""
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if got = g.hop(addr); got == answer {
			return
		}
		if got == "pending" {
			g.resolve(addr)
		}
		time.Sleep(2 * time.Millisecond)
	}
	g.Fatalf("%s: %s, want %s", addr, got, answer)
}

// mac returns the link-layer address of an interface in the form of result.
func mac(t *testing.T, n *lab.Namespace, dev string) string {
	t.Helper()
	f := strings.Fields(ip(t, n, "-br link show dev "+dev))
	return strings.ReplaceAll(f[2], ":", "")
}

func TestResolveFindsNeighbours(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	for _, a := range []string{lab.Server4, lab.Client6} {
		if got := g.hop(a); got != "pending" {
			t.Errorf("%s, without a request, is %s", a, got)
		}
	}
	before := g.Generation()
	server, client := mac(t, g.Server, "eth0"), mac(t, g.Client, "eth0")
	g.want(lab.Server4, server+" mtu 1500")
	g.want(lab.Client6, client+" mtu 1500")
	if g.Generation() == before {
		t.Error("the generation has not changed")
	}
	h, _, _ := g.Hop4(&packet.Selector4{Dst: netip.MustParseAddr(lab.Server4).As4()})
	if got, want := fmt.Sprintf("%x", h.Src), mac(t, g.Gateway, g.NIC4); got != want {
		t.Errorf("the source MAC is %s, want %s", got, want)
	}

	// The neighbour changes its MAC address and announces it.
	ip(t, g.Server, "link set eth0 address 02:00:00:00:00:99")
	g.ip("neigh replace " + lab.Server4 + " lladdr 02:00:00:00:00:99 dev " + g.NIC4 + " nud reachable")
	g.want(lab.Server4, "020000000099 mtu 1500")
	g.ip("neigh del " + lab.Server4 + " dev " + g.NIC4)
	until(t, "a deleted neighbour is pending again or failed", func() bool { return g.hop(lab.Server4) != "020000000099 mtu 1500" })
	g.want(lab.Server4, "020000000099 mtu 1500")
}

func TestNeighbourFails(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	for _, s := range []string{"ipv4/neigh/" + l.NIC4, "ipv6/neigh/" + l.NIC6} {
		if err := l.Gateway.SetSysctl("net/"+s+"/retrans_time_ms", "50"); err != nil {
			t.Fatal(err)
		}
	}
	g := follow(t, l, nexthop.ARPAuto)
	g.want(lab.Spare4, "neighbour")
	g.want("2001:db8:1::99", "neighbour")
	ip(t, g.Server, "addr add "+lab.Spare4+"/24 dev eth0")
	until(t, "a neighbour that comes to life is found because packets go there", func() bool {
		g.resolve(lab.Spare4)
		return strings.Contains(g.hop(lab.Spare4), "mtu")
	})
}

func TestRunFollowsRoutes(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	for n, c := range map[*lab.Namespace][]string{ // an IPv4 route may have an IPv6 router (RFC 8950)
		l.Server:  {"eth0", "fe80::5"},
		l.Gateway: {l.NIC4, "fe80::4"},
	} {
		if err := n.SetSysctl("net/ipv6/conf/"+c[0]+"/disable_ipv6", "0"); err != nil {
			t.Fatal(err)
		}
		ip(t, n, "addr add "+c[1]+"/64 dev "+c[0]+" nodad")
	}
	g := follow(t, l, nexthop.ARPAuto)
	server, client := mac(t, g.Server, "eth0"), mac(t, g.Client, "eth0")
	g.want("203.0.113.7", "no_route")
	for _, c := range []struct{ command, addr, want string }{
		{"route add 203.0.113.0/24 via " + lab.Server4, "203.0.113.7", server + " mtu 1500"},
		{"route replace 203.0.113.0/24 via " + lab.Server4 + " mtu 1400", "203.0.113.7", server + " mtu 1400"},
		{"route replace 203.0.113.0/24 via " + lab.Server4 + " mtu 9000", "203.0.113.7", server + " mtu 1500"},
		{"route add blackhole 203.0.113.7", "203.0.113.7", "no_route"},
		{"route del blackhole 203.0.113.7", "203.0.113.7", server + " mtu 1500"},
		{"route add unreachable 203.0.113.7", "203.0.113.7", "no_route"},
		{"route replace 203.0.113.7 dev " + g.NIC6, "203.0.113.7", "other_interface"},
		{"route del 203.0.113.7", "203.0.113.7", server + " mtu 1500"},
		{"route add 203.0.113.0/24 dev " + g.NIC6 + " metric 5", "203.0.113.7", server + " mtu 1500"},
		{"route del 203.0.113.0/24 via " + lab.Server4, "203.0.113.7", "other_interface"},
		{"route del 203.0.113.0/24", "203.0.113.7", "no_route"},
		{"route add 203.0.113.0/24 via inet6 fe80::5 dev " + g.NIC4, "203.0.113.7", server + " mtu 1500"},
		{"route del 203.0.113.0/24", "203.0.113.7", "no_route"},
		{"route add default via " + lab.Server4, "203.0.113.7", server + " mtu 1500"},
		{"route add throw 203.0.113.0/24", "203.0.113.7", "no_route"},
		{"route add 203.0.113.0/24 via " + lab.Server4 + " table default", "203.0.113.7", server + " mtu 1500"},
		{"route add 203.0.113.99 nexthop dev " + g.NIC6 + " nexthop via " + lab.Server4 + " dev " + g.NIC4, "203.0.113.99", server + " mtu 1500"},
		{"route add 198.18.0.0/15 via 198.51.100.1 dev " + g.NIC4 + " onlink", "198.18.0.1", "pending"},

		{"-6 route add 2001:db8:77::/48 via " + lab.Client6, "2001:db8:77::1", client + " mtu 1500"},
		{"-6 route append 2001:db8:77::/48 via 2001:db8:1::77", "2001:db8:77::1", ""},
		{"-6 route del 2001:db8:77::/48 via 2001:db8:1::77", "2001:db8:77::1", client + " mtu 1500"},
		{"-6 route replace 2001:db8:77::/48 via " + lab.Client6 + " mtu 1300", "2001:db8:77::1", client + " mtu 1300"},
		{"-6 route add prohibit 2001:db8:77::/64", "2001:db8:77::1", "no_route"},
		{"-6 route del prohibit 2001:db8:77::/64", "2001:db8:77::1", client + " mtu 1300"},
		{"-6 route add 2001:db8:78::/48 dev " + g.NIC4, "2001:db8:78::1", "other_interface"},
	} {
		g.ip(c.command)
		if c.want != "" {
			t.Log(c.command)
			g.want(c.addr, c.want)
		}
	}
	for addr, want := range map[string]string{
		lab.Gateway4: "host_address", lab.Gateway6: "host_address", "127.0.0.1": "host_address", "::1": "host_address",
		"192.0.2.255": "no_route", "255.255.255.255": "no_route", "224.0.0.1": "no_route", "ff02::1": "no_route",
		"0.0.0.0": "no_route", "::": "no_route",
	} {
		if got := g.hop(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestRunFollowsAddresses(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	g.want("203.0.113.9", "no_route")
	g.ip("addr add 203.0.113.9/24 dev " + g.NIC4)
	g.want("203.0.113.9", "host_address")
	g.want("203.0.113.10", "pending")
	g.ip("addr del 203.0.113.9/24 dev " + g.NIC4)
	g.want("203.0.113.9", "no_route")
}

func TestSources(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	for _, c := range []string{
		"addr add 203.0.113.9/24 dev " + l.NIC4,
		"addr add fd00:db8::1/64 dev " + l.NIC6 + " nodad",
		"addr add 2001:db8:1::d/64 dev " + l.NIC6 + " nodad preferred_lft 0",
		"link set lo up",
		"addr add 198.51.100.77/32 dev lo",
	} {
		ip(t, l.Gateway, c)
	}
	g := follow(t, l, nexthop.ARPAuto)
	source := func(dst string) string {
		a := netip.MustParseAddr(dst)
		if a.Is4() {
			s, ok := g.Source4(a.As4())
			return fmt.Sprint(netip.AddrFrom4(s), ok)
		}
		s, ok := g.Source6(a.As16())
		return fmt.Sprint(netip.AddrFrom16(s), ok)
	}
	linkLocal := strings.Split(strings.Fields(g.ip("-br -6 addr show dev " + g.NIC6 + " scope link"))[2], "/")[0]
	for dst, want := range map[string]string{
		lab.Server4:       lab.Gateway4 + " true",
		"203.0.113.77":    "203.0.113.9 true",
		lab.Client6:       lab.Gateway6 + " true",
		"2001:db8:ffff::": lab.Gateway6 + " true",
		"fd00:db8::99":    "fd00:db8::1 true",
		"fe80::1":         linkLocal + " true",
	} {
		// The kernel assigns the link-local address some time after the interface is up.
		until(t, "an error to "+dst+" comes from "+want, func() bool { return source(dst) == want })
	}
	g.ip("addr flush dev " + g.NIC4)
	until(t, "with no address on the interface, one of the host", func() bool { return source(lab.Server4) == "198.51.100.77 true" })
	g.ip("addr flush dev " + g.NIC6 + " scope global")
	until(t, "without any global address, none", func() bool { return source(lab.Client6) == ":: false" })
	if got := source("fe80::1"); got != linkLocal+" true" {
		t.Errorf("an error to a link-local address comes from %s, want %s", got, linkLocal)
	}
	if !strings.Contains(fmt.Sprint(g.HostAddresses()), "198.51.100.77") {
		t.Errorf("the host's addresses are %v", g.HostAddresses())
	}
}

func TestStaleNeighbourInUseIsRefreshed(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	server := mac(t, g.Server, "eth0")
	g.want(lab.Server4, server+" mtu 1500")
	dst := netip.MustParseAddr(lab.Server4).As4()
	stale := func() bool {
		return strings.Contains(g.ip("neigh show "+lab.Server4+" dev "+g.NIC4), "STALE")
	}
	g.ip("neigh change " + lab.Server4 + " dev " + g.NIC4 + " nud stale")
	if !stale() {
		t.Fatal("cannot make the neighbour stale")
	}
	before := g.Generation()
	until(t, "a stale neighbour in use is probed", func() bool {
		g.Hop4(&packet.Selector4{Dst: dst}) // hits: its answer stays
		return !stale()
	})
	if got := g.Generation(); got != before {
		t.Errorf("the generation went from %d to %d although no answer changed", before, got)
	}
}

func TestHopsFollowPolicyRules(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	server, client := mac(t, g.Server, "eth0"), mac(t, g.Client, "eth0")
	g.ip("route add default via " + lab.Server4 + " table 100")
	g.want("203.0.113.7", "no_route")
	g.ip("rule add to 203.0.113.0/24 lookup 100")
	g.want("203.0.113.7", server+" mtu 1500")
	g.want("203.0.114.7", "no_route")
	g.want(lab.Gateway4, "host_address")
	g.want(lab.Client6, client+" mtu 1500") // there are no rules on this side
	g.ip("route replace default dev " + g.NIC6 + " table 100")
	g.want("203.0.113.7", "other_interface")
	g.ip("rule del to 203.0.113.0/24 lookup 100")
	g.want("203.0.113.7", "no_route")

	g.ip("-6 route add default via " + lab.Client6 + " mtu 1290 table 100")
	g.ip("-6 rule add to 2001:db8:99::/48 lookup 100")
	g.want("2001:db8:99::1", client+" mtu 1290")
}
