package test

import (
	"net/netip"
	"testing"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
	"nat64d/pool6"
)

func TestExcludedDestinations(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"X79-4.6-01": moreSpecificRoutes,
		"C68-06":     deniedPorts,
		"X79-4.1-09": subnetBroadcasts,
	})
}

// moreSpecificRoutes leaves a part of a prefix to the host, but translates a longer prefix within that part.
func moreSpecificRoutes(t *testing.T) {
	o := ordinary()
	o.pool6 = []string{"2001:db8:64::/96", "2001:db8:9000::/40", "2001:db8:9064::/96"}
	o.conf = func(c *gateway.Config) {
		for _, p := range []string{"2001:db8:64::c633:6400/120", "2001:db8:9064::/48", "2001:db8:9064::/96", "2001:db8:64::/95"} {
			c.Bypass = append(c.Bypass, netip.MustParsePrefix(p))
		}
	}
	s := newSetting(t, o)
	datagram := func(to string) []byte {
		return ip6(clientAddr, netip.MustParseAddr(to), packet.NumUDP, udp(40000, 443, 4))
	}
	for _, to := range []string{"2001:db8:64::198.51.100.20", "2001:db8:64::198.51.100.255", "2001:db8:9064::1:c633:6414"} {
		before := s.Counters.Drops(drop.Bypassed)
		nothing(t, s.send(packet.V6, datagram(to), hops(datagram(to), 1)))
		if n := s.Counters.Drops(drop.Bypassed) - before; n != 2 {
			t.Errorf("%s: %d packets were counted as bypassed, want two", to, n)
		}
	}
	for _, to := range []string{"2001:db8:64::198.51.101.20", "2001:db8:9064::198.51.100.20", "2001:db8:90c6:3364:14::"} {
		only(t, s.send(packet.V6, datagram(to)), packet.V4)
	}
}

// deniedPorts denies single ports of some hosts, in both directions.
func deniedPorts(t *testing.T) {
	everywhere, there := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("198.51.100.0/24")
	o := ordinary()
	o.conf = func(c *gateway.Config) {
		c.DenyPorts = []gateway.PortRule{
			{Prefix: everywhere, Proto: packet.TCP, Lo: 25, Hi: 25},
			{Prefix: there, Proto: packet.TCP, Lo: 20, Hi: 30},
			{Prefix: there, Proto: packet.TCP, Lo: 28, Hi: 40},
			{Prefix: there, Proto: packet.UDP, Lo: 65535, Hi: 65535},
			{Prefix: there, Proto: packet.ICMP, Lo: 0, Hi: 65535},
		}
	}
	s := bound(t, o)
	here, away := serverAddr, netip.MustParseAddr("192.88.99.1")
	for _, c := range []struct {
		host    netip.Addr
		number  uint8
		port    uint16
		refused bool
	}{
		{here, packet.NumTCP, 25, true}, {away, packet.NumTCP, 25, true}, {here, packet.NumUDP, 25, false},
		{here, packet.NumTCP, 19, false}, {here, packet.NumTCP, 20, true}, {here, packet.NumTCP, 40, true}, {here, packet.NumTCP, 41, false},
		{away, packet.NumTCP, 24, false}, {away, packet.NumTCP, 26, false},
		{here, packet.NumUDP, 65534, false}, {here, packet.NumUDP, 65535, true}, {away, packet.NumUDP, 65535, false},
	} {
		got := s.send(packet.V6, ip6(clientAddr, behind64(c.host), c.number, transport(c.number, packet.FlagSYN, 40000, c.port, 0, 0)))
		back := s.send(packet.V4, ip4(c.host, poolAddr, c.number, transport(c.number, packet.FlagSYN, c.port, 5000, 0, 0)))
		if c.refused {
			icmp6(t, got, 1, 1)
			icmp4(t, back, 3, 13)
			continue
		}
		only(t, got, packet.V4)
		only(t, back, packet.V6)
	}
	icmp6(t, s.send(packet.V6, ip6(clientAddr, behind64(here), packet.NumICMPv6, echo(packet.EchoRequest6, 7))), 1, 1)
	only(t, s.send(packet.V6, ip6(clientAddr, behind64(away), packet.NumICMPv6, echo(packet.EchoRequest6, 7))), packet.V4)
}

// subnetBroadcasts drops packets from the broadcast address of a subnet, but translates ICMP errors among them.
func subnetBroadcasts(t *testing.T) {
	all := netip.MustParseAddr("198.51.100.255")
	o := ordinary()
	o.conf = func(c *gateway.Config) { c.Broadcasts = []packet.Addr4{all.As4()} }
	s := bound(t, o)
	nothing(t, s.send(packet.V4, ip4(all, poolAddr, packet.NumUDP, udp(443, 5000, 4))))
	s.counted(t, drop.Source4, 0)
	nothing(t, s.send(packet.V4, hops(ip4(all, poolAddr, packet.NumUDP, udp(443, 5000, 4)), 1)))
	only(t, s.send(packet.V4, ip4(netip.MustParseAddr("198.51.100.254"), poolAddr, packet.NumUDP, udp(443, 5000, 4))), packet.V6)
	only(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)), packet.V4)
	quote := ip4(poolAddr, serverAddr, packet.NumUDP, udp(5000, 443, 4))
	passing := only(t, s.send(packet.V4, ip4(all, poolAddr, packet.NumICMP, complaint(3, 1, 0, quote))), packet.V6)
	if src := netip.AddrFrom16(*packet.IPv6(passing).Src()); src != behind64(all) {
		t.Errorf("the error comes from %v, want %v", src, behind64(all))
	}
	reporterInWellKnownPrefix(t, all)
}

// reporterInWellKnownPrefix expects the destination of the quoted packet as source of the translated error,
// because the well-known prefix must not represent the router's address.
func reporterInWellKnownPrefix(t *testing.T, from netip.Addr) {
	t.Helper()
	o := ordinary()
	o.pool6, o.policy = []string{pool6.WellKnown.String()}, config.PrivateV4Allow
	o.conf = func(c *gateway.Config) { c.Broadcasts = []packet.Addr4{from.As4()} }
	s := bound(t, o)
	quote := ip4(poolAddr, serverAddr, packet.NumUDP, udp(5000, 443, 4))
	got := only(t, s.send(packet.V4, ip4(from, poolAddr, packet.NumICMP, complaint(3, 1, 0, quote))), packet.V6)
	if src := netip.AddrFrom16(*packet.IPv6(got).Src()); src != netip.MustParseAddr("64:ff9b::198.51.100.20") {
		t.Errorf("the error comes from %v, want 64:ff9b::198.51.100.20", src)
	}
}
