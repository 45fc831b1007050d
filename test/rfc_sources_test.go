package test

import (
	"net/netip"
	"testing"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
)

// linkLocalIsNeverTranslated checks both directions, with the well-known prefix and another one, though pool4 is
// private and private addresses are allowed. A link-local pool4 does not change that for other addresses.
func linkLocalIsNeverTranslated(t *testing.T) {
	metadata, private := netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.9.9.9")
	for _, pool := range []string{"10.0.2.15", "169.254.65.1"} {
		for _, policy := range []config.PrivateV4{config.PrivateV4Auto, config.PrivateV4Allow} {
			o := poolOf("", netip.MustParseAddr(pool))
			o.pool6, o.policy = []string{"64:ff9b::/96", "2001:db8:64::/96"}, policy
			s := newSetting(t, o)
			for n, prefix := range []string{"64:ff9b::", "2001:db8:64::"} {
				to := func(a netip.Addr) []byte {
					return ip6(clientAddr, netip.MustParseAddr(prefix+a.String()), packet.NumUDP, udp(40000, 443, 4))
				}
				icmp6(t, s.send(packet.V6, to(metadata)), 1, 1)
				s.counted(t, drop.LinkLocal4, uint64(2*n))
				port := sport(t, s.send(packet.V6, to(private)))
				back := func(from netip.Addr) []byte {
					return ip4(from, netip.MustParseAddr(pool), packet.NumUDP, udp(443, port, 4))
				}
				nothing(t, s.send(packet.V4, back(netip.MustParseAddr("169.254.1.1"))))
				s.counted(t, drop.LinkLocal4, uint64(2*n+1))
				only(t, s.send(packet.V4, back(private)), packet.V6)
			}
		}
	}
}

// Forged sources are dropped, each with its reason, and without an ICMP error, which would go to another host.
func TestForgedSources(t *testing.T) {
	own6, own4 := netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("192.0.2.1")
	unrouted, elsewhere := netip.MustParseAddr("2001:db8:bad::1"), netip.MustParseAddr("2001:db8:e::1")
	for _, check := range []config.SourceCheck{config.SourceCheckOff, config.SourceCheckLoose, config.SourceCheckStrict} {
		o := ordinary()
		o.routes.ways = map[netip.Addr]drop.Reason{
			own6: drop.HostAddress, own4: drop.HostAddress, unrouted: drop.NoRoute, elsewhere: drop.OtherInterface,
		}
		o.conf = func(c *gateway.Config) { c.SourceCheck = check }
		s := newSetting(t, o)
		port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
		refused := map[netip.Addr]drop.Reason{
			own6: drop.OwnSource, netip.MustParseAddr("::ffff:192.0.2.9"): drop.MappedSource, netip.MustParseAddr("::192.0.2.9"): drop.Source6,
			own4: drop.OwnSource, poolAddr: drop.SourceInPool4,
		}
		if check != config.SourceCheckOff {
			refused[unrouted] = drop.UnroutedSource
		}
		if check == config.SourceCheckStrict {
			refused[elsewhere] = drop.UnroutedSource
		}
		for _, src := range []netip.Addr{own6, netip.MustParseAddr("::ffff:192.0.2.9"), netip.MustParseAddr("::192.0.2.9"), unrouted, elsewhere, own4, poolAddr} {
			p, side := []byte(nil), packet.V4
			if src.Is4() {
				p = ip4(src, poolAddr, packet.NumUDP, udp(443, port, 4))
			} else {
				p, side = ip6(src, serverAs6, packet.NumUDP, udp(40000, 443, 4)), packet.V6
			}
			r, bad := refused[src]
			before := s.Counters.Drops(r)
			got := s.send(side, p)
			if !bad {
				only(t, got, 1-side)
				continue
			}
			nothing(t, got)
			s.counted(t, r, before)
		}
	}
}

// ICMP errors are checked by their quote, but an error from one of the gateway's own addresses is forged, in either
// family.
func TestForgedSourcesOfErrors(t *testing.T) {
	own6, own4 := netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("192.0.2.1")
	o := ordinary()
	loopback := netip.MustParseAddr("127.0.0.1")
	o.routes.ways = map[netip.Addr]drop.Reason{own6: drop.HostAddress, own4: drop.HostAddress, loopback: drop.HostAddress}
	s := bound(t, o)
	nothing(t, s.send(packet.V6, unreachable6(own6)))
	s.counted(t, drop.OwnSource, 0)
	nothing(t, s.send(packet.V4, unreachable4(own4)))
	s.counted(t, drop.OwnSource, 1)
	only(t, s.send(packet.V4, unreachable4(loopback)), packet.V6) // a misconfigured router, not a forgery
	nothing(t, s.send(packet.V4, unreachable4(poolAddr)))
	s.counted(t, drop.SourceInPool4, 0)
}

// nat64d denies addresses that are not in allow_v4, and those in deny_v4 even if allow_v4 contains them, in both
// directions.
func TestListOfReachableAddresses(t *testing.T) {
	o := ordinary()
	o.conf = func(c *gateway.Config) {
		c.Allow4 = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		c.Deny4 = []netip.Prefix{netip.MustParsePrefix("198.51.100.128/25")}
	}
	s := newSetting(t, o)
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
	for n, a := range []string{"192.0.2.77", "198.51.100.200"} {
		far := netip.MustParseAddr(a)
		icmp6(t, s.send(packet.V6, ip6(clientAddr, behind64(far), packet.NumUDP, udp(40000, 443, 4))), 1, 1)
		s.counted(t, drop.Denied4, uint64(2*n))
		icmp4(t, s.send(packet.V4, ip4(far, poolAddr, packet.NumUDP, udp(443, port, 4))), 3, 13)
	}
}
