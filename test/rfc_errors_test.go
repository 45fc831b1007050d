package test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

func TestOwnErrorVectors(t *testing.T) {
	var file wireFile
	load(t, "own_errors.json", &file)
	if len(file.Vectors) == 0 {
		t.Fatal("own_errors.json holds no vectors")
	}
	for _, v := range file.Vectors {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			v.run(t)
		})
	}
}

// bound returns a setting in which the client of from6 has port 5000 for all protocols.
func bound(t *testing.T, o settingOptions) *setting {
	t.Helper()
	s := newSetting(t, o)
	for _, p := range protos {
		s.bind(t, p, netip.AddrPortFrom(clientAddr, 40000), netip.AddrPortFrom(poolAddr, 5000))
	}
	return s
}

func TestOwnErrors(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"X79-5.1-08": hopLimitUsedUp,
		"X79-4.1-12": sourceRoutes,
		"X79-5.4-02": icmpIsAnsweredIfEcho,
		"ICM-02":     neverAnswered,
		"ICM-06":     headersOfErrors, // and ICM-07
		"ICM-10":     answersByReason,
	})
}

func hopLimitUsedUp(t *testing.T) {
	s := bound(t, ordinary())
	for _, n := range []byte{0, 1} {
		icmp6(t, s.send(packet.V6, hops(from6(packet.NumUDP, 0, 4), n)), 3, 0)
		icmp4(t, s.send(packet.V4, hops(from4(packet.NumUDP, 0, 4, 5000, true), n)), 11, 0)
	}
}

func sourceRoutes(t *testing.T) {
	s := bound(t, ordinary())
	b := from4(packet.NumUDP, 0, 4, 5000, true)
	for _, kind := range []byte{131, 137} {
		for _, options := range [][]byte{{kind, 7, 4, 192, 0, 2, 1, 0}, {1, kind, 7, 4, 192, 0, 2, 1}, {7, 4, 4, 0, kind, 3, 1, 0}} {
			icmp4(t, s.send(packet.V4, withOptions(b, options)), 3, 5)
		}
		only(t, s.send(packet.V4, withOptions(b, []byte{kind, 7, 8, 192, 0, 2, 1, 0})), packet.V6) // source route followed to its end
	}
}

func icmpIsAnsweredIfEcho(t *testing.T) {
	s := bound(t, ordinary())
	icmp6(t, s.send(packet.V6, hops(of6(packet.NumICMPv6, echo(packet.EchoRequest6, 40000)), 1)), 3, 0)
	icmp6(t, s.send(packet.V6, hops(of6(packet.NumICMPv6, echo(packet.EchoReply6, 40000)), 1)), 3, 0)
	for _, kind := range []byte{1, 2, 3, 4, 100, 127, 133, 134, 135, 136, 137} {
		nothing(t, s.send(packet.V6, hops(of6(packet.NumICMPv6, complaint(kind, 0, 0, received()[1])), 1)))
	}
}

func neverAnswered(t *testing.T) {
	s := bound(t, ordinary())
	for _, a := range []string{"::", "::1", "ff02::1", "fe80::1"} {
		nothing(t, s.send(packet.V6, hops(ip6(netip.MustParseAddr(a), serverAs6, packet.NumUDP, udp(40000, 443, 4)), 1)))
	}
	for _, a := range []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"} {
		nothing(t, s.send(packet.V4, hops(ip4(netip.MustParseAddr(a), poolAddr, packet.NumUDP, udp(443, 5000, 4)), 1)))
	}
	for _, kind := range []byte{3, 11, 12, 5} { // errors, and a redirect
		nothing(t, s.send(packet.V4, hops(of4(packet.NumICMP, complaint(kind, 0, 0, sentOn(map[packet.Proto]uint16{packet.UDP: 5000})[1])), 1)))
	}
	whole := hops(from4(packet.NumUDP, 0, 100, 5000, false), 1)
	nothing(t, s.send(packet.V4, fragment4(whole, 7, 64, 108)))
	nothing(t, s.send(packet.V4, raw(whole, func(b []byte) { b[10]++ })))
}

func headersOfErrors(t *testing.T) {
	s := bound(t, ordinary())
	four := packet.IPv4(only(t, s.send(packet.V4, hops(from4(packet.NumUDP, 0, 4, 5000, true), 1)), packet.V4))
	if four.TOS() != 0xc0 || four.DF() || four.TTL() != 64 {
		t.Errorf("the ICMP error has TOS %#x, DF %v and TTL %d, want 0xc0, false and 64", four.TOS(), four.DF(), four.TTL())
	}
	six := packet.IPv6(only(t, s.send(packet.V6, hops(from6(packet.NumUDP, 0, 4), 1)), packet.V6))
	if six.HopLimit() != 64 {
		t.Errorf("the ICMPv6 error has hop limit %d, want 64", six.HopLimit())
	}
}

func answersByReason(t *testing.T) {
	none := drop.Answer{}
	for r, want := range map[drop.Reason][2]drop.Answer{ // for IPv6 and for IPv4 senders
		drop.HopLimit:         {{Type: 3}, {Type: 11}},
		drop.TooBig:           {{Type: 2}, {Type: 3, Code: 4}},
		drop.RoutingHeader:    {{Type: 4}, none},
		drop.SourceRoute:      {none, {Type: 3, Code: 5}},
		drop.UnknownTransport: {{Type: 1, Code: 4}, {Type: 3, Code: 2}},
		drop.PoolEmpty:        {{Type: 1, Code: 3}, none},
		drop.PoolExhausted:    {{Type: 1, Code: 3}, none},
		drop.BindingLimit:     {{Type: 1, Code: 3}, none},
		drop.SessionLimit:     {{Type: 1, Code: 3}, none},
		drop.MemoryLimit:      {{Type: 1, Code: 3}, none},
		drop.ClientBindings:   {{Type: 1, Code: 3}, none},
		drop.ClientShare:      {{Type: 1, Code: 3}, none},
		drop.ClientSessions:   {{Type: 1, Code: 3}, none},
		drop.PoolResting:      {{Type: 1, Code: 3}, none},
		drop.BindingSessions:  {{Type: 1, Code: 3}, none},
		drop.ClientRate:       {{Type: 1, Code: 3}, none},
		drop.Neighbour:        {{Type: 1, Code: 3}, {Type: 3, Code: 1}},
		drop.WellKnown:        {{Type: 1, Code: 1}, none},
		drop.Denied4:          {{Type: 1, Code: 1}, {Type: 3, Code: 13}},
		drop.Client6:          {{Type: 1, Code: 1}, none},
		drop.NoBinding:        {none, {Type: 3, Code: 3}}, // if enabled, like the next one
		drop.FilteredAddress:  {none, {Type: 3, Code: 13}},
		drop.HostAddress:      {{Type: 1, Code: 1}, {Type: 3, Code: 13}},
		drop.IPsec:            {{Type: 1, Code: 1}, {Type: 3, Code: 13}},
	} {
		if got := [2]drop.Answer{r.Answer6(), r.Answer4()}; got != want {
			t.Errorf("%v is answered %v, want %v", r, got, want)
		}
	}
}

func TestHairpinErrors(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"X79-1.4-01": hairpinTooBig,
		"DEC-5":      hairpinHopLimit,
	})
}

// neighbours returns a setting in which a packet from the client to port 6000 of pool4 is hairpinned to the second
// client.
func neighbours(t *testing.T, mtu6 uint32) *setting {
	t.Helper()
	o := ordinary()
	o.routes.mtu6 = mtu6
	s := newSetting(t, o)
	s.bind(t, packet.UDP, netip.AddrPortFrom(secondClient, 40000), netip.AddrPortFrom(poolAddr, 6000))
	return s
}

func hairpinTooBig(t *testing.T) {
	s := neighbours(t, 1400)
	big := ip6(clientAddr, behind64(poolAddr), packet.NumUDP, udp(40000, 6000, 1400))
	if mtu := icmp6(t, s.send(packet.V6, big), 2, 0); mtu != 1400 {
		t.Errorf("Packet Too Big reports %d, want 1400", mtu)
	}
}

func hairpinHopLimit(t *testing.T) {
	s := neighbours(t, 1500)
	for _, n := range []byte{2, 64, 255} {
		got := only(t, s.send(packet.V6, hops(ip6(clientAddr, behind64(poolAddr), packet.NumUDP, udp(40000, 6000, 4)), n)), packet.V6)
		if h := packet.IPv6(got); h.NextHeader() != packet.NumUDP || h.HopLimit() != n-1 {
			t.Errorf("with hop limit %d %x came out, want the packet with one less", n, got)
		}
	}
	icmp6(t, s.send(packet.V6, hops(ip6(clientAddr, behind64(poolAddr), packet.NumUDP, udp(40000, 6000, 4)), 1)), 3, 0)
}

func TestErrorsAreTrimmed(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"ICM-03":     errorOf1280,
		"ICM-04":     errorOf576,
		"X79-5.3-05": translatedErrorOf576, // and DEC-10
	})
}

func errorOf1280(t *testing.T) {
	s := newSetting(t, ordinary())
	in := hops(from6(packet.NumUDP, 0, 1452), 1)
	got := only(t, s.send(packet.V6, in), packet.V6)
	if len(got) != 1280 || !bytes.Equal(got[48:], in[:1232]) {
		t.Errorf("the error is %d bytes, want 1280 that quote the packet", len(got))
	}
}

func errorOf576(t *testing.T) {
	s := bound(t, ordinary())
	in := hops(from4(packet.NumUDP, 0, 1472, 5000, true), 1)
	got := only(t, s.send(packet.V4, in), packet.V4)
	if len(got) != 576 || !bytes.Equal(got[28:], in[:548]) {
		t.Errorf("the error is %d bytes, want 576 that quote the packet", len(got))
	}
}

func translatedErrorOf576(t *testing.T) {
	s := bound(t, ordinary())
	quote := ip6(serverAs6, clientAddr, packet.NumUDP, udp(443, 40000, 1452))
	in := ip6(clientAddr, serverAs6, packet.NumICMPv6, complaint(2, 0, 1400, quote[:1232]))
	if got := only(t, s.send(packet.V6, in), packet.V4); len(got) != 576 || string(seal(bytes.Clone(got))) != string(got) {
		t.Errorf("the error is %d bytes, want 576 with checksums that are right", len(got))
	}
}

// extension returns a structure of RFC 4884 section 7 with one object with n bytes of data.
func extension(n int) []byte {
	b := append([]byte{0x20, 0, 0, 0, byte((n + 4) >> 8), byte(n + 4), 1, 1}, bytes.Repeat([]byte{0xab}, n)...)
	binary.BigEndian.PutUint16(b[2:], packet.Sum(0).Bytes(b).Checksum())
	return b
}

// extended4 sends an ICMPv4 error with the length field words, which quotes a packet of n bytes, and returns its
// translation.
func extended4(t *testing.T, words uint8, n int, extension []byte) []byte {
	t.Helper()
	s := bound(t, ordinary())
	quote := ip4(poolAddr, serverAddr, packet.NumUDP, udp(5000, 443, n-packet.IPv4Len-packet.UDPLen))
	in := ip4(routerOn4, poolAddr, packet.NumICMP, complaint(3, 1, uint32(words)<<16, append(quote, extension...)))
	return only(t, s.send(packet.V4, in), packet.V6)
}

func TestExtensions(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"EXT-4884-03": lengthThatCannotBe,
		"EXT-4884-07": extensionThatIsTooLong,
	})
}

func lengthThatCannotBe(t *testing.T) {
	for _, words := range []uint8{1, 31, 200, 255} { // less than 128 bytes, and more than the body
		got := extended4(t, words, 160, extension(8))
		if length := got[44]; length != 0 {
			t.Errorf("%d words: the translated length field says %d, want none", words, length)
		}
		if n := len(got); n != 40+8+160+20 {
			t.Errorf("%d words: %d bytes came out, want the quoted packet without what follows it", words, n)
		}
	}
}

func extensionThatIsTooLong(t *testing.T) {
	long := extended4(t, 250, 1000, extension(256)) // 1000 + 20 + 264 bytes: too many
	if len(long) > 1280 || int(long[44])*8 < 128 || !bytes.HasSuffix(long, extension(256)) {
		t.Errorf("%d bytes came out, of them %d of the quoted packet; want at most 1280 with the extension", len(long), int(long[44])*8)
	}
	if at := 48 + int(long[44])*8; len(long)-at != len(extension(256)) {
		t.Errorf("the length field says that the extension begins at %d of %d", at, len(long))
	}
	huge := extended4(t, 32, 128, extension(1200)) // does not fit together with 128 bytes of the packet
	if huge[44] != 0 || len(huge) != 40+8+128+20 {
		t.Errorf("%d bytes came out with the length field %d, want the quoted packet alone", len(huge), huge[44])
	}
}

func TestQuotedPackets(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"FRG-D-03": quotedFragment,
		"I55-11":   errorForSomebodyElse,
	})
}

func quotedFragment(t *testing.T) {
	s := bound(t, ordinary())
	four := fragment4(ip4(poolAddr, serverAddr, packet.NumUDP, udp(5000, 443, 100)), 7, 64, 108)
	nothing(t, s.send(packet.V4, ip4(routerOn4, poolAddr, packet.NumICMP, complaint(11, 1, 0, four))))
	six := fragment6(ip6(serverAs6, clientAddr, packet.NumUDP, udp(443, 40000, 100)), 7, 64, 108)
	nothing(t, s.send(packet.V6, ip6(clientAddr, serverAs6, packet.NumICMPv6, complaint(3, 1, 0, six))))
}

func errorForSomebodyElse(t *testing.T) {
	o := poolOf("", pool[:2]...)
	s := bound(t, o)
	quote := ip4(poolAddr, serverAddr, packet.NumUDP, udp(5000, 443, 4))
	nothing(t, s.send(packet.V4, ip4(routerOn4, pool[1], packet.NumICMP, complaint(3, 1, 0, quote))))
	six := ip6(serverAs6, clientAddr, packet.NumUDP, udp(443, 40000, 4))
	nothing(t, s.send(packet.V6, ip6(clientAddr, behind64(secondServer), packet.NumICMPv6, complaint(1, 4, 0, six))))
	if n := s.Counters.Drops(drop.ICMPErrorInner); n != 2 {
		t.Errorf("%d drops were counted, want two", n)
	}
}
