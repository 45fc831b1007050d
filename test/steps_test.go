package test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/ops/trace"
	"nat64d/packet"
)

// The steps of a trace, for packets of each kind.
func TestStepsOfPackets(t *testing.T) {
	options := ordinary()
	options.ports = "7000"
	options.routes.ways = map[netip.Addr]drop.Reason{secondServer: drop.NoRoute}
	options.conf = func(c *gateway.Config) { c.Answers[drop.IfUnbound] = true }
	o := observe(t, newSetting(t, options))
	syn := from6(packet.NumTCP, packet.FlagSYN, 0)
	unreachable := complaint(3, 1, 0, ip4(poolAddr, serverAddr, packet.NumTCP, tcp(7000, 443, packet.FlagSYN)))
	fragment := fragment6(ip6(clientAddr, serverAs6, packet.NumUDP, udp(1, 2, 100)), 7, 0, 64)
	other := edited(syn, func(b []byte) { b[23] = 0x11 })
	for _, c := range []struct {
		name string
		side packet.Family
		b    []byte
		want string
	}{
		{"new connection", packet.V6, syn, `
received tcp [2001:db8:1::10]:40000 → [2001:db8:64::c633:6414]:443, SYN, 60 bytes, hop limit 64 [RFC 8200 section 3]
prefix 198.51.100.20 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
binding made: 203.0.113.1:7000 now stands for [2001:db8:1::10]:40000 [RFC 6146 section 3.5.2]
session made: tcp with 198.51.100.20:443, state V6_INIT [RFC 6146 section 3.5.2.2]
next_hop link address 02:00:00:00:00:09, MTU 1500
translated tcp 203.0.113.1:7000 → 198.51.100.20:443, SYN, 40 bytes, TTL 63 [RFC 7915 section 5]
size 40 bytes fit into 1500 [RFC 7915 section 5.1]
end forwarded: 203.0.113.1:7000 → 198.51.100.20:443, next hop 02:00:00:00:00:09, MTU 1500
`},
		{"its answer", packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, 7000, true), `
received tcp 198.51.100.20:443 → 203.0.113.1:7000, SYN,ACK, 40 bytes, TTL 64 [RFC 791 section 3.1]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
binding found: 203.0.113.1:7000 stands for [2001:db8:1::10]:40000 [RFC 6146 section 3.5.2]
session found: V6_INIT becomes ESTABLISHED [RFC 6146 section 3.5.2.2]
next_hop link address 02:00:00:00:00:09, MTU 1500
translated tcp [2001:db8:64::c633:6414]:443 → [2001:db8:1::10]:40000, SYN,ACK, 60 bytes, hop limit 63 [RFC 7915 section 4]
size 60 bytes fit into 1500 [RFC 7915 section 4]
end forwarded: [2001:db8:64::c633:6414]:443 → [2001:db8:1::10]:40000, next hop 02:00:00:00:00:09, MTU 1500
`},
		{"full pool", packet.V6, other, `
received tcp [2001:db8:1::11]:40000 → [2001:db8:64::c633:6414]:443, SYN, 60 bytes, hop limit 64 [RFC 8200 section 3]
prefix 198.51.100.20 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
answer icmp 2001:db8:1::1 → 2001:db8:1::11, ICMPv6 Destination Unreachable (type 1, code 3), 108 bytes, hop limit 64 [RFC 4443 section 2.4]
end dropped: pool_exhausted: no free port is left in pool4; add ports or addresses, or set sessions.reclaim to when_full
`},
		{"unreachable peer", packet.V4, ip4(routerOn4, poolAddr, packet.NumICMP, unreachable), `
received icmp 192.0.2.254 → 203.0.113.1, ICMP Destination Unreachable (type 3, code 1), 68 bytes, TTL 64 [RFC 791 section 3.1]
quoted an error about tcp of client [2001:db8:1::10]:40000 with 198.51.100.20:443 [RFC 5508 section 4]
binding found: 203.0.113.1:7000 stands for [2001:db8:1::10]:40000 [RFC 6146 section 3.5]
next_hop link address 02:00:00:00:00:09, MTU 1500
translated icmp 2001:db8:64::c000:2fe → 2001:db8:1::10, ICMPv6 Destination Unreachable (type 1, code 0), 108 bytes, hop limit 63 [RFC 7915 section 4]
size 108 bytes fit into 1500 [RFC 7915 section 4]
end forwarded: 2001:db8:64::c000:2fe → 2001:db8:1::10, next hop 02:00:00:00:00:09, MTU 1500
`},
		{"no route", packet.V6, edited(syn, func(b []byte) { b[39] = 21 }), `
received tcp [2001:db8:1::10]:40000 → [2001:db8:64::c633:6415]:443, SYN, 60 bytes, hop limit 64 [RFC 8200 section 3]
prefix 198.51.100.21 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
binding found: 203.0.113.1:7000 stands for [2001:db8:1::10]:40000 [RFC 6146 section 3.5.2]
session made: tcp with 198.51.100.21:443, state V6_INIT [RFC 6146 section 3.5.2.2]
answer icmp 2001:db8:1::1 → 2001:db8:1::10, ICMPv6 Destination Unreachable (type 1, code 0), 108 bytes, hop limit 64 [RFC 4443 section 2.4]
end dropped: no_route: the kernel has no route to the destination
`},
		{"unknown mapping", packet.V4, from4(packet.NumUDP, 0, 8, 7000, false), `
received udp 198.51.100.20:443 → 203.0.113.1:7000, 36 bytes, TTL 64 [RFC 791 section 3.1]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
answer icmp 192.0.2.1 → 198.51.100.20, ICMP Destination Unreachable (type 3, code 3), 64 bytes, TTL 64 [RFC 1812 section 4.3.2.7]
end dropped: no_binding: an IPv4 packet to a pool4 port without a binding (RFC 6146 section 3.5)
`},
		{"no route for a new binding", packet.V6, edited(from6(packet.NumUDP, 0, 8), func(b []byte) { b[39] = 21 }), `
received udp [2001:db8:1::10]:40000 → [2001:db8:64::c633:6415]:443, 56 bytes, hop limit 64 [RFC 8200 section 3]
prefix 198.51.100.21 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
binding made: 203.0.113.1:7000 now stands for [2001:db8:1::10]:40000 [RFC 6146 section 3.5.1]
session made: udp with 198.51.100.21:443 [RFC 6146 section 3.5.1]
answer icmp 2001:db8:1::1 → 2001:db8:1::10, ICMPv6 Destination Unreachable (type 1, code 0), 104 bytes, hop limit 64 [RFC 4443 section 2.4]
end dropped: no_route: the kernel has no route to the destination
`},
		{"segment without a session", packet.V6, edited(other, func(b []byte) { b[packet.IPv6Len+13] = packet.FlagACK }), `
received tcp [2001:db8:1::11]:40000 → [2001:db8:64::c633:6414]:443, ACK, 60 bytes, hop limit 64 [RFC 8200 section 3]
prefix 198.51.100.20 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
end dropped: no_session: a TCP segment without SYN from an IPv6 client that has no binding (RFC 6146 section 3.5.2.2)
`},
		{"too large", packet.V6, edited(from6(packet.NumTCP, packet.FlagACK, 1470), func([]byte) {}), `
received tcp [2001:db8:1::10]:40000 → [2001:db8:64::c633:6414]:443, ACK, 1530 bytes, hop limit 64 [RFC 8200 section 3]
prefix 198.51.100.20 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
checks source, access lists, options and hop limit allow it [RFC 6146 section 5.4]
binding found: 203.0.113.1:7000 stands for [2001:db8:1::10]:40000 [RFC 6146 section 3.5.2]
session found, state ESTABLISHED [RFC 6146 section 3.5.2.2]
next_hop link address 02:00:00:00:00:09, MTU 1500
answer icmp 2001:db8:1::1 → 2001:db8:1::10, ICMPv6 Packet Too Big (type 2, code 0), 1280 bytes, hop limit 64, which reports the MTU 1520 [RFC 4443 section 2.4]
end dropped: too_big: larger than the MTU of the outgoing link; nat64d sent the MTU to the sender
`},
		{"hop limit of an error", packet.V4, hops(ip4(routerOn4, poolAddr, packet.NumICMP, unreachable), 1), `
received icmp 192.0.2.254 → 203.0.113.1, ICMP Destination Unreachable (type 3, code 1), 68 bytes, TTL 1 [RFC 791 section 3.1]
answer no ICMP error: none may be sent about such a packet [RFC 1812 section 4.3.2.7]
end dropped: hop_limit: hop limit or TTL exceeded; nat64d sent a Time Exceeded (traceroute relies on it)
`},
		{"fragment", packet.V6, fragment, `
received udp [2001:db8:1::10]:1 → [2001:db8:64::c633:6414]:2, 112 bytes, hop limit 64, a fragment [RFC 8200 section 3]
prefix 198.51.100.20 behind 2001:db8:64::/96 [RFC 6052 section 2.2]
end waits for the other fragments of its datagram
`},
		{"another destination", packet.V6, edited(syn, func(b []byte) { binary.BigEndian.PutUint16(b[28:], 0x65) }), `
received tcp [2001:db8:1::10]:40000 → [2001:db8:65::c633:6414]:443, SYN, 60 bytes, hop limit 64 [RFC 8200 section 3]
end left to the host: not_pool6: an IPv6 packet whose destination is in no NAT64 prefix: left to the host
`},
	} {
		o.send(c.side, c.b)
		if got := steps(&o.records(t, 1)[0].Verdict); got != c.want[1:] {
			t.Errorf("%s:\n%swant\n%s", c.name, got, c.want[1:])
		}
	}
}

// steps returns the steps of a verdict, a line each.
func steps(v *gateway.Verdict) string {
	var b strings.Builder
	for _, s := range trace.Steps(v) {
		b.WriteString(s.Name + " " + s.Text)
		if s.RFC != "" {
			b.WriteString(" [" + s.RFC + "]")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
