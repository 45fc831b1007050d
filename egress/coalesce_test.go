package egress

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nat64d/packet"
)

// outgoing returns an IPv4 or IPv6 packet ready to be sent, with a right checksum.
func outgoing(six bool, number uint8, flow uint16, seq uint32, flags byte, payload []byte) packet.Out {
	ipLen := packet.IPv4Len
	if six {
		ipLen = packet.IPv6Len
	}
	size, at := packet.UDPLen, packet.UDPChecksum
	if number == packet.NumTCP {
		size, at = packet.TCPLen, packet.TCPChecksum
	}
	o := packet.Out{Head: make([]byte, packet.Headroom+ipLen+size, scratch), Payload: payload}
	ip := o.Head[packet.Headroom:]
	h := ip[ipLen:]
	binary.BigEndian.PutUint16(h, 1000+flow)
	binary.BigEndian.PutUint16(h[2:], 53)
	if number == packet.NumTCP {
		binary.BigEndian.PutUint32(h[4:], seq)
		h[12], h[13] = 0x50, flags
	} else {
		binary.BigEndian.PutUint16(h[4:], uint16(size+len(payload)))
	}
	if six {
		packet.IPv6(ip).Put(0, size+len(payload), number, 63, &packet.Addr6{0x20, 1, 15: 1}, &packet.Addr6{0x20, 1, 15: 2})
	} else {
		f := packet.Fields4{TTL: 63, Proto: number, DF: true, ID: uint16(seq)}
		packet.IPv4(ip).Put(f, len(ip)+len(payload), &packet.Addr4{192, 0, 2, 1}, &packet.Addr4{198, 51, 100, 20})
	}
	binary.BigEndian.PutUint16(h[at:], packet.PseudoHeader(ip, size+len(payload)).Bytes(h).Bytes(payload).Checksum())
	return o
}

// segments takes a packet apart as the kernel does, checksums included.
func segments(t interface{ Fatalf(string, ...any) }, o *packet.Out) [][]byte {
	if o.Offload.GSO == packet.GSONone {
		return [][]byte{slices.Concat(o.Head[packet.Headroom:], o.Payload)}
	}
	head := o.Head[packet.Headroom:]
	ipLen := int(o.Offload.CsumStart)
	all := slices.Concat(append([][]byte{o.Payload}, o.More...)...)
	if total := len(head) + len(all); ipLen == packet.IPv4Len && packet.IPv4(head).TotalLen() != total ||
		ipLen == packet.IPv6Len && packet.IPv6(head).PayloadLen() != total-packet.IPv6Len {
		t.Fatalf("a super-packet of %d bytes has another length in its header", total)
	}
	var out [][]byte
	for i, part := range slices.Collect(slices.Chunk(all, int(o.Offload.GSOSize))) {
		b := slices.Concat(head, part)
		h := b[ipLen:]
		if ipLen == packet.IPv4Len {
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
		}
		if o.Offload.GSO == packet.GSOUDPL4 {
			binary.BigEndian.PutUint16(h[4:], uint16(packet.UDPLen+len(part)))
		} else {
			binary.BigEndian.PutUint32(h[4:], binary.BigEndian.Uint32(h[4:])+uint32(i)*uint32(o.Offload.GSOSize))
			if (i+1)*int(o.Offload.GSOSize) < len(all) {
				h[13] &^= packet.FlagPSH
			}
		}
		binary.BigEndian.PutUint16(h[o.Offload.CsumOffset:], 0)
		c := packet.PseudoHeader(b, len(h)).Bytes(h).Checksum()
		binary.BigEndian.PutUint16(h[o.Offload.CsumOffset:], c)
		out = append(out, b)
	}
	return out
}

// comparable4 drops what may differ: the IPv4 Identification and the header checksum that covers it.
func comparable4(b []byte) []byte {
	if b[0]>>4 == 4 {
		b = bytes.Clone(b)
		copy(b[2:6], []byte{0, 0, 0, 0})
		copy(b[10:12], []byte{0, 0})
	}
	return b
}

// byFlow sorts packets by their source port, which names the flow, and family.
func byFlow(packets [][]byte) map[[2]uint16][][]byte {
	flows := map[[2]uint16][][]byte{}
	for _, b := range packets {
		at := packet.IPv4Len
		if b[0]>>4 == 6 {
			at = packet.IPv6Len
		}
		k := [2]uint16{uint16(b[0] >> 4), binary.BigEndian.Uint16(b[at:])}
		flows[k] = append(flows[k], comparable4(b))
	}
	return flows
}

func number(t *rapid.T) uint8 {
	return rapid.SampledFrom([]uint8{packet.NumTCP, packet.NumUDP}).Draw(t, "protocol")
}

// TestMergeIsTransparent joins random batches and takes them apart again: each flow's packets come out as they were,
// in their order.
func TestMergeIsTransparent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "six")
		kinds := [3]uint8{number(t), number(t), number(t)}
		seq := [3]uint32{}
		outs := make([]packet.Out, rapid.IntRange(1, batch).Draw(t, "packets"))
		var want [][]byte
		for i := range outs {
			f := rapid.IntRange(0, 2).Draw(t, "flow")
			payload := bytes.Repeat([]byte{byte(i)}, rapid.SampledFrom([]int{0, 1, 8, 8, 8, 1400, 1400}).Draw(t, "size"))
			flags := rapid.SampledFrom([]byte{packet.FlagACK, packet.FlagACK, packet.FlagACK, packet.FlagACK | packet.FlagPSH, packet.FlagACK | packet.FlagFIN}).Draw(t, "flags")
			outs[i] = outgoing(six, kinds[f], uint16(f), seq[f], flags, payload)
			seq[f] += uint32(len(payload)) + uint32(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(t, "gap"))
			if rapid.IntRange(0, 20).Draw(t, "corrupt") == 0 {
				h := outs[i].Head[len(outs[i].Head)-1:]
				h[0] ^= 0x55
			}
			want = append(want, slices.Concat(outs[i].Head[packet.Headroom:], payload))
		}
		var m merger
		i := newIDs()
		var got [][]byte
		for _, o := range m.merge(outs, i.block) {
			got = append(got, segments(t, &o)...)
		}
		a, b := byFlow(got), byFlow(want)
		for k := range b {
			if !slices.EqualFunc(a[k], b[k], bytes.Equal) {
				t.Fatalf("flow %v:\n got %x\nwant %x", k, a[k], b[k])
			}
		}
	})
}

// newIDs returns the generator of a side's only worker.
func newIDs() *ids {
	i := new(ids)
	i.seed(0, 1)
	return i
}

func burst(n int, number uint8) []packet.Out {
	outs := make([]packet.Out, n)
	for i := range outs {
		outs[i] = outgoing(false, number, 0, uint32(i*1400), packet.FlagACK, make([]byte, 1400))
	}
	return outs
}

func TestFlowIsCoalesced(t *testing.T) {
	for number, kind := range map[uint8]packet.GSO{packet.NumTCP: packet.GSOTCPv4, packet.NumUDP: packet.GSOUDPL4} {
		var m merger
		i := newIDs()
		got := m.merge(burst(40, number), i.block)
		if len(got) != 1 || got[0].Offload.GSO != kind || got[0].Offload.GSOSize != 1400 || len(got[0].More) != 39 {
			t.Errorf("protocol %d: %d packets are left", number, len(got))
		}
	}
}

func TestTCPOnlyDoesNotCoalesceUDP(t *testing.T) {
	for number, left := range map[uint8]int{packet.NumTCP: 1, packet.NumUDP: 40} {
		m := merger{tcpOnly: true}
		i := newIDs()
		if got := m.merge(burst(40, number), i.block); len(got) != left {
			t.Errorf("protocol %d: %d packets are left, want %d", number, len(got), left)
		}
	}
}

func TestCorruptPacketIsNotCoalesced(t *testing.T) {
	outs := burst(3, packet.NumUDP)
	outs[1].Payload = bytes.Clone(outs[1].Payload)
	outs[1].Payload[7] ^= 1
	var m merger
	i := newIDs()
	for _, o := range m.merge(outs, i.block) {
		if o.Offload.GSO != packet.GSONone {
			t.Error("a corrupt packet has become part of a good one")
		}
	}
}

// TestMergeConditions changes one thing in the second of two packets that would otherwise be coalesced.
func TestJoinsRefusesDifferentHeaders(t *testing.T) {
	const tcp, udp = packet.NumTCP, packet.NumUDP
	type change = func(ip, h []byte)
	at := func(i int) change { return func(ip, _ []byte) { ip[i] ^= 1 } }
	l4 := func(i int) change { return func(_, h []byte) { h[i] ^= 1 } }
	for _, c := range []struct {
		what    string
		six     bool
		number  uint8
		change  change
		options int
	}{
		{"TOS", false, udp, at(1), 0},
		{"DF", false, udp, func(ip, _ []byte) { ip[6] ^= 0x40 }, 0},
		{"TTL", false, udp, at(8), 0},
		{"source", false, udp, at(15), 0},
		{"destination", false, tcp, at(19), 0},
		{"source port", false, udp, l4(1), 0},
		{"destination port", true, udp, l4(3), 0},
		{"traffic class", true, udp, at(0), 0},
		{"flow label", true, tcp, at(3), 0},
		{"hop limit", true, udp, at(7), 0},
		{"source", true, tcp, at(23), 0},
		{"destination", true, udp, at(39), 0},
		{"sequence number", true, tcp, l4(7), 0},
		{"acknowledgement number", false, tcp, l4(11), 0},
		{"window", true, tcp, l4(15), 0},
		{"urgent pointer", false, tcp, l4(19), 0},
		{"SYN", false, tcp, func(_, h []byte) { h[13] |= packet.FlagSYN }, 0},
		{"an option", true, tcp, l4(27), 12},
		{"fewer options", false, tcp, nil, 12},
	} {
		lead := outgoing(c.six, c.number, 0, 100, packet.FlagACK, make([]byte, 8))
		next := outgoing(c.six, c.number, 0, 108, packet.FlagACK, make([]byte, 8))
		lead.Head = append(lead.Head, make([]byte, c.options)...)
		for _, changed := range []bool{false, true} {
			head := bytes.Clone(next.Head)
			if c.change != nil || !changed {
				head = append(head, make([]byte, c.options)...)
			}
			if changed && c.change != nil {
				ip := head[packet.Headroom:]
				l4 := packet.IPv4Len
				if c.six {
					l4 = packet.IPv6Len
				}
				c.change(ip, ip[l4:])
			}
			var f, g flow
			next := packet.Out{Head: head, Payload: next.Payload}
			joins := f.read(&lead) && g.read(&next) && f.ok && g.ok && f.joins(&lead, &next, &g)
			if joins == changed {
				t.Errorf("%s (IPv6 %v, protocol %d): changed %v, joins %v", c.what, c.six, c.number, changed, joins)
			}
		}
	}
}

// sizes returns the number of packets in each sent packet.
func sizes(outs []packet.Out) (n []int) {
	var m merger
	i := newIDs()
	for _, o := range m.merge(outs, i.block) {
		n = append(n, 1+len(o.More))
	}
	return n
}

func TestSuperPacketLimits(t *testing.T) {
	small := make([]packet.Out, 0, batch)
	for range batch {
		small = append(small, outgoing(true, packet.NumUDP, 0, 0, 0, []byte{1}))
	}
	if n := sizes(small); !slices.Equal(n, []int{batch}) {
		t.Errorf("small packets leave as %v", n)
	}
	if n := sizes(burst(batch, packet.NumTCP)); !slices.Equal(n, []int{46, 18}) { // 46 * 1400 + 40 bytes are the most below 64 KiB
		t.Errorf("large packets leave as %v", n)
	}
	fragment := outgoing(false, packet.NumUDP, 0, 0, 0, []byte{1})
	packet.IPv4(fragment.Head[packet.Headroom:]).Put(packet.Fields4{TTL: 63, Proto: packet.NumUDP, MF: true},
		packet.IPv4Len+9, &packet.Addr4{192, 0, 2, 1}, &packet.Addr4{198, 51, 100, 20})
	apart := append(append(burst(2, packet.NumUDP), fragment), burst(2, packet.NumUDP)...)
	if n := sizes(apart); !slices.Equal(n, []int{2, 1, 2}) {
		t.Errorf("packets around a fragment leave as %v", n)
	}
}

// When stamps wrap, merge does not treat an old slot as one of this batch.
func TestMergeClearsSlotsBeforeStampsWrap(t *testing.T) {
	i := newIDs()
	for back := range uint32(3 * batch) {
		m := merger{stamp: -back}
		for range 4 {
			total := 0
			for _, o := range m.merge(burst(3, packet.NumUDP), i.block) {
				total += len(segments(t, &o))
			}
			if total != 3 {
				t.Fatalf("stamp %d before the end: %d packets have become of 3", back, total)
			}
		}
	}
}

// TestMergeTrustsVerifiedChecksums: merge does not compute a checksum again that the NIC has verified.
func TestMergeTrustsVerifiedChecksums(t *testing.T) {
	for known, left := range map[packet.Checksum]int{packet.ChecksumUnknown: 3, packet.ChecksumGood: 1, packet.ChecksumPartial: 1} {
		outs := burst(3, packet.NumUDP)
		for i := range outs {
			outs[i].Offload.Checksum = known
			outs[i].Head[len(outs[i].Head)-1] ^= 1
		}
		if n := sizes(outs); len(n) != left {
			t.Errorf("of three packets whose checksum is %d, %d are left, want %d", known, len(n), left)
		}
	}
}

func TestMergeDoesNotAllocate(t *testing.T) {
	m, i := new(merger), newIDs()
	outs, again := burst(batch, packet.NumUDP), make([]packet.Out, batch)
	block := i.block
	if n := testing.AllocsPerRun(100, func() { copy(again, outs); m.merge(again, block) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMerge(b *testing.B) {
	m, i := new(merger), newIDs()
	outs, again := make([]packet.Out, batch), make([]packet.Out, batch)
	for n := range outs {
		outs[n] = outgoing(false, packet.NumUDP, uint16(n%4), 0, 0, make([]byte, 18))
	}
	for b.Loop() {
		copy(again, outs)
		m.merge(again, i.block)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
}
