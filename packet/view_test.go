package packet_test

import (
	"net/netip"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

var client, server = netip.MustParseAddr("2001:db8::8").As16(), netip.MustParseAddr("2001:db8:64::c633:6414").As16()

// ip6 returns an IPv6 packet with that next header and payload.
func ip6(next uint8, payload ...byte) []byte {
	b := make([]byte, packet.IPv6Len, packet.IPv6Len+len(payload))
	packet.IPv6(b).Put(0, len(payload), next, 64, &client, &server)
	return append(b, payload...)
}

// ip4 returns an IPv4 packet with that protocol and payload.
func ip4(proto uint8, payload ...byte) []byte {
	b := make([]byte, packet.IPv4Len, packet.IPv4Len+len(payload))
	src, dst := packet.Addr4{198, 51, 100, 20}, packet.Addr4{203, 0, 113, 1}
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: proto}, packet.IPv4Len+len(payload), &src, &dst)
	return append(b, payload...)
}

func udp(n int) []byte {
	return append([]byte{0x9c, 0x41, 0, 53, 0, byte(n + 8), 1, 2}, make([]byte, n)...)
}

func tcp(flags byte) []byte {
	h := make([]byte, 20)
	h[0], h[1], h[2], h[3], h[12], h[13] = 0x9c, 0x40, 0, 80, 0x50, flags
	return h
}

func parse6(data []byte) (v packet.View, r drop.Reason) {
	if r = v.Parse6(data); r != drop.None {
		return v, r
	}
	if r = v.Extensions6(); r != drop.None {
		return v, r
	}
	return v, v.Transport6()
}

func parse4(data []byte) (v packet.View, r drop.Reason) {
	if r = v.Parse4(data); r != drop.None {
		return v, r
	}
	return v, v.Transport4()
}

func chain(headers ...[]byte) (out []byte) {
	for _, h := range headers {
		out = append(out, h...)
	}
	return out
}

func TestParse6(t *testing.T) {
	many := []byte{}
	for range 17 {
		many = append(many, 60, 0, 0, 0, 0, 0, 0, 0)
	}
	for name, row := range map[string]struct {
		in   []byte
		want drop.Reason
		l4   int
	}{
		"udp":                  {ip6(17, udp(3)...), drop.None, 40},
		"tcp":                  {ip6(6, tcp(packet.FlagSYN)...), drop.None, 40},
		"link padding":         {append(ip6(17, udp(3)...), 1, 2, 3), drop.None, 40},
		"hop-by-hop":           {ip6(0, chain([]byte{17, 0, 1, 4, 0, 0, 0, 0}, udp(3))...), drop.None, 48},
		"atomic fragment":      {ip6(44, chain([]byte{17, 0, 0, 0, 0, 0, 0, 7}, udp(3))...), drop.None, 48},
		"fragment":             {ip6(44, chain([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(3))...), drop.Fragment, 48},
		"options after it":     {ip6(44, chain([]byte{60, 0, 0, 0, 0, 0, 0, 7}, []byte{17, 0, 1, 4, 0, 0, 0, 0}, udp(3))...), drop.ExtensionHeaders, 48},
		"two fragment headers": {ip6(44, chain([]byte{44, 0, 0, 0, 0, 0, 0, 7}, []byte{17, 0, 0, 0, 0, 0, 0, 7}, udp(3))...), drop.ExtensionHeaders, 48},
		"too many headers":     {ip6(60, many...), drop.ExtensionHeaders, 0},
		"header beyond packet": {ip6(0, 17, 9, 1, 4, 0, 0, 0, 0), drop.ExtensionHeaders, 0},
		"esp":                  {ip6(50, 1, 2, 3, 4), drop.UnknownTransport, 40},
		"no next header":       {ip6(59), drop.UnknownTransport, 40},
		"empty":                {nil, drop.Header6, 0},
		"version 4":            {ip4(17, udp(30)...), drop.Header6, 0},
		"truncated":            {ip6(17, udp(3)...)[:50], drop.Truncated, 0},
		"short udp":            {ip6(17, 1, 2, 3), drop.UDPHeader, 40},
		"udp length too large": {ip6(17, 0, 1, 0, 2, 0, 99, 0, 0), drop.UDPHeader, 40},
		"udp length too small": {ip6(17, 0, 1, 0, 2, 0, 7, 0, 0), drop.UDPHeader, 40},
		"short tcp":            {ip6(6, tcp(packet.FlagSYN)[:19]...), drop.TCPHeader, 40},
		"tcp without flags":    {ip6(6, tcp(0)...), drop.TCPHeader, 40},
		"syn and fin":          {ip6(6, tcp(packet.FlagSYN|packet.FlagFIN)...), drop.TCPHeader, 40},
		"syn and rst":          {ip6(6, tcp(packet.FlagSYN|packet.FlagRST)...), drop.TCPHeader, 40},
		"echo":                 {ip6(58, 128, 0, 0, 0, 0x11, 0x11, 0, 1), drop.None, 40},
		"echo with a code":     {ip6(58, 128, 1, 0, 0, 0x11, 0x11, 0, 1), drop.ICMPType, 40},
		"neighbour discovery":  {ip6(58, 135, 0, 0, 0, 0, 0, 0, 0), drop.ICMPType, 40},
		"short icmp":           {ip6(58, 128, 0, 0, 0), drop.ICMPHeader, 40},
	} {
		v, r := parse6(row.in)
		if r != row.want {
			t.Errorf("%s: %v, want %v", name, r, row.want)
		}
		if r == drop.None && v.L4 != row.l4 {
			t.Errorf("%s: transport header at %d, want %d", name, v.L4, row.l4)
		}
	}
	v, _ := parse6(ip6(43, chain([]byte{17, 0, 0, 2, 0, 0, 0, 0}, udp(3))...))
	if v.Routing != 43 {
		t.Errorf("Segments Left found at %d, want 43", v.Routing)
	}
}

func TestParse4(t *testing.T) {
	badSum := ip4(17, udp(3)...)
	badSum[10]++
	fragment := ip4(17, udp(3)...)
	fragment[6], fragment[10], fragment[11] = 0x20, 0, 0
	sum := packet.Sum(0).Bytes(fragment[:packet.IPv4Len]).Checksum()
	fragment[10], fragment[11] = byte(sum>>8), byte(sum)
	for name, row := range map[string]struct {
		in   []byte
		want drop.Reason
	}{
		"udp":       {ip4(17, udp(3)...), drop.None},
		"tcp":       {ip4(6, tcp(packet.FlagACK)...), drop.None},
		"padding":   {append(ip4(17, udp(3)...), 0, 0), drop.None},
		"fragment":  {fragment, drop.Fragment},
		"checksum":  {badSum, drop.HeaderChecksum4},
		"truncated": {ip4(17, udp(3)...)[:25], drop.Truncated},
		"gre":       {ip4(47, 0, 0, 0, 0), drop.UnknownTransport},
		"timestamp": {ip4(1, 13, 0, 0, 0, 0, 0, 0, 0), drop.ICMPType},
		"empty":     {nil, drop.Header4},
		"version 6": {ip6(17, udp(3)...), drop.Header4},
	} {
		if _, r := parse4(row.in); r != row.want {
			t.Errorf("%s: %v, want %v", name, r, row.want)
		}
	}
}

func TestTCPEventPrecedence(t *testing.T) {
	for flags, want := range map[byte]packet.TCPEvent{
		packet.FlagSYN: packet.SYN, packet.FlagSYN | packet.FlagACK: packet.SYN, packet.FlagACK: packet.Other,
		packet.FlagFIN | packet.FlagACK: packet.FIN, packet.FlagRST | packet.FlagACK: packet.RST, packet.FlagRST | packet.FlagFIN: packet.RST,
	} {
		v, r := parse6(ip6(6, tcp(flags)...))
		if r != drop.None || v.Event != want {
			t.Errorf("flags %#x: event %v, %v; want %v", flags, v.Event, r, want)
		}
	}
}

func TestIdentifierIsQueriersPort(t *testing.T) {
	if v, _ := parse6(ip6(58, 128, 0, 0, 0, 0x11, 0x22, 0, 1)); v.SrcPort != 0x1122 || v.DstPort != 0 {
		t.Errorf("from IPv6: ports %#x and %#x", v.SrcPort, v.DstPort)
	}
	if v, _ := parse4(ip4(1, 0, 0, 0, 0, 0x11, 0x22, 0, 1)); v.DstPort != 0x1122 || v.SrcPort != 0 {
		t.Errorf("from IPv4: ports %#x and %#x", v.SrcPort, v.DstPort)
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	six, four := ip6(0, chain([]byte{17, 0, 1, 4, 0, 0, 0, 0}, udp(3))...), ip4(6, tcp(packet.FlagACK)...)
	if n := testing.AllocsPerRun(100, func() { _, _ = parse6(six); _, _ = parse4(four); packet.Peek6(six); packet.Peek4(four) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ip6(17, udp(3)...))
	f.Add(ip6(44, chain([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(3))...))
	f.Add(ip4(6, tcp(packet.FlagSYN)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		packet.Peek6(data)
		packet.Peek4(data)
		v, r := parse6(data)
		if r == drop.None && v.L4+v.L4Len > len(v.Data) {
			t.Fatal("the transport header lies beyond the IPv6 packet")
		}
		v, r = parse4(data)
		_ = r != drop.Header4 && r != drop.Truncated && r != drop.HeaderChecksum4 && v.SourceRouted()
		if r == drop.None && v.L4+v.L4Len > len(v.Data) {
			t.Fatal("the transport header lies beyond the IPv4 packet")
		}
	})
}

// Peek6 and Peek4 return the ports that Parse finds in an unfragmented packet without extension headers.
func TestPeekAgreesWithParse(t *testing.T) {
	t.Parallel()
	for _, in := range [][]byte{ip6(17, udp(3)...), ip6(6, tcp(packet.FlagSYN)...), ip6(58, 128, 0, 0, 0, 0x11, 0x12, 0, 1)} {
		v, _ := parse6(in)
		if p, ok := packet.Peek6(in); !ok || p.Proto != v.Proto || p.Src != v.SrcPort || v.Proto != packet.ICMP && p.Dst != v.DstPort {
			t.Errorf("%v: peeking finds %+v, %v", v.Proto, p, ok)
		}
	}
	for _, in := range [][]byte{ip4(17, udp(3)...), ip4(6, tcp(packet.FlagSYN)...), ip4(1, 0, 0, 0, 0, 0x11, 0x12, 0, 1)} {
		v, _ := parse4(in)
		if p, ok := packet.Peek4(in); !ok || p.Proto != v.Proto || p.Dst != v.DstPort || v.Proto != packet.ICMP && p.Src != v.SrcPort {
			t.Errorf("%v: peeking finds %+v, %v", v.Proto, p, ok)
		}
	}
	later := ip4(17, udp(3)...)
	later[7] = 1
	for name, in := range map[string][]byte{"empty": nil, "a later fragment": later, "short": ip4(17, 1, 2, 3), "gre": ip4(47, udp(3)...)} {
		if p, ok := packet.Peek4(in); ok {
			t.Errorf("%s: peeking finds %+v", name, p)
		}
	}
	if p, ok := packet.Peek6(ip6(44, chain([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(3))...)); ok {
		t.Errorf("a fragment: peeking finds %+v", p)
	}
}

func BenchmarkParse6TCP(b *testing.B) {
	data := ip6(6, tcp(packet.FlagACK)...)
	for b.Loop() {
		_, _ = parse6(data)
	}
}

func BenchmarkPeek(b *testing.B) {
	six, four := ip6(6, tcp(packet.FlagACK)...), ip4(6, tcp(packet.FlagACK)...)
	for b.Loop() {
		_, _ = packet.Peek6(six)
		_, _ = packet.Peek4(four)
	}
}

func BenchmarkParse4TCP(b *testing.B) {
	data := ip4(6, tcp(packet.FlagACK)...)
	for b.Loop() {
		_, _ = parse4(data)
	}
}
