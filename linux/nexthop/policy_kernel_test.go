//go:build linux

package nexthop_test

import (
	"net/netip"
	"testing"

	"nat64d/lab"
	"nat64d/linux/nexthop"
	"nat64d/packet"
)

// from4 returns the answer for a UDP packet between two IPv4 addresses and ports.
func (g *gateway) from4(src, dst string, sport, dport uint16) string {
	return result(g.Hop4(&packet.Selector4{
		Src: netip.MustParseAddr(src).As4(), Dst: netip.MustParseAddr(dst).As4(), SrcPort: sport, DstPort: dport, Proto: 17, Origin: packet.FromV6,
	}))
}

// from6 is from4 for IPv6.
func (g *gateway) from6(src, dst string, sport, dport uint16) string {
	return result(g.Hop6(&packet.Selector6{
		Src: netip.MustParseAddr(src).As16(), Dst: netip.MustParseAddr(dst).As16(), SrcPort: sport, DstPort: dport, Proto: 17, Origin: packet.FromV4,
	}))
}

// Run follows IPsec policies that are added and deleted. They apply only to packets that match their selectors.
func TestRunFollowsIPsecPolicies(t *testing.T) {
	t.Parallel()
	g := follow(t, network(t, lab.Options{}), nexthop.ARPAuto)
	server, client := mac(t, g.Server, "eth0")+" mtu 1500", mac(t, g.Client, "eth0")+" mtu 1500"
	g.want(lab.Server4, server)
	g.want(lab.Client6, client)
	const selector4, selector6 = "dst " + lab.Server4 + "/32 proto udp dport 53", "src 64:ff9b::/96 dst " + lab.Client6 + "/128"
	const tunnel4 = " tmpl src " + lab.Gateway4 + " dst " + lab.Server4 + " proto esp mode tunnel"
	const tunnel6 = " tmpl src " + lab.Gateway6 + " dst " + lab.Client6 + " proto esp mode tunnel"
	dns := func() string { return g.from4(lab.Gateway4, lab.Server4, 4000, 53) }
	other := func() string { return g.from4(lab.Gateway4, lab.Server4, 4000, 54) }
	reply := func() string { return g.from6("64:ff9b::c000:202", lab.Client6, 53, 4000) }
	for _, c := range []struct {
		command  string
		dns, six string
	}{
		{"xfrm policy add " + selector4 + " dir out priority 10" + tunnel4, "ipsec", client},
		{"xfrm policy add dst " + lab.Server4 + " dir out priority 5", server, client},
		{"xfrm policy add " + selector4 + " dir fwd action block", "ipsec", client},
		{"xfrm policy del " + selector4 + " dir fwd", server, client},
		{"xfrm policy del dst " + lab.Server4 + " dir out", "ipsec", client},
		{"xfrm policy flush", server, client},
		{"xfrm policy add " + selector6 + " dir out" + tunnel6, server, "ipsec"},
		{"xfrm policy del " + selector6 + " dir out", server, client},
	} {
		g.ip(c.command)
		until(t, c.command, func() bool { return dns() == c.dns && reply() == c.six && other() == server })
	}
	g.ip("xfrm policy setdefault fwd block")
	until(t, "nothing is forwarded without a policy", func() bool { return other() == "ipsec" && reply() == "ipsec" })
	g.ip("xfrm policy add dir fwd dst " + lab.Server4)
	until(t, "what a policy allows is", func() bool { return other() == server && reply() == "ipsec" })
}
