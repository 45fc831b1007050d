package packet_test

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// A quote may end anywhere after the ports, or after the Identifier of an echo message, and needs no right length or checksum.
func TestQuotedNeedsHeaderAndPorts(t *testing.T) {
	with := func(b []byte, at int, to ...byte) []byte {
		copy(b[at:], to)
		return b
	}
	var v packet.View
	for name, row := range map[string]struct {
		parse func([]byte) drop.Reason
		in    []byte
		want  drop.Reason
	}{
		"IPv4, whole":                 {v.Quoted4, ip4(17, udp(3)...), drop.None},
		"IPv4, cut after the ports":   {v.Quoted4, ip4(17, udp(3)...)[:24], drop.None},
		"IPv4, cut in the ports":      {v.Quoted4, ip4(17, udp(3)...)[:23], drop.ICMPErrorInner},
		"IPv4, cut in the header":     {v.Quoted4, ip4(17, udp(3)...)[:19], drop.ICMPErrorInner},
		"IPv4, one byte":              {v.Quoted4, ip4(17, udp(3)...)[:1], drop.ICMPErrorInner},
		"IPv4, empty":                 {v.Quoted4, nil, drop.ICMPErrorInner},
		"IPv4, version 5":             {v.Quoted4, with(ip4(17, udp(3)...), 0, 0x55), drop.ICMPErrorInner},
		"IPv4, an IPv6 packet":        {v.Quoted4, ip6(17, udp(3)...), drop.ICMPErrorInner},
		"IPv4, header of 16 bytes":    {v.Quoted4, with(ip4(17, udp(3)...), 0, 0x44), drop.ICMPErrorInner},
		"IPv4, header past the end":   {v.Quoted4, with(ip4(17, udp(3)...), 0, 0x4f), drop.ICMPErrorInner},
		"IPv4, Total Length 0":        {v.Quoted4, with(ip4(17, udp(3)...), 2, 0, 0), drop.None},
		"IPv4, length of the header":  {v.Quoted4, with(ip4(17, udp(3)...), 2, 0, 20), drop.ICMPErrorInner},
		"IPv4, length up to ports":    {v.Quoted4, with(ip4(17, udp(3)...), 2, 0, 24), drop.None},
		"IPv4, TCP ports":             {v.Quoted4, ip4(6, tcp(packet.FlagACK)...)[:24], drop.None},
		"IPv4, TCP, cut in the ports": {v.Quoted4, ip4(6, tcp(packet.FlagACK)...)[:23], drop.ICMPErrorInner},
		"IPv4, echo":                  {v.Quoted4, ip4(1, 8, 0, 0, 0, 0x11, 0x11, 0, 1), drop.None},
		"IPv4, echo, cut":             {v.Quoted4, ip4(1, 8, 0, 0, 0, 0x11, 0x11, 0, 1)[:27], drop.ICMPErrorInner},
		"IPv4, an error":              {v.Quoted4, ip4(1, 3, 3, 0, 0, 0, 0, 0, 0), drop.ICMPErrorInner},
		"IPv4, GRE":                   {v.Quoted4, ip4(47, 0, 0, 0, 0), drop.ICMPErrorInner},
		"IPv4, later fragment":        {v.Quoted4, with(ip4(17, udp(3)...), 6, 0, 1), drop.ICMPErrorInner},
		"IPv6, whole":                 {v.Quoted6, ip6(17, udp(3)...), drop.None},
		"IPv6, cut after the ports":   {v.Quoted6, ip6(17, udp(3)...)[:44], drop.None},
		"IPv6, cut in the ports":      {v.Quoted6, ip6(17, udp(3)...)[:43], drop.ICMPErrorInner},
		"IPv6, cut in the header":     {v.Quoted6, ip6(17, udp(3)...)[:39], drop.ICMPErrorInner},
		"IPv6, one byte":              {v.Quoted6, ip6(17, udp(3)...)[:1], drop.ICMPErrorInner},
		"IPv6, empty":                 {v.Quoted6, nil, drop.ICMPErrorInner},
		"IPv6, version 4":             {v.Quoted6, with(ip6(17, udp(3)...), 0, 0x40), drop.ICMPErrorInner},
		"IPv6, Payload Length 0":      {v.Quoted6, with(ip6(17, udp(3)...), 4, 0, 0), drop.None},
		"IPv6, length up to ports":    {v.Quoted6, with(ip6(17, udp(3)...), 4, 0, 4), drop.None},
		"IPv6, length in the ports":   {v.Quoted6, with(ip6(17, udp(3)...), 4, 0, 3), drop.ICMPErrorInner},
		"IPv6, echo":                  {v.Quoted6, ip6(58, 128, 0, 0, 0, 0x11, 0x11, 0, 1), drop.None},
		"IPv6, an error":              {v.Quoted6, ip6(58, 1, 0, 0, 0, 0, 0, 0, 0), drop.ICMPErrorInner},
		"IPv6, segments left":         {v.Quoted6, ip6(43, chain([]byte{17, 0, 0, 1, 0, 0, 0, 0}, udp(3))...), drop.ICMPErrorInner},
		"IPv6, no segments left":      {v.Quoted6, ip6(43, chain([]byte{17, 0, 0, 0, 0, 0, 0, 0}, udp(3))...), drop.None},
		"IPv6, extension past end":    {v.Quoted6, ip6(60, chain([]byte{17, 9, 1, 4, 0, 0, 0, 0}, udp(3))...), drop.ICMPErrorInner},
		"IPv6, first fragment":        {v.Quoted6, ip6(44, chain([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(3))...), drop.None},
		"IPv6, later fragment":        {v.Quoted6, ip6(44, chain([]byte{17, 0, 0, 8, 0, 0, 0, 7}, udp(3))...), drop.ICMPErrorInner},
	} {
		if r := row.parse(row.in); r != row.want {
			t.Errorf("%s: %v, want %v", name, r, row.want)
		}
	}
	if r := v.Quoted6(ip6(17, udp(3)...)[:44]); r != drop.None || v.SrcPort != 40001 || v.DstPort != 53 || v.L4Len != 4 {
		t.Errorf("IPv6: %v, ports %d and %d, %d bytes", r, v.SrcPort, v.DstPort, v.L4Len)
	}
}

func TestQuoted4KeepsWhichFragmentItIs(t *testing.T) {
	for _, more := range []bool{false, true} {
		b := ip4(17, udp(3)...)
		b[4], b[5] = 0x12, 0x34
		if more {
			b[6] = 0x20
		}
		var v packet.View
		if r := v.Quoted4(b); r != drop.None || v.Fragmented != more || v.FragID != 0x1234 {
			t.Errorf("%v: fragmented %v, Identification %#x; want %v, 0x1234", r, v.Fragmented, v.FragID, more)
		}
	}
}

func FuzzQuoted(f *testing.F) {
	f.Add(ip6(44, chain([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(3))...))
	f.Add(ip4(6, tcp(packet.FlagSYN)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v packet.View
		for _, parse := range []func([]byte) drop.Reason{v.Quoted4, v.Quoted6} {
			if parse(data) == drop.None && v.L4+v.L4Len > len(v.Data) {
				t.Fatal("the transport header lies beyond the quoted packet")
			}
		}
	})
}
