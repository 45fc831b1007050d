package fragment_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
	"nat64d/test/dissect"
)

// out returns a translated packet: a head of an IP header and l4 bytes of transport header, and the rest as payload.
func out(v6 bool, transport []byte, l4 int) *packet.Out {
	number, ipLen := uint8(packet.NumUDP), packet.IPv4Len
	if l4 > packet.UDPLen {
		number = packet.NumTCP
	}
	if v6 {
		ipLen = packet.IPv6Len
	}
	o := &packet.Out{Head: make([]byte, packet.Headroom+ipLen, 192), Payload: transport[l4:]}
	ip := o.Head[packet.Headroom:]
	if v6 {
		packet.IPv6(ip).Put(0xb9, len(transport), number, 63, &server6, &client6)
	} else {
		packet.IPv4(ip).Put(packet.Fields4{TOS: 0xb9, TTL: 63, Proto: number, DF: true, ID: 7}, ipLen+len(transport), &client4, &server4)
	}
	o.Head = append(o.Head, transport[:l4]...)
	return o
}

// split returns the IP packets into which o is split.
func split(t testing.TB, o *packet.Out, v6 bool, limit int, id uint32) [][]byte {
	t.Helper()
	var p fragment.Pieces
	r := drop.None
	if v6 {
		r = p.Split6(o, limit, id)
	} else {
		r = p.Split4(o, limit, uint16(id))
	}
	if r != drop.None {
		t.Fatalf("limit %d: %v", limit, r)
	}
	var list [][]byte
	for p.Next(o) { // over the packet that is split
		list = append(list, slices.Concat(o.Head[packet.Headroom:], o.Payload))
	}
	return list
}

// rejoin reassembles pieces in a random order and returns the transport header and payload.
func rejoin(t testing.TB, pieces [][]byte) (fragment.Whole, []byte) {
	t.Helper()
	r := fragment.New(fragment.Limits{PerSource: 10000, PerSourceBytes: 64 << 20, Bytes: 64 << 20})
	for i, at := range rand.Perm(len(pieces)) {
		w, bad := add(t, r, pieces[at], 0)
		if bad != drop.None {
			t.Fatal(bad)
		}
		if i == len(pieces)-1 {
			if w.Data == nil {
				t.Fatal("the pieces do not complete the datagram")
			}
			v, _ := parse(w.Data)
			return w, v.Transport()
		}
	}
	return fragment.Whole{}, nil
}

func sizes(pieces [][]byte) (n []int) {
	for _, p := range pieces {
		n = append(n, len(p))
	}
	return n
}

func TestSplitSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v6        bool
		transport int // bytes
		l4        int
		limit     int
		want      []int
	}{
		{true, 1480, 8, 1280, []int{1280, 296}},
		{true, 1241, 8, 1280, []int{1280, 57}},
		{true, 1480, 20, 1500, []int{1496, 80}},
		{true, 1232, 8, 1280, []int{1272}}, // one piece needs no Fragment header
		{true, 1233, 8, 1280, []int{1280, 49}},
		{true, 32, 8, 72, []int{72, 56}},
		{true, 0xffff - 20, 8, 32768, []int{32768, 32768, 48 + 75}},
		{true, 64, 60, 56 + 8, []int{64, 64, 64, 64}},
		{false, 1240, 8, 576, []int{572, 572, 156}},
		{false, 1240, 8, 1260, []int{1260}},
		{false, 1240, 8, 1259, []int{1252, 28}},
		{false, 1000, 60, 68, append(slices.Repeat([]int{68}, 20), 60)},
		{false, 8, 8, 28, []int{28}},
	} {
		transport := payload(c.transport, 0)
		pieces := split(t, out(c.v6, transport, c.l4), c.v6, c.limit, 0xbeef)
		if got := sizes(pieces); !slices.Equal(got, c.want) {
			t.Errorf("%d bytes into %d: %v, want %v", c.transport, c.limit, got, c.want)
		}
		for _, p := range pieces {
			if v, bad := parse(p); bad != drop.None || v.Fragmented != (c.v6 && len(pieces) > 1) {
				t.Errorf("%d bytes into %d: piece %x: %v", c.transport, c.limit, p[:40], bad)
			}
		}
	}
}

func TestSplitHeaders(t *testing.T) {
	t.Parallel()
	six := split(t, out(true, payload(3000, 0), 8), true, 1280, 0x1234)
	for i, word := range []uint16{1, 1232 | 1, 2464} {
		h := packet.IPv6(six[i])
		f := six[i][packet.IPv6Len:]
		if h.TrafficClass() != 0xb9 || h.HopLimit() != 63 || *h.Src() != server6 || *h.Dst() != client6 || h.NextHeader() != packet.NumFragment {
			t.Errorf("piece %d: header %x", i, six[i][:40])
		}
		if f[0] != packet.NumUDP || f[1] != 0 || binary.BigEndian.Uint16(f[2:]) != word || binary.BigEndian.Uint32(f[4:]) != 0x1234 {
			t.Errorf("piece %d: Fragment header %x", i, f[:8])
		}
	}
	four := split(t, out(false, payload(3000, 0), 8), false, 1500, 0x1234)
	for i, word := range []uint16{0x2000, 0x2000 | 185, 370} {
		h := packet.IPv4(four[i])
		if h.TOS() != 0xb9 || h.TTL() != 63 || *h.Src() != client4 || *h.Dst() != server4 || h.Protocol() != packet.NumUDP || h.ID() != 0x1234 {
			t.Errorf("piece %d: header %x", i, four[i][:20])
		}
		if w := binary.BigEndian.Uint16(four[i][6:]); w != word { // DF is 0
			t.Errorf("piece %d: flags and offset %#x, want %#x", i, w, word)
		}
	}
}

func TestSplitFinishesPartialChecksum(t *testing.T) {
	t.Parallel()
	for _, zero := range []bool{false, true} {
		transport := payload(3001, 0)
		binary.BigEndian.PutUint16(transport[4:], 3001)
		o := out(false, transport, 8)
		pseudo := packet.Sum(0).Addr4(&client4).Addr4(&server4).Pseudo(len(transport), packet.NumUDP)
		binary.BigEndian.PutUint16(o.Head[packet.Headroom+26:], pseudo.Fold())
		if zero { // a payload for which the checksum is zero, which UDP sends as 0xffff
			binary.BigEndian.PutUint16(o.Payload, 0)
			h := o.Head[packet.Headroom+packet.IPv4Len:]
			binary.BigEndian.PutUint16(o.Payload, packet.Sum(0).Bytes(h).Bytes(o.Payload).Checksum())
		}
		o.Offload = packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: packet.IPv4Len, CsumOffset: packet.UDPChecksum}
		whole, err := dissect.Whole(split(t, o, false, 1500, 1)...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := dissect.IP(whole)
		if err != nil {
			t.Fatalf("zero %v: %v", zero, err)
		}
		if zero && p.UDP.Checksum != 0xffff {
			t.Errorf("checksum %#x, want 0xffff", p.UDP.Checksum)
		}
		if o.Offload != (packet.Offload{}) {
			t.Errorf("pieces have metadata: %+v", o.Offload)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	var p fragment.Pieces
	super := out(true, payload(9000, 0), 20)
	super.Offload.GSO = packet.GSOTCPv6
	long := out(true, payload(9000, 0), 64)
	for name, c := range map[string]struct{ got, want drop.Reason }{
		"super-packet":           {p.Split6(super, 1280, 1), drop.Offload},
		"more than a header":     {p.Split6(long, 1280, 1), drop.TooBig},
		"no room in IPv6":        {p.Split6(out(true, payload(100, 0), 8), 55, 1), drop.TooBig},
		"room in IPv6":           {p.Split6(out(true, payload(100, 0), 8), 56, 1), drop.None},
		"no room in IPv4":        {p.Split4(out(false, payload(100, 0), 8), 27, 1), drop.TooBig},
		"room in IPv4":           {p.Split4(out(false, payload(100, 0), 8), 28, 1), drop.None},
		"a limit that is absurd": {p.Split4(out(false, payload(100, 0), 8), -1, 1), drop.TooBig},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// FuzzSplit splits its input and reassembles it.
func FuzzSplit(f *testing.F) {
	f.Add(payload(1480, 0), uint16(1280), uint32(0xbeef), uint8(0), true)
	f.Add(payload(1480, 0), uint16(576), uint32(0xbeef), uint8(12), false)
	f.Add(payload(64, 0), uint16(28), uint32(1), uint8(52), false)
	f.Add(payload(8, 0), uint16(56), uint32(1), uint8(0), true)
	f.Fuzz(func(t *testing.T, transport []byte, limit uint16, id uint32, more uint8, v6 bool) {
		l4 := packet.UDPLen + int(more%14)*4
		if len(transport) < l4 || len(transport) > 0xffff-packet.IPv4Len || limit < 56 ||
			len(transport) > 64*int(limit) { // more pieces take long and test nothing else
			return
		}
		if !v6 {
			id &= 0xffff
		}
		kept := bytes.Clone(transport)
		pieces := split(t, out(v6, transport, l4), v6, int(limit), id)
		for i, p := range pieces {
			if len(p) > int(limit) {
				t.Fatalf("piece %d has %d bytes, more than %d", i, len(p), limit)
			}
			if _, bad := parse(p); bad != drop.None {
				t.Fatalf("piece %d: %v", i, bad)
			}
		}
		if !bytes.Equal(transport, kept) {
			t.Fatal("the payload was changed")
		}
		if len(pieces) == 1 { // Add expects fragments
			if v, _ := parse(pieces[0]); v.Fragmented || !bytes.Equal(v.Transport(), transport) {
				t.Fatalf("one piece that differs from the packet: %x", pieces[0])
			}
			return
		}
		if first, _ := parse(pieces[0]); first.Number == packet.NumTCP && len(first.Transport()) < packet.TCPLen {
			return // Add refuses them; only a tiny limit leads to them
		}
		w, whole := rejoin(t, pieces)
		if !bytes.Equal(whole, transport) || w.ID != id || w.DF {
			t.Fatal("the reassembled packet differs")
		}
	})
}

func TestSplitDoesNotAllocate(t *testing.T) {
	six, four := out(true, payload(9000, 0), 20), out(false, payload(9000, 0), 20)
	o := out(true, payload(20, 0), 20)
	var p fragment.Pieces
	n := testing.AllocsPerRun(100, func() {
		_ = p.Split6(six, 1280, 1)
		for p.Next(o) {
		}
		_ = p.Split4(four, 576, 1)
		for p.Next(o) {
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSplit4(b *testing.B) {
	big, o := out(false, payload(1480, 0), 8), out(false, payload(8, 0), 8)
	var p fragment.Pieces
	for b.Loop() {
		_ = p.Split4(big, 576, 1)
		for p.Next(o) {
		}
	}
}

func BenchmarkSplit6(b *testing.B) {
	big, o := out(true, payload(1480, 0), 8), out(true, payload(8, 0), 8)
	var p fragment.Pieces
	for b.Loop() {
		_ = p.Split6(big, 1280, 1)
		for p.Next(o) {
		}
	}
}
