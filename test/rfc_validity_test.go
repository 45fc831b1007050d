package test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// of6 and of4 return packets between client and server of an ordinary setting, of4 to a mapped port of the client.
func of6(number uint8, message []byte) []byte { return ip6(clientAddr, serverAs6, number, message) }

func of4(number uint8, message []byte) []byte { return ip4(serverAddr, poolAddr, number, message) }

// invalid are packets that are dropped without an error, by requirement.
var invalid = map[string]struct{ six, four []refusal }{
	"N64-3.4-12": {
		six: []refusal{
			{"version 4", raw(of6(packet.NumUDP, udp(40000, 443, 4)), func(b []byte) { b[0] = 0x40 }), drop.Header6, drop.Answer{}},
			{"39 bytes", of6(packet.NumUDP, udp(40000, 443, 4))[:39], drop.Header6, drop.Answer{}},
			{"payload longer than the packet", raw(of6(packet.NumUDP, udp(40000, 443, 4)), func(b []byte) { b[5]++ }), drop.Truncated, drop.Answer{}},
		},
		four: []refusal{
			{"version 6", raw(of4(packet.NumUDP, udp(443, 5000, 4)), func(b []byte) { b[0] = 0x65 }), drop.Header4, drop.Answer{}},
			{"header of 16 bytes", raw(of4(packet.NumUDP, udp(443, 5000, 4)), func(b []byte) { b[0] = 0x44 }), drop.Header4, drop.Answer{}},
			{"total below the header", raw(of4(packet.NumUDP, udp(443, 5000, 4)), func(b []byte) { b[3] = 19 }), drop.Header4, drop.Answer{}},
			{"total longer than the packet", raw(of4(packet.NumUDP, udp(443, 5000, 4)), func(b []byte) { b[3]++ }), drop.Truncated, drop.Answer{}},
			{"header checksum", raw(of4(packet.NumUDP, udp(443, 5000, 4)), func(b []byte) { b[11]++ }), drop.HeaderChecksum4, drop.Answer{}},
		},
	},
	"N64-3.4-13": {
		six:  malformed(of6, packet.IPv6Len, 40000, 443),
		four: malformed(of4, packet.IPv4Len, 443, 5000),
	},
	"N64-3.5-05": { // and X79-5.1-09
		six: sources6("::", "::1", "fe80::1", "ff02::1", "ff0e::1"),
	},
	"X79-5.1-13": {
		six: []refusal{
			{"17 headers", chain(17, 8), drop.ExtensionHeaders, drop.Answer{}},
			{"more than 512 bytes", chain(6, 104), drop.ExtensionHeaders, drop.Answer{}},
			{"a header that ends behind the packet", extended(of6(packet.NumUDP, udp(40000, 443, 4)), packet.NumDestOpts, []byte{0, 200, 7: 0}...), drop.ExtensionHeaders, drop.Answer{}},
		},
	},
	"X79-4.2-03": {
		four: []refusal{{"IGMP", of4(2, []byte{0x16, 0, 0, 0, 233, 252, 0, 1}), drop.UnknownTransport, drop.Answer{}}},
	},
}

// raw returns a packet after a change, without corrected checksums.
func raw(b []byte, change func(b []byte)) []byte {
	b = slices.Clone(b)
	change(b)
	return b
}

// malformed returns malformed segments and datagrams in packets whose IP header takes at bytes.
func malformed(in func(uint8, []byte) []byte, at int, src, dst uint16) []refusal {
	var rows []refusal
	header := func(name string, offset byte) {
		b := edited(in(packet.NumTCP, tcp(src, dst, packet.FlagSYN)), func(b []byte) { b[at+12] = offset << 4 })
		rows = append(rows, refusal{name, b, drop.TCPHeader, drop.Answer{}})
	}
	header("data offset 4", 4)
	header("data offset beyond the segment", 6)
	for name, flags := range map[string]byte{
		"no flags": 0, "SYN and FIN": packet.FlagSYN | packet.FlagFIN, "SYN and RST": packet.FlagSYN | packet.FlagRST,
	} {
		rows = append(rows, refusal{name, in(packet.NumTCP, tcp(src, dst, flags)), drop.TCPHeader, drop.Answer{}})
	}
	short := shortened(in(packet.NumTCP, tcp(src, dst, packet.FlagSYN))[:at+19])
	rows = append(rows, refusal{"a TCP header of 19 bytes", short, drop.TCPHeader, drop.Answer{}})
	for name, n := range map[string]uint16{"UDP length 7": 7, "UDP length beyond the datagram": 13} {
		b := edited(in(packet.NumUDP, udp(src, dst, 4)), func(b []byte) { binary.BigEndian.PutUint16(b[at+4:], n) })
		rows = append(rows, refusal{name, b, drop.UDPHeader, drop.Answer{}})
	}
	return rows
}

// shortened sets the length in the IP header to that of the truncated packet.
func shortened(b []byte) []byte {
	b = slices.Clone(b)
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
		return b
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return seal(b)
}

func sources6(addrs ...string) (rows []refusal) {
	for _, a := range addrs {
		b := hops(ip6(netip.MustParseAddr(a), serverAs6, packet.NumUDP, udp(40000, 443, 4)), 1)
		rows = append(rows, refusal{a, b, drop.Source6, drop.Answer{}})
	}
	return rows
}

// chain returns a packet with n Destination Options headers of size bytes.
func chain(n, size int) []byte {
	b := of6(packet.NumUDP, udp(40000, 443, 4))
	for range n {
		h := make([]byte, size)
		h[1], h[2], h[3] = byte(size/8-1), 1, byte(size-4) // one PadN option
		b = extended(b, packet.NumDestOpts, h...)
	}
	return b
}

func TestInvalidPackets(t *testing.T) {
	t.Parallel()
	for id, c := range invalid {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			s := newSetting(t, ordinary())
			for _, p := range protos {
				s.bind(t, p, netip.AddrPortFrom(clientAddr, 1000), netip.AddrPortFrom(poolAddr, 5000))
			}
			checkRefusals(t, s, packet.V6, c.six)
			checkRefusals(t, s, packet.V4, c.four)
			if n := len(s.bindings()); n != len(protos) {
				t.Errorf("there are %d bindings, want those of before", n)
			}
		})
	}
	t.Run("16 headers pass", func(t *testing.T) {
		t.Parallel()
		s := newSetting(t, ordinary())
		only(t, s.send(packet.V6, chain(15, 8)), packet.V4)
		only(t, s.send(packet.V6, chain(4, 104)), packet.V4)
	})
}
