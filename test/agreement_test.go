package test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
	"nat64d/test/dissect"
)

// observed is a gateway whose packets are traced and captured.
type observed struct {
	*setting
	tap *gateway.Tap
}

func observe(t owner, s *setting) *observed {
	t.Helper()
	tap, err := s.Tap(gateway.TapOptions{Filter: gateway.Filter{Host: true}, Snap: gateway.MaxSnap})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return &observed{s, tap}
}

// records returns the next n records of the tap.
func (o *observed) records(t owner, n int) (all []gateway.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(all) < n {
		list, lost, err := o.tap.Read(ctx)
		if err != nil || lost != 0 {
			t.Fatalf("%d of %d packets were traced, %d lost: %v", len(all), n, lost, err)
		}
		all = append(all, list...)
	}
	if len(all) > n {
		t.Fatalf("%d records for %d packets", len(all), n)
	}
	return all
}

// agree compares the records of packets with the packets that went in and that the gateway sent.
func (o *observed) agree(t rapid.TB, in [][]byte, list []gateway.Record, got []sent) {
	t.Helper()
	for i := range list {
		r := &list[i]
		if len(r.Packets) == 0 || r.Packets[0].Out || !bytes.HasPrefix(in[i], r.Packets[0].Data) {
			t.Errorf("packet %d was not captured as it arrived: %+v", i, r.Packets)
			continue
		}
		got = agreeOne(t, r, got)
	}
	if len(got) != 0 {
		t.Errorf("%d packets were sent but not captured", len(got))
	}
}

// agreeOne compares the record of one packet with what was sent for it, and returns what was sent for the next ones.
func agreeOne(t rapid.TB, r *gateway.Record, got []sent) []sent {
	t.Helper()
	pieces, answers := 0, 0
	for _, p := range r.Packets[1:] {
		at := 0
		for at < len(got) && (got[at].side != p.Family || !bytes.Equal(got[at].ip, p.Data)) {
			at++
		}
		if at == len(got) {
			t.Fatalf("captured %x, which was not sent", p.Data)
		}
		switch d, _ := dissect.IP(got[at].ip); {
		case p.Answer:
			answers++
			agreeHeader(t, &r.Answer, d)
		default:
			if pieces++; pieces == 1 {
				agreeHeader(t, &r.Out, d)
				agreeFlow(t, r, d)
			}
		}
		got = append(got[:at:at], got[at+1:]...)
	}
	if pieces != int(r.Pieces) || (answers > 0) != (r.Answer.Length > 0) {
		t.Errorf("%d packets and %d answers left, the verdict has %d and %+v", pieces, answers, r.Pieces, r.Answer)
	}
	if forwarded := r.Fate == gateway.Forwarded; forwarded != (pieces > 0) || forwarded != (r.Reason == drop.None && r.Fate != gateway.WaitsForPiece && r.Fate != gateway.WaitsForHop) {
		t.Errorf("the verdict is %v for %v, and %d packets left", r.Fate, r.Reason, pieces)
	}
	return got
}

// agreeHeader compares a header of a verdict with a packet as gopacket decodes it.
func agreeHeader(t rapid.TB, h *gateway.Header, d *dissect.Packet) {
	t.Helper()
	src, dst := h.Source(), h.Destination()
	if d.Fragmented() { // gopacket leaves the ports to the reassembly
		src, dst = netip.AddrPortFrom(src.Addr(), 0), netip.AddrPortFrom(dst.Addr(), 0)
	}
	if src != d.Src || dst != d.Dst {
		t.Errorf("the verdict has %v to %v, the packet %v to %v", src, dst, d.Src, d.Dst)
	}
	ttl, number := 0, 0
	if d.IP4 != nil {
		ttl, number = int(d.IP4.TTL), int(d.IP4.Protocol)
	} else {
		ttl, number = int(d.IP6.HopLimit), int(d.IP6.NextHeader)
	}
	if d.Fragment != nil {
		number = int(d.Fragment.NextHeader)
	}
	if int(h.HopLimit) != ttl || int(h.Number) != number {
		t.Errorf("the verdict has hop limit %d and protocol %d, the packet %d and %d", h.HopLimit, h.Number, ttl, number)
	}
	if d.TCP != nil && h.Flags&packet.FlagSYN != 0 != d.TCP.SYN {
		t.Errorf("the verdict has the flags %#x, the packet %+v", h.Flags, d.TCP)
	}
}

// agreeFlow compares the flow of a verdict with its translation.
func agreeFlow(t rapid.TB, r *gateway.Record, d *dissect.Packet) {
	t.Helper()
	f := &r.Flow
	client := netip.AddrPortFrom(netip.AddrFrom16(f.Client.Addr), f.Client.Port)
	peer := netip.AddrPortFrom(netip.AddrFrom4(f.Remote.Addr), f.Remote.Port)
	mapped := netip.AddrPortFrom(netip.AddrFrom4(f.Mapped.Addr), f.Mapped.Port)
	switch {
	case d.TCP == nil && d.UDP == nil || r.Passed.Has(gateway.Hairpins):
	case r.Side == packet.V6 && (d.Src != mapped || d.Dst != peer || r.In.Source() != client):
		t.Errorf("the flow %v, %v, %v was sent from %v to %v", client, mapped, peer, d.Src, d.Dst)
	case r.Side == packet.V4 && (d.Dst != client || r.In.Destination() != mapped || r.In.Source() != peer):
		t.Errorf("the flow %v, %v, %v was sent from %v to %v", client, mapped, peer, d.Src, d.Dst)
	}
}

// An explanation, a verdict, a capture and the packets that left agree, for every vector. Of fragments, the first is explained.
func TestTraceAgreesWithVectors(t *testing.T) {
	for _, name := range wireFiles {
		var file wireFile
		load(t, name, &file)
		for _, v := range file.Vectors {
			t.Run(v.ID, func(t *testing.T) {
				t.Parallel()
				o := observe(t, v.setting(t))
				in, side := v.packets(t), sideNames[v.Input.Side]
				x := o.explain(t, side, in[0])
				got := o.send(side, in...)
				list := o.records(t, len(in))
				o.agree(t, in, list, got)
				agreeVerdicts(t, x, list[0].Verdict)
			})
		}
	}
}

// They agree for arbitrary packets, too.
func TestTraceAgreesWithRandomPackets(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("the seed is %d", seed)
		}
	}()
	options := ordinary()
	options.routes.ways = map[netip.Addr]drop.Reason{netip.MustParseAddr("198.51.100.30"): drop.NoRoute}
	s := newSetting(t, options)
	s.out.lenient = true // some packets are malformed
	o := observe(t, s)
	fates, ports := map[gateway.Fate]int{}, []uint16{443}
	for range 800 {
		side, in := randomPacket(r, ports)
		x := o.explain(t, side, in)
		got := o.send(side, in)
		list := o.records(t, 1)
		o.agree(t, [][]byte{in}, list, got)
		agreeVerdicts(t, x, list[0].Verdict)
		if f := &list[0].Flow; f.Mapped.Port != 0 && len(ports) < 50 {
			ports = append(ports, f.Mapped.Port)
		}
		fates[list[0].Fate]++
	}
	for _, f := range []gateway.Fate{gateway.Forwarded, gateway.Dropped, gateway.LeftToHost, gateway.WaitsForPiece} {
		if fates[f] == 0 {
			t.Errorf("no packet is %v", f)
		}
	}
}

// randomPacket returns a packet of few clients, hosts and ports, and the side on which it arrives; some are malformed, some are
// fragments, some are to a client's own port of pool4.
func randomPacket(r *rand.Rand, ports []uint16) (side packet.Family, b []byte) {
	number := []uint8{packet.NumTCP, packet.NumUDP, packet.NumICMP, 50}[r.IntN(20)%4]
	port := func() uint16 { return ports[r.IntN(len(ports))] }
	flags := []byte{packet.FlagSYN, packet.FlagACK, packet.FlagSYN | packet.FlagACK, packet.FlagFIN | packet.FlagACK, packet.FlagRST}[r.IntN(5)]
	var m []byte
	switch number {
	case packet.NumTCP:
		m = tcp(port(), port(), flags)
	case packet.NumUDP:
		m = udp(port(), port(), r.IntN(1500))
	case packet.NumICMP:
		m = echo([]byte{8, 0}[r.IntN(2)], port())
	default:
		m = make([]byte, 20)
	}
	four := []netip.Addr{serverAddr, poolAddr, netip.MustParseAddr("198.51.100.30"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1")}
	if side = packet.Family(r.IntN(2)); side == packet.V4 {
		b = ip4(four[r.IntN(len(four))], four[r.IntN(2)], number, m)
	} else {
		if number == packet.NumICMP {
			number, m[0] = packet.NumICMPv6, []byte{128, 129}[r.IntN(2)]
		}
		client := clientAddr.As16()
		client[15] += byte(r.IntN(3))
		dst := behind64(four[r.IntN(len(four))])
		if r.IntN(10) == 0 {
			dst = clientAddr
		}
		b = ip6(netip.AddrFrom16(client), dst, number, m)
	}
	switch r.IntN(12) {
	case 0:
		b = hops(b, 1)
	case 1:
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	case 2:
		b = b[:r.IntN(len(b)-1)+1]
	case 3:
		if len(m) > 64 && side == packet.V6 {
			b = fragment6(b, r.Uint32(), 0, 64)
		} else if len(m) > 64 {
			b = fragment4(b, uint16(r.Uint32()), 0, 64)
		}
	}
	return side, b
}
