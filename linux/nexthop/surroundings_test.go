//go:build linux

package nexthop_test

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"nat64d/lab"
	"nat64d/linux/nexthop"
)

const forwarding = "net/ipv6/conf/all/forwarding"

// wantWithin waits until Within returns the prefixes.
func (g *gateway) wantWithin(p string, want ...string) {
	g.Helper()
	until(g.T, "within "+p, func() bool {
		var got []string
		for _, q := range g.Within(netip.MustParsePrefix(p)) {
			got = append(got, q.String())
		}
		return slices.Equal(got, want)
	})
}

// Within returns routes inside a prefix while the kernel forwards, but not a route for the whole prefix or more.
func TestWithin(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	g := follow(t, l, nexthop.ARPAuto)
	g.ip("-6 route add 64:ff9b::c000:200/120 via " + lab.Client6)
	g.ip("-6 route add 64:ff9b::/96 via " + lab.Client6)
	g.ip("-6 route add 64:ff9b::/64 via " + lab.Client6)
	g.ip("-6 route add throw 64:ff9b::c000:300/120")
	g.ip("-6 route add unreachable 64:ff9b::a00:0/104")
	g.ip("-6 route add 2001:db8:64::/96 via " + lab.Client6)
	g.wantWithin("64:ff9b::/96")
	if err := l.Gateway.SetSysctl(forwarding, "1"); err != nil {
		t.Fatal(err)
	}
	g.wantWithin("64:ff9b::/96", "64:ff9b::a00:0/104", "64:ff9b::c000:200/120")
	g.wantWithin("2001:db8:64::/96")
	g.wantWithin("2001:db8:64::/64", "2001:db8:64::/96")
	g.ip("-6 route del 64:ff9b::c000:200/120")
	g.wantWithin("64:ff9b::/96", "64:ff9b::a00:0/104")
	if err := l.Gateway.SetSysctl(forwarding, "0"); err != nil {
		t.Fatal(err)
	}
	g.wantWithin("64:ff9b::/96")
}

// Behind6 returns the routes through the v6 interface, without the default route and routes through other interfaces.
func TestBehind6(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	g := follow(t, l, nexthop.ARPAuto)
	want := func(prefixes ...string) {
		t.Helper()
		until(t, "the prefixes behind the v6 interface", func() bool {
			var got []string
			for _, p := range g.Behind6() {
				got = append(got, p.String())
			}
			return slices.Equal(got, prefixes)
		})
	}
	want("2001:db8:1::/64", "fe80::/64")
	g.ip("-6 route add 2001:db8:1000::/36 via " + lab.Client6)
	g.ip("-6 route add default via " + lab.Client6)
	g.ip("-6 route add unreachable 2001:db8:2000::/36")
	g.ip("-6 route add 2001:db8:3000::/36 dev " + g.NIC4)
	want("2001:db8:1::/64", "2001:db8:1000::/36", "fe80::/64")
}

func TestBroadcastAddresses(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	want := func(addrs ...string) {
		t.Helper()
		until(t, "the broadcast addresses", func() bool {
			var got []string
			for _, a := range g.Broadcasts() {
				got = append(got, a.String())
			}
			return slices.Equal(got, addrs)
		})
	}
	want("192.0.2.255")
	g.ip("addr add 203.0.113.129/26 dev " + g.NIC4)
	g.ip("addr add 203.0.113.130/26 dev " + g.NIC4) // of the same subnet
	g.ip("addr add 198.51.100.1/31 dev " + g.NIC4)  // has no broadcast address
	g.ip("addr add 198.51.100.9/32 dev " + g.NIC4)
	g.ip("addr add 198.51.100.65/26 dev " + g.NIC6) // not of the v4 interface
	want("192.0.2.255", "203.0.113.191")
	g.ip("addr del 192.0.2.1/24 dev " + g.NIC4)
	want("203.0.113.191")
}

// Observers are called for any route within a prefix, also one outside of the NAT64 prefixes; they query again.
func TestOnSurroundingsIsCalled(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	var told atomic.Int32
	g := followWith(t, l, nexthop.ARPAuto, func(n *nexthop.Table) { n.OnSurroundings(func() { told.Add(1) }) })
	g.wantWithin("64:ff9b::/96")
	for _, command := range []string{
		"-6 route add 64:ff9b::c000:200/120 via " + lab.Client6, "addr add 203.0.113.129/26 dev " + g.NIC4, "-6 route del 64:ff9b::c000:200/120",
	} {
		before := told.Load()
		g.ip(command)
		until(t, "told after "+command, func() bool { return told.Load() > before })
	}
}
