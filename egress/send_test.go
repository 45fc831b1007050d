package egress

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// wire is a link that keeps what it sends, from the IP header on.
type wire struct {
	sent  [][]byte
	calls int
}

func (l *wire) Send(outs []packet.Out, _ time.Duration) int {
	l.calls++
	for i := range outs {
		l.sent = append(l.sent, slices.Concat(outs[i].Head[packet.Headroom:], outs[i].Payload))
	}
	return 0
}

// plain knows one next hop in each network.
type plain struct{ mtu6, mtu4 uint32 }

func (p plain) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: p.mtu6}, false, drop.None
}
func (p plain) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: p.mtu4}, false, drop.None
}

func newSender(c Config) (s *Sender, six, four *wire, count *metrics.Set) {
	six, four, count = new(wire), new(wire), metrics.New(1)
	s = New(Options{Hops: plain{1500, 1500}, Links: [2]Link{six, four}, Paths: new(Paths), Count: count.Worker(0), Peers: 1})
	s.Begin(0, &c)
	return s, six, four, count
}

// received returns a packet as it came from the other family: its header only.
func received(six, df bool) *packet.View {
	b := make([]byte, packet.IPv6Len)
	if six {
		packet.IPv6(b).Put(0, 0, packet.NumUDP, 64, &packet.Addr6{0x20, 1, 15: 1}, &packet.Addr6{0x20, 1, 15: 2})
		return &packet.View{Data: b}
	}
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP, DF: df, ID: 7}, len(b), &packet.Addr4{192, 0, 2, 1}, &packet.Addr4{198, 51, 100, 20})
	return &packet.View{Data: b}
}

// udp writes a UDP packet with so much payload into the slot o, as a translator does.
func udp(o *packet.Out, six, df bool, payload []byte) *packet.Out {
	ipLen := packet.IPv4Len
	if six {
		ipLen = packet.IPv6Len
	}
	o.Head = append(o.Head, make([]byte, packet.Headroom+ipLen+packet.UDPLen)...)
	o.Payload, o.Offload, o.Inner = payload, packet.Offload{}, packet.Inner{}
	ip := o.Head[packet.Headroom:]
	n := packet.UDPLen + len(payload)
	if six {
		packet.IPv6(ip).Put(0, n, packet.NumUDP, 63, &packet.Addr6{0x20, 1, 15: 1}, &packet.Addr6{0x20, 1, 15: 2})
	} else {
		packet.IPv4(ip).Put(packet.Fields4{TTL: 63, Proto: packet.NumUDP, DF: df, ID: 9}, ipLen+n, &packet.Addr4{192, 0, 2, 1}, &packet.Addr4{198, 51, 100, 20})
	}
	h := ip[ipLen:]
	binary.BigEndian.PutUint16(h, 1000)
	binary.BigEndian.PutUint16(h[2:], 53)
	binary.BigEndian.PutUint16(h[4:], uint16(n))
	binary.BigEndian.PutUint16(h[packet.UDPChecksum:], packet.PseudoHeader(ip, n).Bytes(h).Bytes(payload).Checksum())
	return o
}

// lengths returns the lengths of packets.
func lengths(packets [][]byte) (list []int) {
	for _, p := range packets {
		list = append(list, len(p))
	}
	return list
}

// A packet leaves as it is, in fragments, or not at all, by its length, the MTU, Don't Fragment, and the fragments that it came in.
func TestSendFitsPacketsToMTU(t *testing.T) {
	t.Parallel()
	const head6, head4 = packet.IPv6Len + packet.UDPLen, packet.IPv4Len + packet.UDPLen
	for _, c := range []struct {
		name    string
		six, df bool
		payload int
		mtu     uint32
		pieces  *fragment.Whole
		sent    []int
		tell    uint32
	}{
		{"IPv6 as it is", true, true, 1500 - head6, 1500, nil, []int{1500}, 0},
		{"IPv6 with DF, a byte too long", true, true, 1501 - head6, 1500, nil, nil, 1480},
		{"IPv6 without DF, up to the least MTU", true, false, 1280 - head6, 1500, nil, []int{1280}, 0},
		{"IPv6 without DF, a byte longer", true, false, 1281 - head6, 1500, nil, []int{1280, 57}, 0},
		{"IPv6 in the pieces that it came in", true, false, 1000, 1500, &fragment.Whole{Largest: 600}, []int{648, 456}, 0},
		{"IPv6, pieces with DF that are too long", true, true, 1400, 1300, &fragment.Whole{Largest: 1304, DF: true}, nil, 1272},
		{"IPv4 as it is", false, true, 1500 - head4, 1500, nil, []int{1500}, 0},
		{"IPv4 with DF, a byte too long", false, true, 1501 - head4, 1500, nil, nil, 1520},
		{"IPv4 with DF over a link that is shorter than IPv6 allows", false, true, 1300, 1000, nil, nil, 1280},
		{"IPv4 without DF", false, false, 1000, 572, nil, []int{572, 476}, 0},
		{"IPv4 in the pieces that it came in", false, false, 1000, 1500, &fragment.Whole{Largest: 600}, []int{620, 428}, 0},
	} {
		s, six, four, count := newSender(Config{LowestIPv6MTU: 1280})
		p := &Packet{From: received(!c.six, c.df), Pieces: c.pieces, Hop: packet.Hop{MTU: c.mtu}, Direction: metrics.From6To4}
		send, wire := s.Send4, four
		if c.six {
			send, wire = s.Send6, six
			p.Out = udp(s.Next6(), true, c.df, make([]byte, c.payload))
		} else {
			p.Out = udp(s.Next4(), false, c.df, make([]byte, c.payload))
		}
		tell, r := send(p)
		s.Flush()
		s.Publish()
		if want := map[bool]drop.Reason{true: drop.TooBig}[c.tell != 0]; r != want || tell != c.tell || !slices.Equal(lengths(wire.sent), c.sent) {
			t.Errorf("%s: packets of %d bytes left, reason %v, MTU %d; want %d, %v, %d", c.name, lengths(wire.sent), r, tell, c.sent, want, c.tell)
		}
		if n, _ := count.Traffic(metrics.From6To4); int(n) != len(c.sent) {
			t.Errorf("%s: %d packets are counted", c.name, n)
		}
	}
}

// A UDP super-packet whose datagrams are too long leaves as those datagrams, each in fragments and with a checksum of its own.
func TestUDPSuperPacketIsCutIntoItsDatagrams(t *testing.T) {
	t.Parallel()
	payload := make([]byte, 2*1400+100)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	s, six, _, _ := newSender(Config{LowestIPv6MTU: 1280})
	o := udp(s.Next6(), true, false, payload)
	o.Offload = packet.Offload{
		Checksum: packet.ChecksumPartial, GSO: packet.GSOUDPL4, GSOSize: 1400,
		CsumStart: packet.IPv6Len, CsumOffset: packet.UDPChecksum, HdrLen: packet.IPv6Len + packet.UDPLen,
	}
	if _, r := s.Send6(&Packet{Out: o, From: received(false, false), Hop: packet.Hop{MTU: 1500}}); r != drop.None {
		t.Fatalf("refused: %v", r)
	}
	s.Flush()
	var got []byte
	whole := fragment.New(fragment.Limits{})
	datagrams := 0
	for _, b := range six.sent {
		var v packet.View
		if v.Parse6(b) != drop.None || len(b) > 1280 {
			t.Fatalf("a packet of %d bytes left: %x", len(b), b)
		}
		if v.Headers6() == drop.Fragment {
			w, r := whole.Add6(&v, 0)
			if r != drop.None {
				t.Fatalf("a fragment is refused: %v", r)
			}
			if w.Data == nil {
				continue
			}
			b = w.Data
		}
		h := b[packet.IPv6Len:]
		if packet.PseudoHeader(b, len(h)).Bytes(h).Fold() != 0xffff {
			t.Errorf("datagram %d has a wrong checksum", datagrams)
		}
		datagrams++
		got = append(got, h[packet.UDPLen:]...)
	}
	if datagrams != 3 || !bytes.Equal(got, payload) {
		t.Errorf("%d datagrams left with %d bytes of payload, want 3 with %d", datagrams, len(got), len(payload))
	}
}

// The configured MTU bounds that of the next hop, and never raises it.
func TestConfiguredMTUBoundsTheNextHop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ six, four, want6, want4 uint32 }{{0, 0, 1500, 1500}, {1400, 1300, 1400, 1300}, {9000, 9000, 1500, 1500}} {
		s, _, _, _ := newSender(Config{MTU6: c.six, MTU4: c.four})
		if m6, m4 := s.MTU6(s.Select6(packet.Selector6{})), s.MTU4(s.Select4(packet.Selector4{})); m6 != c.want6 || m4 != c.want4 {
			t.Errorf("configured %d and %d: MTUs %d and %d, want %d and %d", c.six, c.four, m6, m4, c.want6, c.want4)
		}
	}
}

// An outbox that is full is sent before the batch ends.
func TestFullOutboxIsSent(t *testing.T) {
	t.Parallel()
	s, _, four, _ := newSender(Config{})
	for range batch + 1 {
		s.Post4(udp(s.Next4(), false, true, []byte{1}), &packet.Hop{})
	}
	if four.calls != 1 || len(four.sent) != batch {
		t.Errorf("%d packets were sent in %d calls", len(four.sent), four.calls)
	}
	s.Flush()
	if four.calls != 2 || len(four.sent) != batch+1 {
		t.Errorf("after a flush %d packets were sent in %d calls", len(four.sent), four.calls)
	}
}
