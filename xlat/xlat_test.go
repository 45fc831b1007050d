package xlat_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/test/dissect"
	"nat64d/xlat"
)

var (
	client  = packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 0, 1, 15: 0x10}
	server6 = packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 0, 0x64, 12: 198, 51, 100, 20}
	mapped  = packet.Addr4{203, 0, 113, 1}
	server  = packet.Addr4{198, 51, 100, 20}
	conf    = xlat.Config{TOS: xlat.CopyTOS, TrafficClass: xlat.CopyTOS}
)

// transport6 returns a transport header and payload with a correct checksum for an IPv6 packet.
func transport6(number uint8, payload []byte) []byte {
	var h []byte
	at := 0
	switch number {
	case packet.NumTCP:
		h, at = make([]byte, 32), packet.TCPChecksum
		h[12], h[13] = 0x80, packet.FlagACK
	case packet.NumUDP:
		h, at = make([]byte, packet.UDPLen), packet.UDPChecksum
		binary.BigEndian.PutUint16(h[4:], uint16(packet.UDPLen+len(payload)))
	case packet.NumICMPv6:
		h, at = make([]byte, packet.ICMPLen), packet.ICMPChecksum
		h[0], h[4], h[5] = packet.EchoRequest6, 0x9c, 0x40
	}
	if number != packet.NumICMPv6 {
		binary.BigEndian.PutUint16(h, 40000)
		binary.BigEndian.PutUint16(h[2:], 443)
	}
	h = append(h, payload...)
	c := packet.Sum(0).Addr6(&client).Addr6(&server6).Pseudo(len(h), number).Bytes(h).Checksum()
	if c == 0 && number == packet.NumUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(h[at:], c)
	return h
}

func ip6(number uint8, transport []byte) []byte {
	b := make([]byte, packet.IPv6Len, packet.IPv6Len+len(transport))
	packet.IPv6(b).Put(0xb9, len(transport), number, 64, &client, &server6)
	return append(b, transport...)
}

func out() *packet.Out { return &packet.Out{Head: make([]byte, 0, 192)} }

func join(o *packet.Out) []byte { return slices.Concat(o.Head[packet.Headroom:], o.Payload) }

func to4(data []byte, off packet.Offload) (*packet.Out, drop.Reason) {
	var v packet.View
	if r := v.Parse6(data); r != drop.None {
		return nil, r
	}
	if r := v.Extensions6(); r != drop.None {
		return nil, r
	}
	if r := v.Transport6(); r != drop.None {
		return nil, r
	}
	o := out()
	t := packet.Tuple4{Src: packet.Endpoint4{Addr: mapped, Port: 7000}, Dst: packet.Endpoint4{Addr: server, Port: v.DstPort}}
	return o, conf.To4(o, &v, off, &t, 77)
}

func to6(data []byte, off packet.Offload) (*packet.Out, drop.Reason) {
	var v packet.View
	if r := v.Parse4(data); r != drop.None {
		return nil, r
	}
	if r := v.Transport4(); r != drop.None {
		return nil, r
	}
	o := out()
	t := packet.Tuple6{Src: packet.Endpoint6{Addr: server6, Port: v.SrcPort}, Dst: packet.Endpoint6{Addr: client, Port: 40000}}
	return o, conf.To6(o, &v, off, &t)
}

// swap4 turns an IPv4 packet into a reply by swapping addresses and ports. The transport checksum stays correct,
// because its sum does not depend on their order.
func swap4(b []byte) []byte {
	h := packet.IPv4(b)
	*h.Src(), *h.Dst() = *h.Dst(), *h.Src()
	if h.Protocol() == packet.NumICMP {
		b[20] = packet.EchoReply4
		b[22], b[23] = 0, 0
		binary.BigEndian.PutUint16(b[22:], packet.Sum(0).Bytes(b[20:]).Checksum())
		return b
	}
	p := b[packet.IPv4Len:]
	p[0], p[1], p[2], p[3] = p[2], p[3], p[0], p[1]
	return b
}

// verify has gopacket check a packet's lengths and checksums.
func verify(t testing.TB, b []byte) {
	t.Helper()
	if _, err := dissect.IP(b); err != nil {
		t.Fatal(err)
	}
}

// roundTrip translates a packet to IPv4, and its mirror image back, and checks that the payload is unchanged.
func roundTrip(t testing.TB, number uint8, payload []byte) {
	in := ip6(number, transport6(number, payload))
	four, r := to4(in, packet.Offload{})
	if r != drop.None {
		t.Fatalf("to IPv4: %v", r)
	}
	verify(t, join(four))
	if !bytes.Equal(four.Payload, payload) {
		t.Fatalf("the payload became %x", four.Payload)
	}
	six, r := to6(swap4(join(four)), packet.Offload{})
	if r != drop.None {
		t.Fatalf("back to IPv6: %v", r)
	}
	verify(t, join(six))
	if !bytes.Equal(six.Payload, payload) {
		t.Fatalf("the payload came back as %x", six.Payload)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, number := range []uint8{packet.NumTCP, packet.NumUDP, packet.NumICMPv6} {
		for n := range 70 {
			roundTrip(t, number, bytes.Repeat([]byte{0xff, byte(n)}, n)[:n])
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello"), uint8(0))
	f.Add([]byte{0xff, 0xff, 0}, uint8(1))
	f.Fuzz(func(t *testing.T, payload []byte, kind uint8) {
		if len(payload) > 1400 {
			return
		}
		roundTrip(t, []uint8{packet.NumTCP, packet.NumUDP, packet.NumICMPv6}[kind%3], payload)
	})
}

// FuzzTranslate translates arbitrary packets: To4 and To6 must not panic, and their results must parse.
func FuzzTranslate(f *testing.F) {
	f.Add(ip6(packet.NumUDP, transport6(packet.NumUDP, []byte("x"))), uint8(0), uint16(0))
	f.Add(ip6(packet.NumTCP, transport6(packet.NumTCP, []byte("x"))), uint8(2), uint16(40))
	f.Fuzz(func(t *testing.T, data []byte, checksum uint8, start uint16) {
		off := packet.Offload{Checksum: packet.Checksum(checksum % 3), CsumStart: start, CsumOffset: packet.UDPChecksum}
		var v packet.View
		if o, r := to4(data, off); o != nil && r == drop.None {
			if r := v.Parse4(join(o)); r != drop.None {
				t.Fatalf("to IPv4: the result does not parse: %v", r)
			}
		}
		if o, r := to6(data, off); o != nil && r == drop.None {
			if r := v.Parse6(join(o)); r != drop.None {
				t.Fatalf("to IPv6: the result does not parse: %v", r)
			}
		}
	})
}

func TestSuperPacketKeepsItsMetadata(t *testing.T) {
	in := ip6(packet.NumTCP, transport6(packet.NumTCP, make([]byte, 5*1428)))
	partial := packet.Sum(0).Addr6(&client).Addr6(&server6).Pseudo(len(in)-packet.IPv6Len, packet.NumTCP).Fold()
	binary.BigEndian.PutUint16(in[packet.IPv6Len+packet.TCPChecksum:], partial)
	checkSuperPacket(t, in, packet.Offload{
		Checksum: packet.ChecksumPartial, GSO: packet.GSOTCPv6, ECN: true, GSOSize: 1428, HdrLen: 72, CsumStart: 40, CsumOffset: 16,
	})
}

// In a super-packet with verified checksums, the header contains that of the first packet, which does not cover the
// others.
func TestSuperPacketWithGoodChecksumsBecomesPartial(t *testing.T) {
	in := ip6(packet.NumTCP, transport6(packet.NumTCP, make([]byte, 5*1428)))
	binary.BigEndian.PutUint16(in[packet.IPv6Len+packet.TCPChecksum:], 0x1234)
	checkSuperPacket(t, in, packet.Offload{Checksum: packet.ChecksumGood, GSO: packet.GSOTCPv6, ECN: true, GSOSize: 1428, HdrLen: 72})
}

// An incremental update keeps a checksum good. That of an ICMP message is computed from scratch, so the kernel has
// not verified it.
func TestGoodChecksumStaysGood(t *testing.T) {
	for number, want := range map[uint8]packet.Checksum{
		packet.NumTCP: packet.ChecksumGood, packet.NumUDP: packet.ChecksumGood, packet.NumICMPv6: packet.ChecksumUnknown,
	} {
		o, r := to4(ip6(number, transport6(number, []byte("data"))), packet.Offload{Checksum: packet.ChecksumGood})
		if r != drop.None || o.Offload != (packet.Offload{Checksum: want}) {
			t.Errorf("protocol %d: %v, metadata %+v", number, r, o.Offload)
		}
	}
}

func checkSuperPacket(t *testing.T, in []byte, off packet.Offload) {
	t.Helper()
	o, r := to4(in, off)
	if r != drop.None {
		t.Fatal(r)
	}
	want := packet.Offload{
		Checksum: packet.ChecksumPartial, GSO: packet.GSOTCPv4, ECN: true, GSOSize: 1428, HdrLen: 52, CsumStart: 20, CsumOffset: 16,
	}
	if o.Offload != want {
		t.Errorf("metadata %+v, want %+v", o.Offload, want)
	}
	if got := o.SegmentLen(); got != 1480 {
		t.Errorf("a segment is %d bytes, want 1480", got)
	}
	b := join(o)
	if !packet.IPv4(b).DF() {
		t.Error("DF is not set although segments are larger than 1260 bytes")
	}
	sum := packet.Sum(0).Addr4(&mapped).Addr4(&server).Pseudo(len(b)-packet.IPv4Len, packet.NumTCP).Fold()
	if got := binary.BigEndian.Uint16(b[packet.IPv4Len+packet.TCPChecksum:]); got != sum {
		t.Errorf("pseudo-header sum %04x, want %04x", got, sum)
	}
}

// A tunnelled packet has a partial checksum, while the checksum of the UDP datagram around it already covers the
// completed one.
func TestTunnelledPartialChecksum(t *testing.T) {
	inner := transport6(packet.NumTCP, []byte("inside"))
	tunnel := append(make([]byte, 20), inner...)
	in := ip6(packet.NumUDP, transport6(packet.NumUDP, tunnel))
	at := packet.IPv6Len + packet.UDPLen + 20
	partial := packet.Sum(0).Addr6(&client).Addr6(&server6).Pseudo(len(inner), packet.NumTCP).Fold()
	binary.BigEndian.PutUint16(in[at+packet.TCPChecksum:], partial)
	off := packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(at), CsumOffset: packet.TCPChecksum}
	o, r := to4(in, off)
	if r != drop.None || o.Offload != (packet.Offload{}) {
		t.Fatalf("%v, metadata %+v", r, o.Offload)
	}
	if got := in[len(in)-len(inner):]; bytes.Equal(got, inner) {
		t.Error("the received packet was changed")
	}
	o.Inner.Complete(o.Payload)
	b := join(o)
	if !bytes.Equal(b[len(b)-len(inner):], inner) {
		t.Errorf("the tunnelled packet is %x, want %x", b[len(b)-len(inner):], inner)
	}
	if sum := packet.Sum(0).Addr4(&mapped).Addr4(&server).Pseudo(len(b)-packet.IPv4Len, packet.NumUDP).Bytes(b[packet.IPv4Len:]).Fold(); sum != 0xffff {
		t.Errorf("the sum of the datagram is %04x, want ffff", sum)
	}
	for _, c := range []struct {
		number uint8
		off    packet.Offload
		want   drop.Reason
		inner  bool
	}{
		{packet.NumUDP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv6Len, CsumOffset: 6}, drop.None, false},
		{packet.NumUDP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv6Len + 7, CsumOffset: 6}, drop.Offload, false},
		{packet.NumUDP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv6Len + 8, CsumOffset: 6}, drop.None, true},
		{packet.NumUDP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(len(in) - 4), CsumOffset: 2}, drop.None, true},
		{packet.NumUDP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(len(in) - 4), CsumOffset: 3}, drop.Offload, false},
		{packet.NumUDP, packet.Offload{CsumStart: uint16(at), CsumOffset: packet.TCPChecksum}, drop.None, false},
		{packet.NumUDP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(at), CsumOffset: 16, GSO: packet.GSOUDPL4, GSOSize: 20}, drop.Offload, false},
		{packet.NumTCP, packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(at), CsumOffset: 2}, drop.Offload, false},
	} {
		o, r := to4(ip6(c.number, transport6(c.number, tunnel)), c.off)
		if r != c.want || r == drop.None && (o.Inner != packet.Inner{}) != c.inner {
			t.Errorf("protocol %d, %+v: %v, tunnelled checksum %+v; want %v, %v", c.number, c.off, r, o.Inner, c.want, c.inner)
		}
	}
}

// A UDP datagram over IPv4 may have no checksum, and gets one (RFC 7915 section 4.5), unless the configuration refuses it. A
// partial checksum of 0 is not a missing one: it is the sum of the pseudo-header.
func TestUDPWithoutChecksum(t *testing.T) {
	defer func(c xlat.Config) { conf = c }(conf)
	translated, _ := to4(ip6(packet.NumUDP, transport6(packet.NumUDP, []byte("data"))), packet.Offload{})
	in := swap4(join(translated))
	binary.BigEndian.PutUint16(in[packet.IPv4Len+packet.UDPChecksum:], 0)
	o, r := to6(in, packet.Offload{})
	if r != drop.None {
		t.Fatal(r)
	}
	verify(t, join(o))
	conf.ZeroUDPDrop = true
	if _, r := to6(in, packet.Offload{}); r != drop.UDPZeroChecksum {
		t.Errorf("%v, want %v", r, drop.UDPZeroChecksum)
	}
	partial := packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv4Len, CsumOffset: packet.UDPChecksum}
	if o, r := to6(in, partial); r != drop.None || o.Offload.Checksum != packet.ChecksumPartial {
		t.Errorf("a partial checksum of 0: %v, metadata %+v", r, o.Offload)
	}
}

// The kind of a super-packet must fit the protocol; the kinds of TCP change places.
func TestKindsOfSuperPackets(t *testing.T) {
	for _, c := range []struct {
		number   uint8
		kind     packet.GSO // over IPv4
		good     bool
		becomes  packet.GSO
		checksum packet.Checksum
	}{
		{packet.NumTCP, packet.GSOTCPv4, true, packet.GSOTCPv6, packet.ChecksumGood},
		{packet.NumTCP, packet.GSOTCPv4, true, packet.GSOTCPv6, packet.ChecksumPartial},
		{packet.NumUDP, packet.GSOUDPL4, true, packet.GSOUDPL4, packet.ChecksumGood},
		{packet.NumUDP, packet.GSOUDPL4, true, packet.GSOUDPL4, packet.ChecksumPartial},
		{packet.NumUDP, packet.GSOTCPv4, false, 0, packet.ChecksumPartial},
		{packet.NumTCP, packet.GSOUDPL4, false, 0, packet.ChecksumPartial},
	} {
		translated, _ := to4(ip6(c.number, transport6(c.number, make([]byte, 3000))), packet.Offload{})
		in := swap4(join(translated))
		off := packet.Offload{Checksum: c.checksum, GSO: c.kind, GSOSize: 1000, HdrLen: 40}
		if at := map[uint8]uint16{packet.NumTCP: packet.TCPChecksum, packet.NumUDP: packet.UDPChecksum}[c.number]; c.checksum == packet.ChecksumPartial {
			off.CsumStart, off.CsumOffset = packet.IPv4Len, at
			h := packet.IPv4(in)
			binary.BigEndian.PutUint16(in[packet.IPv4Len+at:], packet.Sum(0).Addr4(h.Src()).Addr4(h.Dst()).Pseudo(len(in)-packet.IPv4Len, c.number).Fold())
		}
		o, r := to6(in, off)
		if (r == drop.None) != c.good || c.good && (o.Offload.GSO != c.becomes || o.Offload.Checksum != packet.ChecksumPartial) {
			t.Errorf("protocol %d, kind %d: %v, %+v", c.number, c.kind, r, o.Offload)
			continue
		}
		if c.good {
			verify(t, dissect.Finish(join(o), int(o.Offload.CsumStart), int(o.Offload.CsumOffset)))
		}
	}
}

func TestOffloadRefusesInconsistentMetadata(t *testing.T) {
	tcp := ip6(packet.NumTCP, transport6(packet.NumTCP, []byte("x")))
	for name, off := range map[string]packet.Offload{
		"tcp4 super-packet in IPv6":    {Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 16, GSO: packet.GSOUDPL4, GSOSize: 1},
		"super-packet, whole checksum": {GSO: packet.GSOTCPv6, GSOSize: 1},
		"checksum elsewhere":           {Checksum: packet.ChecksumPartial, CsumStart: 60, CsumOffset: 16},
	} {
		if _, r := to4(tcp, off); r != drop.Offload {
			t.Errorf("%s: %v", name, r)
		}
	}
	jumbo := ip6(packet.NumUDP, transport6(packet.NumUDP, make([]byte, 0xffff-packet.UDPLen)))
	if _, r := to4(jumbo, packet.Offload{}); r != drop.Large {
		t.Errorf("a packet longer than IPv4 allows: %v", r)
	}
}

func TestFixedTOS(t *testing.T) {
	defer func(c xlat.Config) { conf = c }(conf)
	conf.TOS = 0
	o, _ := to4(ip6(packet.NumUDP, transport6(packet.NumUDP, nil)), packet.Offload{})
	if tos := packet.IPv4(join(o)).TOS(); tos != 0 {
		t.Errorf("TOS %#x, want 0", tos)
	}
}

// hot returns the per-packet work by name, without parsing: translation of data in both directions, and of a SYN.
func hot() map[string]func() {
	var six, four, first packet.View
	data := ip6(packet.NumTCP, transport6(packet.NumTCP, make([]byte, 1400)))
	_, _, _ = six.Parse6(data), six.Extensions6(), six.Transport6()
	translated, _ := to4(data, packet.Offload{})
	_, _ = four.Parse4(join(translated)), four.Transport4()
	in := syn([]byte{packet.TCPOptionMSS, 4, 0x05, 0xb4})
	_, _, _ = first.Parse6(in), first.Extensions6(), first.Transport6()
	o := out()
	t4 := packet.Tuple4{Src: packet.Endpoint4{Addr: mapped, Port: 7000}, Dst: packet.Endpoint4{Addr: server, Port: 443}}
	t6 := packet.Tuple6{Src: packet.Endpoint6{Addr: server6, Port: 443}, Dst: packet.Endpoint6{Addr: client, Port: 40000}}
	return map[string]func(){
		"To4": func() { conf.To4(o, &six, packet.Offload{}, &t4, 1) },
		"To6": func() { conf.To6(o, &four, packet.Offload{}, &t6) },
		"To4 and ClampMSS": func() {
			conf.To4(o, &first, packet.Offload{}, &t4, 1)
			xlat.ClampMSS(o, &first, 1400)
		},
	}
}

func TestTranslationDoesNotAllocate(t *testing.T) {
	for name, f := range hot() {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkTranslation(b *testing.B) {
	for name, f := range hot() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
		})
	}
}
