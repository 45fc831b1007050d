package gateway

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
	binary.BigEndian.PutUint16(h[at:], pseudo(ip, ipLen, size+len(payload)).Bytes(h).Bytes(payload).Checksum())
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
				h[13] &^= flagPSH
			}
		}
		binary.BigEndian.PutUint16(h[o.Offload.CsumOffset:], 0)
		c := pseudo(b, ipLen, len(h)).Bytes(h).Checksum()
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

// TestMergingChangesNothing joins random batches and takes them apart again: each flow's packets come out as they were,
// in their order.
func TestMergingChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "six")
		kinds := [3]uint8{number(t), number(t), number(t)}
		seq := [3]uint32{}
		outs := make([]packet.Out, rapid.IntRange(1, batch).Draw(t, "packets"))
		var want [][]byte
		for i := range outs {
			f := rapid.IntRange(0, 2).Draw(t, "flow")
			payload := bytes.Repeat([]byte{byte(i)}, rapid.SampledFrom([]int{0, 1, 8, 8, 8, 1400, 1400}).Draw(t, "size"))
			flags := rapid.SampledFrom([]byte{packet.FlagACK, packet.FlagACK, packet.FlagACK, packet.FlagACK | flagPSH, packet.FlagACK | packet.FlagFIN}).Draw(t, "flags")
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

func TestAFlowLeavesAsOneSuperPacket(t *testing.T) {
	for number, kind := range map[uint8]packet.GSO{packet.NumTCP: packet.GSOTCPv4, packet.NumUDP: packet.GSOUDPL4} {
		var m merger
		i := newIDs()
		got := m.merge(burst(40, number), i.block)
		if len(got) != 1 || got[0].Offload.GSO != kind || got[0].Offload.GSOSize != 1400 || len(got[0].More) != 39 {
			t.Errorf("protocol %d: %d packets are left", number, len(got))
		}
	}
}

func TestACorruptPacketIsLeftAlone(t *testing.T) {
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

func TestMergingAllocatesNothing(t *testing.T) {
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
