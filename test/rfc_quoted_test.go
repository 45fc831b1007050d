package test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
)

func TestErrorsAreCheckedByQuote(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"ICM-06a": listsApplyToTheQuotedFlow,
		"DEC-1":   reporterThatCannotBeMapped,
		"I55-03":  quotesAsRoutersSendThem,
	})
}

// unreachable6 and unreachable4 return errors about the flow of bound between client and server.
func unreachable6(src netip.Addr) []byte {
	return ip6(src, serverAs6, packet.NumICMPv6, complaint(1, 4, 0, received()[1]))
}

func unreachable4(src netip.Addr) []byte {
	return ip4(src, poolAddr, packet.NumICMP, complaint(3, 1, 0, sentOn(map[packet.Proto]uint16{packet.UDP: 5000})[1]))
}

// listed returns a setting in which other clients, and some IPv4 hosts, are refused with an error.
func listed(t *testing.T, client, denied string) *setting {
	t.Helper()
	o := ordinary()
	o.conf = func(c *gateway.Config) {
		c.Allow6 = []netip.Prefix{netip.MustParsePrefix(client)}
		c.Deny4 = []netip.Prefix{netip.MustParsePrefix(denied)}
		c.Broadcasts = []packet.Addr4{{192, 0, 2, 255}}
	}
	return bound(t, o)
}

func listsApplyToTheQuotedFlow(t *testing.T) {
	served := listed(t, clientAddr.String()+"/128", "192.0.0.0/9")
	for _, a := range []string{"2001:db8:ffff::1", "fe80::1", "fd00::1"} {
		only(t, served.send(packet.V6, unreachable6(netip.MustParseAddr(a))), packet.V4)
	}
	for _, a := range []string{"192.0.2.254", "10.0.0.1", "169.254.0.1", "127.0.0.1", "240.0.0.1", "192.0.2.255"} {
		only(t, served.send(packet.V4, unreachable4(netip.MustParseAddr(a))), packet.V6)
	}
	refused := func(s *setting, want drop.Reason, side packet.Family, b []byte) {
		t.Helper()
		before := s.Counters.Drops(want)
		nothing(t, s.send(side, b))
		s.counted(t, want, before)
	}
	for _, a := range []string{"::", "::1", "ff02::1"} {
		refused(served, drop.Source6, packet.V6, unreachable6(netip.MustParseAddr(a)))
	}
	for _, a := range []string{"0.0.0.0", "224.0.0.1", "255.255.255.255"} {
		refused(served, drop.Source4, packet.V4, unreachable4(netip.MustParseAddr(a)))
	}
	refused(served, drop.SourceInPool6, packet.V6, unreachable6(behind64(secondServer)))

	stranger := listed(t, "2001:db8:ffff::/48", "192.0.0.0/9")
	refused(stranger, drop.Client6, packet.V6, unreachable6(netip.MustParseAddr("2001:db8:ffff::1")))
	refused(stranger, drop.Client6, packet.V4, unreachable4(routerOn4))
	denied := listed(t, clientAddr.String()+"/128", serverAddr.String()+"/32")
	refused(denied, drop.Denied4, packet.V6, unreachable6(clientAddr))
	refused(denied, drop.Denied4, packet.V4, unreachable4(routerOn4))
	served.Pause()
	refused(served, drop.Paused, packet.V6, unreachable6(netip.MustParseAddr("2001:db8:ffff::1")))
	refused(served, drop.Paused, packet.V4, unreachable4(netip.MustParseAddr("192.0.2.254")))
}

// A fragmented error is checked after reassembly, like any other error.
func TestFragmentedErrorsAreCheckedByQuote(t *testing.T) {
	t.Parallel()
	s := listed(t, clientAddr.String()+"/128", "192.0.0.0/9")
	six, four := unreachable6(netip.MustParseAddr("fe80::1")), unreachable4(routerOn4)
	nothing(t, s.send(packet.V6, fragment6(six, 7, 32, len(six)-packet.IPv6Len)))
	only(t, s.send(packet.V6, fragment6(six, 7, 0, 32)), packet.V4)
	nothing(t, s.send(packet.V4, fragment4(four, 7, 16, len(four)-packet.IPv4Len)))
	only(t, s.send(packet.V4, fragment4(four, 7, 0, 16)), packet.V6)
}

// reporterThatCannotBeMapped expects the destination of the quoted packet as the source of the translated error.
func reporterThatCannotBeMapped(t *testing.T) {
	server := netip.MustParseAddr("192.31.196.1") // global (RFC 7535)
	o := ordinary()
	o.pool6 = []string{"64:ff9b::/96"}
	o.conf = func(c *gateway.Config) { c.Bypass = []netip.Prefix{netip.MustParsePrefix("64:ff9b::c01f:c480/121")} }
	s := bound(t, o)
	about := ip4(poolAddr, server, packet.NumUDP, udp(5000, 443, 4))
	for a, want := range map[string]string{
		"192.31.196.2":   "64:ff9b::192.31.196.2",
		"192.31.196.129": "64:ff9b::192.31.196.1", // the address in the prefix belongs to another host (bypass)
		"10.0.0.1":       "64:ff9b::192.31.196.1",
		"169.254.0.1":    "64:ff9b::192.31.196.1",
		"127.0.0.1":      "64:ff9b::192.31.196.1",
	} {
		in := ip4(netip.MustParseAddr(a), poolAddr, packet.NumICMP, complaint(11, 0, 0, about))
		got := packet.IPv6(only(t, s.send(packet.V4, in), packet.V6))
		if src := netip.AddrFrom16(*got.Src()); src != netip.MustParseAddr(want) {
			t.Errorf("the error of %s comes from %v, want %s", a, src, want)
		}
	}
	private := bound(t, ordinary()) // link-local addresses are not represented in any prefix
	got := packet.IPv6(only(t, private.send(packet.V4, unreachable4(netip.MustParseAddr("169.254.0.1"))), packet.V6))
	if src := netip.AddrFrom16(*got.Src()); src != serverAs6 {
		t.Errorf("the error of a link-local router comes from %v, want %v", src, serverAs6)
	}
}

// quotesAsRoutersSendThem have a header checksum that is correct, zero, or from before the TTL was decremented.
func quotesAsRoutersSendThem(t *testing.T) {
	s := bound(t, ordinary())
	for name, change := range map[string]func(b []byte){
		"zero": func(b []byte) { b[10], b[11] = 0, 0 }, "stale": func(b []byte) { b[8]-- }, "wrong": func(b []byte) { b[10] ^= 0xff },
	} {
		for _, q := range sentOn(map[packet.Proto]uint16{packet.TCP: 5000, packet.UDP: 5000, packet.ICMP: 5000}) {
			for _, kind := range [][3]uint8{{3, 4, 1}, {11, 0, 0}, {12, 0, 0}} {
				quote := raw(q, change)
				in := ip4(routerOn4, poolAddr, packet.NumICMP, complaint(kind[0], kind[1], uint32(kind[2])*1300, quote))
				got := only(t, s.send(packet.V4, in), packet.V6)
				if got[40+8] != 0x60 {
					t.Errorf("%s checksum, protocol %d: no IPv6 packet is quoted: %x", name, q[9], got)
				}
			}
		}
	}
}

// Every refused ICMP error is dropped without an error in response, whatever the reason and the extension headers.
func TestErrorsAreNeverAnswered(t *testing.T) {
	t.Parallel()
	s := listed(t, "2001:db8:ffff::/48", "198.51.100.0/24")
	s.bind(t, packet.UDP, netip.AddrPortFrom(secondClient, 40000), netip.AddrPortFrom(poolAddr, 6000))
	empty := make([]byte, 8)
	headers := map[string]func(b []byte) []byte{
		"none":                func(b []byte) []byte { return b },
		"hop-by-hop":          func(b []byte) []byte { return extended(b, packet.NumHopByHop, empty...) },
		"destination options": func(b []byte) []byte { return extended(b, packet.NumDestOpts, empty...) },
		"two": func(b []byte) []byte {
			return extended(extended(b, packet.NumDestOpts, empty...), packet.NumHopByHop, empty...)
		},
		"segments left": func(b []byte) []byte { return extended(b, packet.NumRouting, 0, 0, 0, 1, 0, 0, 0, 0) },
		"authentication": func(b []byte) []byte {
			return extended(b, packet.NumAuth, append([]byte{0, 1}, make([]byte, 10)...)...)
		},
		"atomic fragment":    func(b []byte) []byte { return fragment6(b, 1, 0, len(b)-packet.IPv6Len) },
		"first fragment":     func(b []byte) []byte { return fragment6(b, 2, 0, 32) },
		"bad first fragment": func(b []byte) []byte { return fragment6(b, 3, 0, 31) },
		"bad later fragment": func(b []byte) []byte { b[packet.IPv6Len+8] = packet.EchoRequest6; return fragment6(b, 4, 8, 31) },
		"hop limit":          func(b []byte) []byte { b[7] = 1; return b },
	}
	quote := received()[1]
	for name, behind := range headers {
		for kind := range uint8(128) {
			for _, dst := range []netip.Addr{serverAs6, behind64(netip.MustParseAddr("127.0.0.1")), behind64(poolAddr)} {
				in := behind(ip6(clientAddr, dst, packet.NumICMPv6, complaint(kind, 0, 1300, quote)))
				if got := s.send(packet.V6, in); len(got) != 0 {
					t.Fatalf("error %d behind %s to %v was answered: %x", kind, name, dst, got[0].ip)
				}
			}
		}
	}
	icmp6(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)), 1, 1) // a datagram is answered
	four := map[string]func(b []byte) []byte{
		"none":           func(b []byte) []byte { return b },
		"source route":   func(b []byte) []byte { return withOptions(b, []byte{131, 7, 4, 192, 0, 2, 1, 0}) },
		"ttl":            func(b []byte) []byte { return hops(b, 1) },
		"first fragment": func(b []byte) []byte { return fragment4(b, 2, 0, 32) },
		"authentication": func(b []byte) []byte {
			auth := slices.Concat(b[:packet.IPv4Len], []byte{packet.NumICMP, 1}, make([]byte, 10), b[packet.IPv4Len:])
			return edited(auth, func(b []byte) { b[9] = packet.NumAuth; binary.BigEndian.PutUint16(b[2:], uint16(len(b))) })
		},
	}
	for name, change := range four {
		for _, kind := range []uint8{3, 4, 5, 11, 12} {
			for _, port := range []uint16{5000, 4000} { // one of them is bound
				about := sentOn(map[packet.Proto]uint16{packet.UDP: port})[1]
				in := change(ip4(serverAddr, poolAddr, packet.NumICMP, complaint(kind, 4, 1300, about)))
				if got := s.send(packet.V4, in); len(got) != 0 {
					t.Fatalf("error %d, %s, was answered: %x", kind, name, got[0].ip)
				}
			}
		}
	}
}

// An unreadable quote is counted as such, even if the error was sent to an address that is also the host's.
func TestUnreadableQuoteIsCounted(t *testing.T) {
	t.Parallel()
	s := bound(t, ordinary())
	for want, in := range map[drop.Reason][]byte{
		drop.ICMPErrorInner: ip4(routerOn4, poolAddr, packet.NumICMP, complaint(3, 1, 0, []byte{0x45, 0, 0})),
		drop.ICMPChecksum:   raw(unreachable4(routerOn4), func(b []byte) { b[22]++ }),
	} {
		before := s.Counters.Drops(want)
		nothing(t, s.send(packet.V4, in))
		s.counted(t, want, before)
	}
}

// A Fragmentation Needed without an MTU means the plateau below the packet's length: nat64d neither reports nor
// caches less. A Packet Too Big cannot mean less than 1280.
func TestErrorsWithoutMTU(t *testing.T) {
	t.Parallel()
	s := bound(t, ordinary())
	mtu := func(total int) uint32 {
		quote := edited(sentOn(map[packet.Proto]uint16{packet.UDP: 5000})[1], func(b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(total)) })
		in := ip4(routerOn4, poolAddr, packet.NumICMP, complaint(3, 4, 0, quote))
		return icmp6(t, s.send(packet.V4, in), 2, 0)
	}
	only(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)), packet.V4) // a path MTU is only cached for a session
	if got := mtu(1500); got != 1500 {
		t.Errorf("for 1500 bytes the client receives %d, want 1500 (1492 is more in IPv6)", got)
	}
	whole := from6(packet.NumUDP, 0, 1200)
	only(t, s.send(packet.V6, whole), packet.V4)
	if got := mtu(1250); got != 1280 {
		t.Errorf("for 1250 bytes the client receives %d, want 1280", got)
	}
	if got := s.send(packet.V6, whole); len(got) != 2 || len(got[0].ip) > 1006 {
		t.Errorf("with a plateau of 1006 bytes %d packets came out, the first of %d bytes", len(got), len(got[0].ip))
	}
	for _, said := range []uint32{0, 20, 1279} {
		got := only(t, s.send(packet.V6, ip6(routerOn6, serverAs6, packet.NumICMPv6, complaint(2, 0, said, received()[0]))), packet.V4)
		if n := binary.BigEndian.Uint32(got[24:]); n != 1260 {
			t.Errorf("a Packet Too Big of %d became a Fragmentation Needed of %d, want 1260", said, n)
		}
	}
}

// The Total Length of a translated quote does not wrap, even for the maximum IPv6 payload length.
func TestQuoteOfLongestPacket(t *testing.T) {
	t.Parallel()
	s := bound(t, ordinary())
	for payload, want := range map[uint16]uint16{65515: 65535, 65516: 65535, 65535: 65535} {
		quote := received()[0]
		binary.BigEndian.PutUint16(quote[4:], payload)
		got := only(t, s.send(packet.V6, ip6(routerOn6, serverAs6, packet.NumICMPv6, complaint(2, 0, 1300, quote))), packet.V4)
		if n := binary.BigEndian.Uint16(got[28+2:]); n != want {
			t.Errorf("a quoted payload of %d bytes became a total of %d, want %d", payload, n, want)
		}
	}
}

// A super-packet above 64 KiB has the length 0 inside a kernel, and so in a quote: the error is translated with the
// length of the quoted bytes.
func TestQuoteWithoutLength(t *testing.T) {
	t.Parallel()
	s := bound(t, ordinary())
	six := raw(received()[0], func(b []byte) { b[4], b[5] = 0, 0 })
	got := only(t, s.send(packet.V6, ip6(routerOn6, serverAs6, packet.NumICMPv6, complaint(2, 0, 1300, six))), packet.V4)
	if n := packet.IPv4(got[28:]).TotalLen(); n != packet.IPv4Len+packet.TCPLen {
		t.Errorf("the quoted IPv4 packet has the length %d", n)
	}
	four := raw(sentOn(map[packet.Proto]uint16{packet.TCP: 5000})[0], func(b []byte) { b[2], b[3] = 0, 0 })
	got = only(t, s.send(packet.V4, ip4(routerOn4, poolAddr, packet.NumICMP, complaint(3, 4, 1300, four))), packet.V6)
	if n := packet.IPv6(got[48:]).PayloadLen(); n != packet.TCPLen {
		t.Errorf("the quoted IPv6 packet has the payload length %d", n)
	}
}

// A hairpinned SYN to an unbound port is stored like one from IPv4; its sender gets an ICMPv6 error after six
// seconds.
func TestHairpinnedSYNIsStored(t *testing.T) {
	t.Parallel()
	s := newSetting(t, storing())
	syn := ip6(clientAddr, behind64(poolAddr), packet.NumTCP, tcp(40000, 6000, packet.FlagSYN))
	nothing(t, s.send(packet.V6, syn))
	s.advance(5 * time.Second)
	nothing(t, s.send(packet.V4))
	s.advance(2 * time.Second)
	var got []sent
	s.eventually(t, func() bool {
		got = append(got, s.send(packet.V4)...)
		return len(got) > 0
	})
	icmp6(t, got, 1, 4)
	if b := only(t, got, packet.V6); !bytes.Equal(b[48:], syn) {
		t.Errorf("the error quotes %x, want %x", b[48:], syn)
	}
}
