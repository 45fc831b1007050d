package dissect_test

import (
	"bytes"
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"nat64d/test/dissect"
)

var (
	ip6 = &layers.IPv6{Version: 6, HopLimit: 64, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("64:ff9b::192.0.2.1")}
	ip4 = &layers.IPv4{Version: 4, TTL: 64, Id: 7, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{198, 51, 100, 1}}
)

// made has gopacket write the layers of a packet.
func made(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	for _, l := range ls[1:] {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(ls[0].(gopacket.NetworkLayer)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packets is one of each kind.
func packets(t testing.TB, payload string) map[string][]byte {
	t.Helper()
	six := func(n layers.IPProtocol) *layers.IPv6 { h := *ip6; h.NextHeader = n; return &h }
	four := func(n layers.IPProtocol) *layers.IPv4 { h := *ip4; h.Protocol = n; return &h }
	tcp, udp := &layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}, &layers.UDP{SrcPort: 1, DstPort: 2}
	data := gopacket.Payload(payload)
	return map[string][]byte{
		"TCP over IPv6": made(t, six(layers.IPProtocolTCP), tcp, data),
		"UDP over IPv6": made(t, six(layers.IPProtocolUDP), udp, data),
		"ICMPv6":        made(t, six(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, data),
		"TCP over IPv4": made(t, four(layers.IPProtocolTCP), tcp, data),
		"UDP over IPv4": made(t, four(layers.IPProtocolUDP), udp, data),
		"ICMP":          made(t, four(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, data),
	}
}

// Of a packet with a checksum, a change of any bit is seen: of the IPv4 header by its own, of the IPv6 header by that of the
// transport, except in three fields that none covers.
func TestEveryChangedBitIsFound(t *testing.T) {
	for name, b := range packets(t, "payload of odd length") {
		if _, err := dissect.IP(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for bit := range len(b) * 8 {
			at := bit / 8
			if b[0]>>4 == 6 && (at < 4 || at == 7) { // traffic class, flow label, hop limit
				continue
			}
			c := bytes.Clone(b)
			c[at] ^= 1 << (bit % 8)
			if p, err := dissect.IP(c); err == nil && !p.Fragmented() && (p.TCP != nil || p.UDP != nil || p.ICMP4 != nil || p.ICMP6 != nil) {
				t.Errorf("%s: bit %d changed, and nothing is wrong", name, bit)
			}
		}
		for _, c := range [][]byte{b[:len(b)-1], append(slices.Clone(b), 0), nil} {
			if _, err := dissect.IP(c); err == nil {
				t.Errorf("%s: %d bytes of %d, and nothing is wrong", name, len(c), len(b))
			}
		}
	}
}

func TestFinishCompletesTheChecksum(t *testing.T) {
	for name, b := range packets(t, "odd") {
		start, offset := 20, map[byte]int{1: 2, 6: 16, 17: 6, 58: 2}
		number := b[9]
		if b[0]>>4 == 6 {
			start, number = 40, b[6]
		}
		at := start + offset[number]
		half := bytes.Clone(b)
		sum := ^(uint32(b[at])<<8 | uint32(b[at+1])) & 0xffff // of all words but the checksum
		for i, c := range b[start:] {
			if i != at-start && i != at-start+1 {
				sum += 0xffff - uint32(c)<<(8*(^i&1))
			}
		}
		sum = sum>>16 + sum&0xffff
		sum = sum>>16 + sum&0xffff
		half[at], half[at+1] = byte(sum>>8), byte(sum) // what remains is the pseudo-header
		if got := dissect.Finish(half, start, offset[number]); !bytes.Equal(got, b) {
			t.Errorf("%s: %x, want %x", name, got, b)
		}
	}
}

// fragments cuts a packet without extension headers and options into pieces of 16 bytes.
func fragments(t *testing.T, b []byte) (pieces [][]byte) {
	t.Helper()
	n := 40
	if b[0]>>4 == 4 {
		n = 20
	}
	for at := 0; n+at < len(b); at += 16 {
		end := min(n+at+16, len(b))
		data, more := gopacket.Payload(b[n+at:end]), end < len(b)
		if n == 20 {
			h := *ip4
			h.Protocol, h.FragOffset = layers.IPProtocol(b[9]), uint16(at/8)
			if more {
				h.Flags = layers.IPv4MoreFragments
			}
			pieces = append(pieces, made(t, &h, data))
			continue
		}
		h := *ip6
		h.NextHeader = layers.IPProtocolIPv6Fragment
		f := gopacket.Payload{b[6], 0, byte(at >> 8), byte(at), 0, 0, 0, 7}
		if more {
			f[3] |= 1
		}
		pieces = append(pieces, made(t, &h, f, data))
	}
	return pieces
}

func TestWholeReassembles(t *testing.T) {
	for name, b := range packets(t, "a payload that needs more than two pieces of sixteen bytes") {
		p := fragments(t, b)
		slices.Reverse(p)
		for range 2 {
			if whole, err := dissect.Whole(p...); err != nil || !bytes.Equal(whole, b) {
				t.Errorf("%s: %x, %v; want %x", name, whole, err, b)
			}
			slices.Reverse(p)
		}
		if _, err := dissect.Whole(p[1:]...); err == nil {
			t.Errorf("%s: whole without its last piece", name)
		}
		if whole, err := dissect.Whole(b); err != nil || !bytes.Equal(whole, b) {
			t.Errorf("%s: a packet that is no fragment: %x, %v", name, whole, err)
		}
	}
}
