package test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// datagram6 is 1,008 bytes of UDP, which pieces6 splits into two fragments.
func datagram6(client netip.Addr) []byte {
	return ip6(client, serverAs6, packet.NumUDP, udp(40000, 443, 1000))
}

func pieces6(client netip.Addr, id uint32) [][]byte {
	b := datagram6(client)
	return [][]byte{fragment6(b, id, 0, 512), fragment6(b, id, 512, 1008)}
}

func TestFragmentRules(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.4-05":  errorInPieces,
		"N64-3.4-05a": floodOfFragments,
		"X79-4.1-08":  fragmentWithoutHopsLeft,
		"X79-4.1-02":  fragmentThatMayNotBeCut,
		"FRG-8200-01": interleavedDatagrams,
		"FRG-8200-03": fragmentBeyondTheEnd,
		"FRG-8200-04": firstFragmentWithoutHeader,
		"FRG-8200-06": fragmentTooLate,
		"FRG-6946-01": atomicFragmentInBetween,
		"FRG-D-02":    datagramSentAgain,
	})
}

func errorInPieces(t *testing.T) {
	s := bound(t, ordinary())
	four := of4(packet.NumICMP, complaint(3, 3, 0, ip4(poolAddr, serverAddr, packet.NumUDP, udp(5000, 443, 400))))
	six := of6(packet.NumICMPv6, complaint(1, 4, 0, ip6(serverAs6, clientAddr, packet.NumUDP, udp(443, 40000, 400))))
	whole4 := only(t, s.send(packet.V4, four), packet.V6)
	pieces4 := only(t, s.send(packet.V4, fragment4(four, 7, 256, len(four)-packet.IPv4Len), fragment4(four, 7, 0, 256)), packet.V6)
	if !bytes.Equal(pieces4, whole4) {
		t.Errorf("got %x, want %x as of an ICMP error that came whole", pieces4, whole4)
	}
	whole6 := only(t, s.send(packet.V6, six), packet.V4)
	pieces6 := only(t, s.send(packet.V6, fragment6(six, 7, 256, len(six)-packet.IPv6Len), fragment6(six, 7, 0, 256)), packet.V4)
	if !bytes.Equal(pieces6[packet.IPv4Len:], whole6[packet.IPv4Len:]) {
		t.Errorf("got %x, want %x as of an ICMPv6 error that came whole", pieces6, whole6)
	}
}

func fragmentWithoutHopsLeft(t *testing.T) {
	s := bound(t, ordinary())
	b := hops(from4(packet.NumUDP, 0, 1000, 5000, false), 1)
	first, rest := fragment4(b, 7, 0, 512), fragment4(b, 7, 512, 1008)
	nothing(t, s.send(packet.V4, rest))
	got := s.send(packet.V4, first)
	icmp4(t, got, 11, 0)
	if quote := got[0].ip[28:]; !bytes.Equal(quote, first) {
		t.Errorf("the error quotes %x, want the fragment %x", quote, first)
	}
	nothing(t, s.send(packet.V4, rest))
}

func floodOfFragments(t *testing.T) {
	s := newSetting(t, ordinary())
	port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
	alone := datagram6(secondClient)
	for id := range uint32(10000) { // one client, datagrams that are never complete
		nothing(t, s.send(packet.V6, fragment6(alone, id, 0, 512)))
	}
	if n := s.Counters.Drops(drop.FragmentSource); n < 9000 {
		t.Errorf("%d fragments of the client were refused, want all beyond its share", n)
	}
	if got := s.send(packet.V6, pieces6(clientAddr, 1)...); len(got) != 2 {
		t.Errorf("%d pieces of another client's datagram came out, want two", len(got))
	}
	for range 100 {
		only(t, s.send(packet.V6, ip6(secondClient, serverAs6, packet.NumUDP, udp(1234, 443, 4))), packet.V4)
		only(t, s.send(packet.V4, from4(packet.NumUDP, 0, 4, port, false)), packet.V6)
	}
}

func fragmentThatMayNotBeCut(t *testing.T) {
	s := bound(t, ordinary())
	b := edited(of4(packet.NumUDP, udp(443, 5000, 2000)), func(b []byte) { b[6] |= 0x40 })
	got := s.send(packet.V4, fragment4(b, 7, 0, 1480), fragment4(b, 7, 1480, 2008))
	if mtu := icmp4(t, got, 3, 4); mtu != 1472 {
		t.Errorf("Fragmentation Needed says %d, want 1500 - 28", mtu)
	}
}

func interleavedDatagrams(t *testing.T) {
	s := newSetting(t, ordinary())
	one, two := pieces6(clientAddr, 1), pieces6(clientAddr, 2)
	other := pieces6(secondClient, 1)
	nothing(t, s.send(packet.V6, one[0], two[0], other[0]))
	for i, rest := range [][]byte{two[1], other[1], one[1]} {
		if got := s.send(packet.V6, rest); len(got) != 2 {
			t.Errorf("datagram %d: %d pieces came out, want two", i, len(got))
		}
	}
}

func fragmentBeyondTheEnd(t *testing.T) {
	s := newSetting(t, ordinary())
	last := raw(pieces6(clientAddr, 1)[1], func(b []byte) { binary.BigEndian.PutUint16(b[42:], 0xfff8) })
	if pointer := icmp6(t, s.send(packet.V6, last), 4, 0); pointer != 42 {
		t.Errorf("the pointer is %d, want 42, the Fragment Offset field", pointer)
	}
	behind := extended(last, packet.NumHopByHop, 0, 0, 1, 4, 0, 0, 0, 0)
	if pointer := icmp6(t, s.send(packet.V6, behind), 4, 0); pointer != 50 {
		t.Errorf("behind a Hop-by-Hop header the pointer is %d, want 50", pointer)
	}
}

func firstFragmentWithoutHeader(t *testing.T) {
	s := newSetting(t, ordinary())
	syn := ip6(clientAddr, serverAs6, packet.NumTCP, tcp(40000, 443, packet.FlagSYN))
	if pointer := icmp6(t, s.send(packet.V6, fragment6(syn, 1, 0, 16)), 4, 3); pointer != 0 {
		t.Errorf("the pointer is %d, want 0", pointer)
	}
}

func fragmentTooLate(t *testing.T) {
	s := newSetting(t, ordinary())
	p := pieces6(clientAddr, 1)
	nothing(t, s.send(packet.V6, p[0]))
	s.advance(3 * time.Second)
	nothing(t, s.send(packet.V6, p[1]))
	s.counted(t, drop.FragmentTimeout, 0)
	s.advance(3 * time.Second)
	if got := s.send(packet.V6, p...); len(got) != 2 {
		t.Errorf("%d pieces came out of both at once, want two", len(got))
	}
}

func atomicFragmentInBetween(t *testing.T) {
	s := newSetting(t, ordinary())
	p := pieces6(clientAddr, 1)
	nothing(t, s.send(packet.V6, p[0]))
	small := ip6(clientAddr, serverAs6, packet.NumUDP, udp(40000, 443, 4))
	only(t, s.send(packet.V6, fragment6(small, 1, 0, 12)), packet.V4)
	if got := s.send(packet.V6, p[1]); len(got) != 2 {
		t.Errorf("%d pieces came out behind the atomic fragment, want two", len(got))
	}
}

func datagramSentAgain(t *testing.T) {
	s := newSetting(t, ordinary())
	for range 2 { // the second is a retransmission with the same Identification
		if got := s.send(packet.V6, pieces6(clientAddr, 1)...); len(got) != 2 {
			t.Errorf("%d pieces came out, want two", len(got))
		}
	}
}

func TestIdentification(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"FRG-6864-01": identificationsDiffer,
	})
}

func identificationsDiffer(t *testing.T) {
	s := newSetting(t, ordinary())
	b := from6(packet.NumUDP, 0, 4)
	seen := map[uint16]bool{}
	batch := make([][]byte, 64)
	for i := range batch {
		batch[i] = b
	}
	for range 1 << 15 / len(batch) {
		for _, g := range s.send(packet.V6, batch...) {
			h := packet.IPv4(g.ip)
			if h.DF() || seen[h.ID()] {
				t.Fatalf("packet %d has DF %v and the Identification %d, which was used before: %v", len(seen), h.DF(), h.ID(), seen[h.ID()])
			}
			seen[h.ID()] = true
		}
	}
	if len(seen) != 1<<15 {
		t.Errorf("%d packets came out", len(seen))
	}
}
