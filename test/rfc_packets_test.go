package test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/test/dissect"
)

// rules runs the tests of requirements, named by their IDs, in parallel.
func rules(t *testing.T, tests map[string]func(*testing.T)) {
	t.Helper()
	t.Parallel()
	for id, test := range tests {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// Further transport addresses of an ordinary setting, see pipeline_test.go.
var (
	secondClient = netip.MustParseAddr("2001:db8:1::20")
	secondServer = netip.MustParseAddr("198.51.100.21")
	thirdServer  = netip.MustParseAddr("198.51.100.22")
	routerOn6    = netip.MustParseAddr("2001:db8:1::ff")
	routerOn4    = netip.MustParseAddr("192.0.2.254")
)

// behind64 returns the IPv6 address of an IPv4 host in an ordinary setting.
func behind64(a netip.Addr) netip.Addr {
	b, v4 := serverAs6.As16(), a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// ip6 and ip4 return a packet that carries a message, with correct checksums. DF is not set.
func ip6(src, dst netip.Addr, number uint8, message []byte) []byte {
	b := make([]byte, packet.IPv6Len)
	s, d := src.As16(), dst.As16()
	packet.IPv6(b).Put(0, len(message), number, 64, &s, &d)
	return seal(append(b, message...))
}

func ip4(src, dst netip.Addr, number uint8, message []byte) []byte {
	b := make([]byte, packet.IPv4Len)
	s, d := src.As4(), dst.As4()
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: number}, packet.IPv4Len+len(message), &s, &d)
	return seal(append(b, message...))
}

// seal corrects the checksums of a packet without extension headers. It does not change those of fragments.
func seal(b []byte) []byte {
	pseudo, number, at := packet.Sum(0), uint8(0), packet.IPv6Len
	if b[0]>>4 == 6 {
		h := packet.IPv6(b)
		number = h.NextHeader()
		pseudo = pseudo.Addr6(h.Src()).Addr6(h.Dst()).Pseudo(len(b)-at, number)
	} else {
		h := packet.IPv4(b)
		number, at = h.Protocol(), h.HeaderLen()
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], packet.Sum(0).Bytes(b[:at]).Checksum())
		if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return b
		}
		if number != packet.NumICMP {
			pseudo = pseudo.Addr4(h.Src()).Addr4(h.Dst()).Pseudo(len(b)-at, number)
		}
	}
	fields := map[uint8]int{packet.NumTCP: packet.TCPChecksum, packet.NumUDP: packet.UDPChecksum, packet.NumICMP: packet.ICMPChecksum, packet.NumICMPv6: packet.ICMPChecksum}
	if field, ok := fields[number]; ok {
		c := b[at+field:]
		c[0], c[1] = 0, 0
		binary.BigEndian.PutUint16(c, pseudo.Bytes(b[at:]).Checksum())
	}
	return b
}

// unfinished leaves the checksum of a TCP or UDP packet without extension headers to the NIC: the field holds the sum of the
// pseudo-header alone.
func unfinished(b []byte) []byte {
	b = slices.Clone(b)
	sum, number, at := packet.Sum(0), b[6], packet.IPv6Len
	if b[0]>>4 == 6 {
		sum = sum.Addr6(packet.IPv6(b).Src()).Addr6(packet.IPv6(b).Dst())
	} else {
		number, at = b[9], packet.IPv4Len
		sum = sum.Addr4(packet.IPv4(b).Src()).Addr4(packet.IPv4(b).Dst())
	}
	field := at + packet.UDPChecksum
	if number == packet.NumTCP {
		field = at + packet.TCPChecksum
	}
	binary.BigEndian.PutUint16(b[field:], sum.Pseudo(len(b)-at, number).Fold())
	return b
}

// edited returns a packet after a change, with its checksums right again.
func edited(b []byte, change func(b []byte)) []byte {
	b = slices.Clone(b)
	change(b)
	return seal(b)
}

// hops sets the Hop Limit or TTL of a packet.
func hops(b []byte, n byte) []byte {
	at := 8
	if b[0]>>4 == 6 {
		at = 7
	}
	return edited(b, func(b []byte) { b[at] = n })
}

// extended returns an IPv6 packet with an additional extension header after its IPv6 header, whose first byte it
// sets.
func extended(b []byte, number uint8, header ...byte) []byte {
	h := slices.Clone(header)
	h[0] = b[6]
	out := slices.Concat(b[:packet.IPv6Len], h, b[packet.IPv6Len:])
	out[6] = number
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-packet.IPv6Len))
	return out
}

// fragment6 returns a fragment of an IPv6 packet: the given range of bytes of its payload.
func fragment6(b []byte, id uint32, from, to int) []byte {
	more := uint16(0)
	if to < len(b)-packet.IPv6Len {
		more = 1
	}
	h := []byte{0, 0}
	h = binary.BigEndian.AppendUint16(h, uint16(from)|more)
	h = binary.BigEndian.AppendUint32(h, id)
	return extended(slices.Concat(b[:packet.IPv6Len], b[packet.IPv6Len+from:packet.IPv6Len+to]), packet.NumFragment, h...)
}

// fragment4 returns a fragment of an IPv4 packet without options.
func fragment4(b []byte, id uint16, from, to int) []byte {
	out := slices.Concat(b[:packet.IPv4Len], b[packet.IPv4Len+from:packet.IPv4Len+to])
	word := binary.BigEndian.Uint16(b[6:])&0x4000 | uint16(from/8)
	if to < len(b)-packet.IPv4Len {
		word |= 0x2000
	}
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	binary.BigEndian.PutUint16(out[4:], id)
	binary.BigEndian.PutUint16(out[6:], word)
	out[10], out[11] = 0, 0
	binary.BigEndian.PutUint16(out[10:], packet.Sum(0).Bytes(out[:packet.IPv4Len]).Checksum())
	return out
}

// Messages, whose checksums ip6 and ip4 fill in.

func udp(src, dst uint16, payload int) []byte {
	return transport(packet.NumUDP, 0, src, dst, payload, 0)
}

func tcp(src, dst uint16, flags byte, options ...byte) []byte {
	h := append(transport(packet.NumTCP, flags, src, dst, 0, 0), options...)
	h[12] = byte(len(h)/4) << 4
	return h
}

func echo(kind uint8, id uint16) []byte {
	return append([]byte{kind, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}, "echo"...)
}

// complaint returns an ICMP error about a packet.
func complaint(kind, code uint8, rest uint32, quote []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind, code, 0, 0}, rest), quote...)
}

// decoded is a packet that came out as gopacket sees it.
func decoded(t testing.TB, b []byte) *dissect.Packet {
	t.Helper()
	p, err := dissect.IP(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// addrs returns the transport addresses of a packet, with port 0 for ICMP.
func addrs(t testing.TB, b []byte) (src, dst netip.AddrPort) {
	t.Helper()
	p := decoded(t, b)
	return p.Src, p.Dst
}

// only returns the single packet that was sent, which must have left on the given side.
func only(t testing.TB, got []sent, side packet.Family) []byte {
	t.Helper()
	if len(got) != 1 || got[0].side != side {
		t.Fatalf("%d packets came out, want one on side %v: %+v", len(got), side, got)
	}
	return got[0].ip
}

// nothing expects that no packet was sent.
func nothing(t testing.TB, got []sent) {
	t.Helper()
	for _, g := range got {
		t.Errorf("%x came out on side %v, want nothing", g.ip, g.side)
	}
}

// mapped sends one packet of a client and returns its mapped transport address or Identifier.
func mapped(t testing.TB, s *setting, b []byte) netip.AddrPort {
	t.Helper()
	p := decoded(t, only(t, s.send(packet.V6, b), packet.V4))
	if p.ICMP4 != nil {
		return netip.AddrPortFrom(p.Src.Addr(), p.ICMP4.Id)
	}
	return p.Src
}

// connect opens a TCP connection from the client of from6 and returns its mapped port.
func connect(t testing.TB, s *setting) uint16 {
	t.Helper()
	port := sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
	only(t, s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, port, true)), packet.V6)
	return port
}

func (s *setting) sessions() []session.Session {
	buf := make([]session.Session, 1<<12)
	n, _ := s.Sessions.List(0, buf, s.Now())
	return buf[:n]
}

func (s *setting) bindings() []bib.Binding {
	buf := make([]bib.Binding, 1<<12)
	n, _ := s.Bindings.List(0, buf)
	return buf[:n]
}

// counted expects that exactly one packet has been dropped for a reason since the counter was before.
func (s *setting) counted(t testing.TB, r drop.Reason, before uint64) {
	t.Helper()
	if n := s.Counters.Drops(r) - before; n != 1 {
		t.Errorf("%d drops were counted as %v, want one", n, r)
	}
}
