package test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
	"nat64d/session"
)

var (
	clientAddr = netip.MustParseAddr("2001:db8:1::10")
	serverAddr = netip.MustParseAddr("198.51.100.20")
	serverAs6  = netip.MustParseAddr("2001:db8:64::c633:6414")
	poolAddr   = netip.MustParseAddr("203.0.113.1")
)

func ordinary() settingOptions {
	return settingOptions{
		pool6: []string{"2001:db8:64::/96"}, pool4: []netip.Addr{poolAddr}, errors: 1000, policy: config.PrivateV4Drop,
		routes: &plain{
			mtu6: 1500, mtu4: 1500, gw6: netip.MustParseAddr("2001:db8:1::1").As16(), gw4: netip.MustParseAddr("192.0.2.1").As4(),
		},
	}
}

// transport returns a TCP, UDP or ICMP message with a checksum over the given pseudo-header sum.
func transport(number uint8, flags byte, src, dst uint16, payload int, pseudo packet.Sum) []byte {
	var h []byte
	at := packet.TCPChecksum
	switch number {
	case packet.NumTCP:
		h = make([]byte, packet.TCPLen)
		h[12], h[13] = 0x50, flags
	case packet.NumUDP:
		h, at = make([]byte, packet.UDPLen), packet.UDPChecksum
		binary.BigEndian.PutUint16(h[4:], uint16(packet.UDPLen+payload))
	}
	binary.BigEndian.PutUint16(h, src)
	binary.BigEndian.PutUint16(h[2:], dst)
	h = append(h, make([]byte, payload)...)
	binary.BigEndian.PutUint16(h[at:], pseudo.Pseudo(len(h), number).Bytes(h).Checksum())
	return h
}

// from6 returns a packet from the client's port 40000 to the server's port 443.
func from6(number uint8, flags byte, payload int) []byte {
	src, dst := clientAddr.As16(), serverAs6.As16()
	m := transport(number, flags, 40000, 443, payload, packet.Sum(0).Addr6(&src).Addr6(&dst))
	b := make([]byte, packet.IPv6Len)
	packet.IPv6(b).Put(0, len(m), number, 64, &src, &dst)
	return append(b, m...)
}

// from4 returns a packet from the server's port 443 to a transport address of pool4.
func from4(number uint8, flags byte, payload int, to uint16, df bool) []byte {
	src, dst := serverAddr.As4(), poolAddr.As4()
	m := transport(number, flags, 443, to, payload, packet.Sum(0).Addr4(&src).Addr4(&dst))
	b := make([]byte, packet.IPv4Len)
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: number, DF: df}, packet.IPv4Len+len(m), &src, &dst)
	return append(b, m...)
}

// sport returns the source port of the single IPv4 packet in got.
func sport(t testing.TB, got []sent) uint16 {
	return decoded(t, only(t, got, packet.V4)).Src.Port()
}

// icmp6 expects an ICMPv6 error and returns its second word.
func icmp6(t testing.TB, got []sent, kind, code uint8) uint32 {
	t.Helper()
	p := decoded(t, only(t, got, packet.V6))
	if p.ICMP6 == nil || p.ICMP6.TypeCode != layers.CreateICMPv6TypeCode(kind, code) {
		t.Fatalf("got %x, want an ICMPv6 error %d/%d", got[0].ip, kind, code)
	}
	return binary.BigEndian.Uint32(p.Payload)
}

// icmp4 expects an ICMP error and returns its second word.
func icmp4(t testing.TB, got []sent, kind, code uint8) uint32 {
	t.Helper()
	p := decoded(t, only(t, got, packet.V4))
	if p.ICMP4 == nil || p.ICMP4.TypeCode != layers.CreateICMPv4TypeCode(kind, code) {
		t.Fatalf("got %x, want an ICMP error %d/%d", got[0].ip, kind, code)
	}
	return uint32(p.ICMP4.Id)<<16 | uint32(p.ICMP4.Seq)
}

func TestTooBigErrorsReportMTU(t *testing.T) {
	o := ordinary()
	o.routes.mtu4, o.routes.mtu6 = 1400, 1450
	s := newSetting(t, o)
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 1352))) // 1400 bytes of IPv6, 1380 of IPv4
	if mtu := icmp6(t, s.send(packet.V6, from6(packet.NumUDP, 0, 1400)), 2, 0); mtu != 1420 {
		t.Errorf("Packet Too Big reports %d, want 1400 + 20", mtu)
	}
	if mtu := icmp4(t, s.send(packet.V4, from4(packet.NumUDP, 0, 1420, port, true)), 3, 4); mtu != 1430 {
		t.Errorf("Fragmentation Needed reports %d, want 1450 - 20", mtu)
	}
	if n := s.Counters.Drops(drop.TooBig); n != 2 {
		t.Errorf("%d packets were counted as too big, want 2", n)
	}
}

func TestPacketTooBigReportsAtLeast1280(t *testing.T) {
	o := ordinary()
	o.routes.mtu4 = 1000
	s := newSetting(t, o)
	if mtu := icmp6(t, s.send(packet.V6, from6(packet.NumUDP, 0, 1400)), 2, 0); mtu != 1280 {
		t.Errorf("Packet Too Big reports %d, want 1280", mtu)
	}
}

func TestHopLimitErrors(t *testing.T) {
	s := newSetting(t, ordinary())
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 10)))
	six, four := from6(packet.NumUDP, 0, 10), from4(packet.NumUDP, 0, 10, port, false)
	six[7] = 1
	src, dst := serverAddr.As4(), poolAddr.As4()
	packet.IPv4(four).Put(packet.Fields4{TTL: 1, Proto: packet.NumUDP}, len(four), &src, &dst)
	got := s.send(packet.V6, six)
	icmp6(t, got, 3, 0)
	if from := [16]byte(got[0].ip[8:24]); from != s.routes.gw6 {
		t.Errorf("the error comes from %v", netip.AddrFrom16(from))
	}
	icmp4(t, s.send(packet.V4, four), 11, 0)
	for _, e := range [][]byte{got[0].ip} { // an error is never answered
		e[7] = 1
		if got := s.send(packet.V6, e); len(got) != 0 {
			t.Errorf("an error was answered: %x", got[0].ip)
		}
	}
}

func TestFullPoolErrorAndRecovery(t *testing.T) {
	o := ordinary()
	o.ports = "7000-7001"
	s := newSetting(t, o)
	udp := func(client byte) []byte {
		return edited(from6(packet.NumUDP, 0, 4), func(b []byte) { b[23] = client })
	}
	for client := range byte(2) {
		sport(t, s.send(packet.V6, udp(client+1)))
	}
	icmp6(t, s.send(packet.V6, udp(3)), 1, 3)
	if n := s.Counters.Drops(drop.PoolExhausted); n != 1 {
		t.Errorf("%d refusals were counted", n)
	}
	sport(t, s.send(packet.V6, udp(1))) // a client with a port keeps it
	s.advance(301 * time.Second)
	s.eventually(t, func() bool { return s.Bindings.Len(packet.UDP) == 0 })
	sport(t, s.send(packet.V6, udp(3)))
}

func TestSilentConnectionIsProbed(t *testing.T) {
	s := newSetting(t, ordinary())
	port := sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
	s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, port, true))
	s.advance(2*time.Hour + time.Second)
	var probe []sent
	s.eventually(t, func() bool {
		probe = append(probe, s.send(packet.V6)...)
		return len(probe) > 0
	})
	p := decoded(t, only(t, probe, packet.V6))
	if h := p.TCP; h == nil || !h.ACK || h.SYN || h.RST || h.Seq != 0 || h.Ack != 0 || len(h.Contents) != packet.TCPLen || len(p.Payload) != 0 {
		t.Fatalf("the probe is %x", probe[0].ip)
	}
	if p.Src != netip.AddrPortFrom(serverAs6, 443) || p.Dst != netip.AddrPortFrom(clientAddr, 40000) {
		t.Errorf("the probe goes from %v to %v", p.Src, p.Dst)
	}
}

func TestSuperPacketIsNotSegmented(t *testing.T) {
	s := newSetting(t, ordinary())
	port := sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
	s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, port, true))
	off := packet.Offload{Checksum: packet.ChecksumPartial, GSO: packet.GSOTCPv6, GSOSize: 1440, HdrLen: 60, CsumStart: 40, CsumOffset: 16}
	got := s.sendFrames(packet.V6, packet.Frame{Data: unfinished(from6(packet.NumTCP, packet.FlagACK, 60000)), Offload: off})
	if len(got) != 1 || len(got[0].ip) != 60040 || got[0].offload.GSO != packet.GSOTCPv4 || got[0].offload.GSOSize != 1440 {
		t.Fatalf("%d packets came out", len(got))
	}
	off.GSOSize = 1461 // a segment of 1501 bytes of IPv4
	icmp6(t, s.sendFrames(packet.V6, packet.Frame{Data: unfinished(from6(packet.NumTCP, packet.FlagACK, 60000)), Offload: off}), 2, 0)
}

func TestPausedGatewaySendsNothing(t *testing.T) {
	s := newSetting(t, ordinary())
	s.Pause()
	if got := s.send(packet.V6, from6(packet.NumUDP, 0, 4)); len(got) != 0 || s.Counters.Drops(drop.Paused) != 1 {
		t.Errorf("%d packets came out", len(got))
	}
	s.Resume()
	sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
}

func TestPacketsWaitForANeighbour(t *testing.T) {
	o := ordinary()
	o.routes.pending.Store(true)
	s := newSetting(t, o)
	if got := s.send(packet.V6, from6(packet.NumUDP, 0, 4), from6(packet.NumUDP, 0, 5)); len(got) != 0 {
		t.Fatalf("%d packets came out although the neighbour is not resolved", len(got))
	}
	if n := o.routes.asked.Load(); n == 0 {
		t.Error("the kernel was not asked for the neighbour")
	}
	o.routes.pending.Store(false)
	o.routes.generation.Add(1)
	got := s.send(packet.V6)
	if len(got) != 2 || len(got[0].ip) != 32 || len(got[1].ip) != 33 {
		t.Errorf("%d packets came out, want both in their order", len(got))
	}
}

// A sender that has received 1280 as path MTU cannot send smaller packets for an IPv4 link with a lower MTU.
func TestSuperPacketsAreSegmentedForLinkBelow1280(t *testing.T) {
	o := ordinary()
	o.routes.mtu4 = 1000
	s := newSetting(t, o)
	port := sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
	s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, port, true))
	off := packet.Offload{Checksum: packet.ChecksumPartial, GSO: packet.GSOTCPv6, GSOSize: 1220, HdrLen: 60, CsumStart: 40, CsumOffset: 16}
	got := s.sendFrames(packet.V6, packet.Frame{Data: unfinished(from6(packet.NumTCP, packet.FlagACK, 6100)), Offload: off})
	if len(got) != 1 || got[0].offload.GSOSize != 960 || len(got[0].ip) != 6140 {
		t.Fatalf("TCP: %d packets came out, want one with segments of 960 bytes", len(got))
	}
	off = packet.Offload{Checksum: packet.ChecksumPartial, GSO: packet.GSOUDPL4, GSOSize: 1200, HdrLen: 48, CsumStart: 40, CsumOffset: 6}
	got = s.sendFrames(packet.V6, packet.Frame{Data: unfinished(from6(packet.NumUDP, 0, 3000)), Offload: off})
	if len(got) != 5 { // two datagrams in two fragments each, and one of 600 bytes that needs no fragmentation
		t.Fatalf("UDP: %d packets came out", len(got))
	}
	for i, size := range []int{996, 252, 996, 252, 628} {
		if len(got[i].ip) != size {
			t.Errorf("UDP: piece %d has %d bytes, want %d", i, len(got[i].ip), size)
		}
	}
}

// Datagrams that may be fragmented are, whether or not they were coalesced before (RFC 7915 section 4).
func TestCoalescedDatagramsAreFragmented(t *testing.T) {
	s := newSetting(t, ordinary())
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 10)))
	off := packet.Offload{Checksum: packet.ChecksumPartial, GSO: packet.GSOUDPL4, GSOSize: 1400, HdrLen: 28, CsumStart: 20, CsumOffset: 6}
	var one []int
	for _, p := range s.send(packet.V4, from4(packet.NumUDP, 0, 1400, port, false)) {
		one = append(one, len(p.ip))
	}
	if len(one) != 2 {
		t.Fatalf("one datagram came out in pieces of %d bytes, want two", one)
	}
	got := s.sendFrames(packet.V4, packet.Frame{Data: unfinished(from4(packet.NumUDP, 0, 3*1400, port, false)), Offload: off})
	ids := map[uint32]int{}
	for i, p := range got {
		if len(p.ip) != one[i%2] {
			t.Errorf("piece %d has %d bytes, want %d", i, len(p.ip), one[i%2])
		}
		ids[binary.BigEndian.Uint32(p.ip[packet.IPv6Len+4:])]++
	}
	if len(got) != 6 || len(ids) != 3 {
		t.Errorf("%d pieces of %d datagrams came out, want 6 of 3", len(got), len(ids))
	}
	// The last datagram is shorter and fits without fragmentation; outputs checks its length.
	got = s.sendFrames(packet.V4, packet.Frame{Data: unfinished(from4(packet.NumUDP, 0, 2*1400+100, port, false)), Offload: off})
	if len(got) != 5 || len(got[4].ip) != packet.IPv6Len+packet.UDPLen+100 {
		t.Errorf("%d pieces came out, want 5, the last one a datagram of 100 bytes: %+v", len(got), got)
	}
	got = s.sendFrames(packet.V4, packet.Frame{Data: unfinished(from4(packet.NumUDP, 0, 3*1400, port, true)), Offload: off})
	if len(got) != 1 || got[0].offload.GSO != packet.GSOUDPL4 {
		t.Errorf("%d packets came out, want the super-packet as it is: none of it may be fragmented", len(got))
	}
}

func TestRSTOutsideWindowKeepsState(t *testing.T) {
	for _, check := range []bool{false, true} {
		o := ordinary()
		o.conf = func(c *gateway.Config) { c.Session.CheckSequence = check }
		s := newSetting(t, o)
		port := sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
		s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, port, true))
		s.send(packet.V6, from6(packet.NumTCP, packet.FlagACK, 0))
		rst := edited(from4(packet.NumTCP, packet.FlagRST, 0, port, true), func(b []byte) {
			binary.BigEndian.PutUint32(b[packet.IPv4Len+4:], 1<<31)
		})
		if got := s.send(packet.V4, rst); len(got) != 1 {
			t.Fatalf("check %v: the RST is not forwarded", check)
		}
		want := map[bool]string{false: "TRANS", true: "ESTABLISHED"}[check]
		buf := make([]session.Session, 2)
		if n, _ := s.Sessions.List(0, buf, s.Now()); n != 1 || buf[0].State.String() != want {
			t.Errorf("check %v: %d sessions, state %v, want %v", check, n, buf[0].State, want)
		}
	}
}
