package test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// refusal is a packet that two checks would refuse, with the reason of the check that comes first and the ICMP error.
type refusal struct {
	name   string
	packet []byte
	reason drop.Reason
	answer drop.Answer // zero: none
}

// checkRefusals sends each packet and expects its error, its count, and no new state.
func checkRefusals(t *testing.T, s *setting, side packet.Family, rows []refusal) {
	t.Helper()
	sessions := len(s.sessions())
	for _, r := range rows {
		before := s.Counters.Drops(r.reason)
		got := s.send(side, r.packet)
		switch {
		case r.answer == drop.Answer{}:
			if len(got) != 0 {
				t.Errorf("%s: %x came out, want nothing", r.name, got[0].ip)
			}
		case len(got) != 1 || got[0].side != side:
			t.Errorf("%s: %d packets came out, want one error", r.name, len(got))
		default:
			at := map[packet.Family]int{packet.V6: packet.IPv6Len, packet.V4: packet.IPv4Len}[side]
			if a := (drop.Answer{Type: got[0].ip[at], Code: got[0].ip[at+1]}); a != r.answer {
				t.Errorf("%s: error %v, want %v", r.name, a, r.answer)
			}
		}
		if n := s.Counters.Drops(r.reason) - before; n != 1 {
			t.Errorf("%s: %d drops were counted as %v, want one", r.name, n, r.reason)
		}
	}
	if n := len(s.sessions()); n != sessions {
		t.Errorf("%d sessions were made", n-sessions)
	}
}

func TestOrderOfChecks(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.3-02": orderFromIPv6,
		"N64-3.3-03": orderFromIPv4,
		"N64-3.3-04": flowsKeepTheirOrder,
	})
}

func orderFromIPv6(t *testing.T) {
	s := newSetting(t, ordinary())
	syn := tcp(40000, 443, packet.FlagSYN)
	routed := []byte{0, 2, 0, 1, 23: 0}
	checkRefusals(t, s, packet.V6, []refusal{
		{"length before all", hops(ip6(clientAddr, serverAs6, packet.NumTCP, syn), 1)[:50], drop.Truncated, drop.Answer{}},
		{"source in the prefix before hop limit", hops(ip6(behind64(secondServer), serverAs6, packet.NumTCP, syn), 1), drop.SourceInPool6, drop.Answer{}},
		{"destination before hop limit", hops(ip6(clientAddr, secondClient, packet.NumTCP, syn), 1), drop.NotPool6, drop.Answer{}},
		{"hop limit before routing header", extended(hops(ip6(clientAddr, serverAs6, packet.NumTCP, syn), 1), packet.NumRouting, routed...), drop.HopLimit, drop.Answer{Type: 3}},
		{"routing header before IPv4 address", extended(ip6(clientAddr, behind64(netip.MustParseAddr("127.0.0.1")), packet.NumTCP, syn), packet.NumRouting, routed...), drop.RoutingHeader, drop.Answer{Type: 4}},
		{"IPv4 address before transport", ip6(clientAddr, behind64(netip.MustParseAddr("127.0.0.1")), 132, make([]byte, 12)), drop.Destination4, drop.Answer{}},
		{"transport before state", ip6(clientAddr, serverAs6, packet.NumTCP, tcp(40000, 443, packet.FlagSYN|packet.FlagFIN)), drop.TCPHeader, drop.Answer{}},
		{"hop limit before state", hops(ip6(clientAddr, serverAs6, packet.NumTCP, syn), 1), drop.HopLimit, drop.Answer{Type: 3}},
	})
	if n := len(s.bindings()); n != 0 {
		t.Errorf("%d bindings were made", n)
	}
}

func orderFromIPv4(t *testing.T) {
	s := newSetting(t, ordinary())
	s.bind(t, packet.TCP, netip.AddrPortFrom(clientAddr, 80), netip.AddrPortFrom(poolAddr, 8080))
	syn := tcp(443, 8080, packet.FlagSYN)
	lsrr := []byte{131, 7, 4, 192, 0, 2, 1, 0}
	checkRefusals(t, s, packet.V4, []refusal{
		{"header checksum before TTL", func() []byte {
			b := hops(ip4(serverAddr, poolAddr, packet.NumTCP, syn), 1)
			b[10] ^= 1
			return b
		}(), drop.HeaderChecksum4, drop.Answer{}},
		{"source before TTL", hops(ip4(netip.MustParseAddr("127.0.0.1"), poolAddr, packet.NumTCP, syn), 1), drop.Source4, drop.Answer{}},
		{"destination before TTL", hops(ip4(serverAddr, secondServer, packet.NumTCP, syn), 1), drop.NotPool4, drop.Answer{}},
		{"source route before TTL", hops(withOptions(ip4(serverAddr, poolAddr, packet.NumTCP, syn), lsrr), 1), drop.SourceRoute, drop.Answer{Type: 3, Code: 5}},
		{"TTL before transport", hops(ip4(serverAddr, poolAddr, packet.NumTCP, tcp(443, 8080, 0)), 1), drop.HopLimit, drop.Answer{Type: 11}},
		{"transport before state", ip4(serverAddr, poolAddr, packet.NumTCP, tcp(443, 8080, 0)), drop.TCPHeader, drop.Answer{}},
		{"TTL before state", hops(ip4(serverAddr, poolAddr, packet.NumTCP, syn), 1), drop.HopLimit, drop.Answer{Type: 11}},
	})
}

func flowsKeepTheirOrder(t *testing.T) {
	s := newSetting(t, ordinary())
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
	checkOrder(t, s, packet.V6, from6(packet.NumUDP, 0, 4))
	checkOrder(t, s, packet.V4, from4(packet.NumUDP, 0, 4, port, false))
}

// withOptions returns an IPv4 packet with options behind its header.
func withOptions(b, options []byte) []byte {
	out := append(append(append([]byte{}, b[:packet.IPv4Len]...), options...), b[packet.IPv4Len:]...)
	out[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	return seal(out)
}

// checkOrder sends 6,400 packets whose last four bytes are a number and expects them in order.
func checkOrder(t *testing.T, s *setting, side packet.Family, b []byte) {
	t.Helper()
	want := uint32(0)
	for n := uint32(0); n < 6400; {
		var batch [][]byte
		for range 64 {
			batch = append(batch, edited(b, func(b []byte) { binary.BigEndian.PutUint32(b[len(b)-4:], n) }))
			n++
		}
		for _, g := range s.send(side, batch...) {
			if got := binary.BigEndian.Uint32(g.ip[len(g.ip)-4:]); got != want {
				t.Fatalf("got packet %d, want %d", got, want)
			}
			want++
		}
	}
	if want != 6400 {
		t.Errorf("%d packets of 6400 came out", want)
	}
}
