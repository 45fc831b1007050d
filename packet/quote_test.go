package packet_test

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

func TestQuotedAcceptsPacketTruncatedAfterPorts(t *testing.T) {
	for name, row := range map[string]struct {
		in   []byte
		cut  int
		want drop.Reason
	}{
		"whole":               {ip4(17, udp(3)...), 31, drop.None},
		"cut at the ports":    {ip4(17, udp(3)...), 24, drop.None},
		"cut in the ports":    {ip4(17, udp(3)...), 23, drop.ICMPErrorInner},
		"cut in the header":   {ip4(17, udp(3)...), 19, drop.ICMPErrorInner},
		"tcp":                 {ip4(6, tcp(packet.FlagACK)...), 28, drop.None},
		"echo":                {ip4(1, 8, 0, 0, 0, 0x11, 0x11, 0, 1), 28, drop.None},
		"echo, cut":           {ip4(1, 8, 0, 0, 0, 0x11, 0x11, 0, 1), 27, drop.ICMPErrorInner},
		"an error":            {ip4(1, 3, 3, 0, 0, 0, 0, 0, 0), 28, drop.ICMPErrorInner},
		"another transport":   {ip4(47, 0, 0, 0, 0), 24, drop.ICMPErrorInner},
		"of the other family": {ip6(17, udp(3)...), 48, drop.ICMPErrorInner},
	} {
		var v packet.View
		if r := v.Quoted4(row.in[:row.cut]); r != row.want {
			t.Errorf("%s: %v, want %v", name, r, row.want)
		}
	}
	var v packet.View
	if r := v.Quoted6(ip6(17, udp(3)...)[:44]); r != drop.None || v.SrcPort != 40001 || v.DstPort != 53 || v.L4Len != 4 {
		t.Errorf("IPv6: %v, ports %d and %d, %d bytes", r, v.SrcPort, v.DstPort, v.L4Len)
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
