package test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
)

func ping(client, server netip.Addr, id uint16) []byte {
	return ip6(client, server, packet.NumICMPv6, echo(packet.EchoRequest6, id))
}

func TestEcho(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5.3-01": identifiersAreMapped,
		"N64-3.5.3-02": echoIsRefused,
		"N64-3.5.3-07": identifierIsTheSameToAll,
		"N64-3.8-04":   echoTurnsRound,
	})
}

func identifiersAreMapped(t *testing.T) {
	s := newSetting(t, poolOf("", pool...))
	one, two := mapped(t, s, ping(clientAddr, serverAs6, 7)), mapped(t, s, ping(clientAddr, serverAs6, 8))
	if one.Addr() != two.Addr() || one.Port() == two.Port() {
		t.Errorf("two Identifiers of a client became %v and %v", one, two)
	}
	for id, got := range map[uint16]netip.AddrPort{7: one, 8: two} {
		back := only(t, s.send(packet.V4, ip4(serverAddr, got.Addr(), packet.NumICMP, echo(packet.EchoReply4, got.Port()))), packet.V6)
		if _, dst := addrs(t, back); dst.Addr() != clientAddr || binary.BigEndian.Uint16(back[44:]) != id || back[40] != packet.EchoReply6 {
			t.Errorf("the reply is %x, want one to %v with Identifier %d", back, clientAddr, id)
		}
	}
}

func echoIsRefused(t *testing.T) {
	o := ordinary()
	o.conf = func(c *gateway.Config) { c.NoEcho = true }
	s := newSetting(t, o)
	nothing(t, s.send(packet.V6, ping(clientAddr, serverAs6, 7)))
	s.counted(t, drop.Informational, 0)
	if n := len(s.bindings()); n != 0 {
		t.Errorf("%d bindings were made", n)
	}
}

func identifierIsTheSameToAll(t *testing.T) {
	s := newSetting(t, ordinary())
	if one, two := mapped(t, s, ping(clientAddr, serverAs6, 7)), mapped(t, s, ping(clientAddr, behind64(secondServer), 7)); one != two {
		t.Errorf("one Identifier is %v to one host and %v to another", one, two)
	}
}

func echoTurnsRound(t *testing.T) {
	s := newSetting(t, poolOf("", pool[:2]...))
	s.bind(t, packet.ICMP, netip.AddrPortFrom(clientAddr, 5), netip.AddrPortFrom(pool[0], 9))
	s.bind(t, packet.ICMP, netip.AddrPortFrom(secondClient, 6), netip.AddrPortFrom(pool[1], 9))
	for dst, want := range map[netip.Addr]netip.AddrPort{
		pool[0]: netip.AddrPortFrom(clientAddr, 5), // itself
		pool[1]: netip.AddrPortFrom(secondClient, 6),
	} {
		got := only(t, s.send(packet.V6, ping(clientAddr, behind64(dst), 5)), packet.V6)
		src, to := addrs(t, got)
		to = netip.AddrPortFrom(to.Addr(), binary.BigEndian.Uint16(got[44:]))
		if src.Addr() != behind64(pool[0]) || to != want || got[40] != packet.EchoRequest6 {
			t.Errorf("%x came out, want an echo request from %v to %v", got, behind64(pool[0]), want)
		}
		refused := ip6(want.Addr(), src.Addr(), packet.NumICMPv6, complaint(1, 1, 0, got)) // N64-3.8-03
		if _, to := addrs(t, only(t, s.send(packet.V6, refused), packet.V6)); to.Addr() != clientAddr {
			t.Errorf("the error about it goes to %v", to.Addr())
		}
	}
}

func TestSeveralPrefixes(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5.4-05": answerUsesTheClientsPrefix,
		"A60-2.2-05":   suffixIsIgnored,
	})
}

func answerUsesTheClientsPrefix(t *testing.T) {
	o := ordinary()
	o.pool6 = []string{"2001:db8:64::/96", "2001:db8:8000::/40", "2001:db8:8064::/96"}
	s := newSetting(t, o)
	port := uint16(0)
	for _, server := range []string{"2001:db8:80c6:3364:14::", "2001:db8:8064::c633:6414", "2001:db8:64::c633:6414"} {
		port = mapped(t, s, ip6(clientAddr, netip.MustParseAddr(server), packet.NumUDP, udp(40000, 443, 4))).Port()
		back := only(t, s.send(packet.V4, from4(packet.NumUDP, 0, 4, port, false)), packet.V6)
		if src, _ := addrs(t, back); src.Addr() != netip.MustParseAddr(server) {
			t.Errorf("the answer to a packet to %s comes from %v", server, src.Addr())
		}
	}
	unasked := only(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumUDP, udp(443, port, 4))), packet.V6)
	if src, _ := addrs(t, unasked); src.Addr() != behind64(secondServer) {
		t.Errorf("an unknown host appears as %v, want the first prefix", src.Addr())
	}
}

func suffixIsIgnored(t *testing.T) {
	o := ordinary()
	o.pool6 = []string{"2001:db8:64:1::/64"}
	s := newSetting(t, o)
	for _, server := range []string{"2001:db8:64:1:c6:3364:1400:0", "2001:db8:64:1:ffc6:3364:14ff:ffff"} {
		out := only(t, s.send(packet.V6, ip6(clientAddr, netip.MustParseAddr(server), packet.NumUDP, udp(40000, 443, 4))), packet.V4)
		src, dst := addrs(t, out)
		if dst.Addr() != serverAddr {
			t.Errorf("%s leads to %v, want %v", server, dst.Addr(), serverAddr)
		}
		back := only(t, s.send(packet.V4, from4(packet.NumUDP, 0, 4, src.Port(), false)), packet.V6)
		if src, _ := addrs(t, back); src.Addr() != netip.MustParseAddr("2001:db8:64:1:c6:3364:1400:0") {
			t.Errorf("the answer comes from %v, whose byte 8 and suffix are not zero", src.Addr())
		}
	}
}

func TestAddressPolicy(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.6-06": deniedDestination,
		"DEC-8":      privateBehindTheWellKnownPrefix,
		"A60-LL":     linkLocalIsNeverTranslated,
	})
}

func deniedDestination(t *testing.T) {
	o := ordinary()
	o.conf = func(c *gateway.Config) { c.Deny4 = []netip.Prefix{netip.MustParsePrefix("198.51.100.20/32")} }
	s := newSetting(t, o)
	icmp6(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)), 1, 1)
	s.counted(t, drop.Denied4, 0)
	only(t, s.send(packet.V6, ip6(clientAddr, behind64(secondServer), packet.NumUDP, udp(40000, 443, 4))), packet.V4)
}

func privateBehindTheWellKnownPrefix(t *testing.T) {
	private, global := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("192.88.99.1")
	for pool, passes := range map[netip.Addr]bool{private: true, poolAddr: true, global: false} {
		o := poolOf("", pool)
		o.pool6, o.policy = []string{"64:ff9b::/96"}, config.PrivateV4Auto
		s := newSetting(t, o)
		got := s.send(packet.V6, ip6(clientAddr, netip.MustParseAddr("64:ff9b::10.9.9.9"), packet.NumUDP, udp(40000, 443, 4)))
		if passes {
			only(t, got, packet.V4)
		} else {
			icmp6(t, got, 1, 1)
			s.counted(t, drop.WellKnown, 0)
		}
	}
}

func TestTranslationOptions(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.7-05": mssIsClamped,
		"X79-4.1-04": tosIsConfigured, // and X79-5.1-03
		"X79-4.5-02": zeroChecksumIsRefused,
	})
}

func mssIsClamped(t *testing.T) {
	for _, c := range []struct {
		clamp      int
		six, four  uint32
		flags      byte
		offer, got uint16
	}{
		{0, 1400, 1500, packet.FlagSYN, 1460, 1460},
		{gateway.AutoMSS, 1400, 1500, packet.FlagSYN, 1460, 1340},
		{gateway.AutoMSS, 1500, 1360, packet.FlagSYN, 1460, 1320},
		{gateway.AutoMSS, 1500, 1360, packet.FlagSYN, 1000, 1000},
		{gateway.AutoMSS, 1500, 1360, packet.FlagACK, 1460, 1460},
		{1200, 1500, 1500, packet.FlagSYN, 1460, 1200},
	} {
		o := ordinary()
		o.routes.mtu6, o.routes.mtu4 = c.six, c.four
		o.conf = func(conf *gateway.Config) { conf.ClampMSS = c.clamp }
		s := newSetting(t, o)
		s.bind(t, packet.TCP, netip.AddrPortFrom(clientAddr, 40000), netip.AddrPortFrom(poolAddr, 5000))
		options := []byte{1, 2, 4, byte(c.offer >> 8), byte(c.offer), 1, 1, 0} // after a NOP, at an odd offset
		for side, b := range map[packet.Family][]byte{
			packet.V6: of6(packet.NumTCP, tcp(40000, 443, c.flags, options...)),
			packet.V4: of4(packet.NumTCP, tcp(443, 5000, c.flags, options...)),
		} {
			out := only(t, s.send(side, b), 1-side)
			if got := binary.BigEndian.Uint16(out[len(out)-5:]); got != c.got {
				t.Errorf("%+v: from side %v the MSS became %d", c, side, got)
			}
			if string(seal(append([]byte{}, out...))) != string(out) {
				t.Errorf("%+v: from side %v the checksum is wrong", c, side)
			}
		}
	}
}

func tosIsConfigured(t *testing.T) {
	o := ordinary()
	o.conf = func(c *gateway.Config) { c.Xlat.TOS, c.Xlat.TrafficClass = 0x20, 0 }
	s := newSetting(t, o)
	six := edited(from6(packet.NumUDP, 0, 4), func(b []byte) { b[0], b[1] = 0x6b, 0x90 })
	out := only(t, s.send(packet.V6, six), packet.V4)
	if out[1] != 0x20 {
		t.Errorf("TOS %#x, want the configured 0x20", out[1])
	}
	src, _ := addrs(t, out)
	four := edited(from4(packet.NumUDP, 0, 4, src.Port(), false), func(b []byte) { b[1] = 0xb9 })
	if back := packet.IPv6(only(t, s.send(packet.V4, four), packet.V6)); back.TrafficClass() != 0 {
		t.Errorf("Traffic Class %#x, want the configured 0", back.TrafficClass())
	}
}

func zeroChecksumIsRefused(t *testing.T) {
	o := ordinary()
	o.conf = func(c *gateway.Config) { c.Xlat.ZeroUDPDrop = true }
	s := newSetting(t, o)
	s.bind(t, packet.UDP, netip.AddrPortFrom(clientAddr, 40000), netip.AddrPortFrom(poolAddr, 5000))
	b := of4(packet.NumUDP, udp(443, 5000, 4))
	nothing(t, s.send(packet.V4, raw(b, func(b []byte) { b[26], b[27] = 0, 0 })))
	s.counted(t, drop.UDPZeroChecksum, 0)
	only(t, s.send(packet.V4, b), packet.V6)
}
