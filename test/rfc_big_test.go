package test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// longest is the maximum length of the kernel's super-packets (GSO_MAX_SIZE).
const longest = 8 * 65535

// longFrame adds a payload to a TCP packet without one. The result is a super-packet with segments of size bytes and
// the flags FIN, PSH, ACK and CWR. Its IP header has no length; with option, an IPv6 packet has it in a Jumbo Payload
// option.
func longFrame(b []byte, payload, size int, option bool) packet.Frame {
	l4, kind := packet.IPv6Len, packet.GSOTCPv6
	if b[0]>>4 == 4 {
		l4, kind = packet.IPv4Len, packet.GSOTCPv4
	}
	ip, tcp := bytes.Clone(b[:l4]), bytes.Clone(b[l4:])
	binary.BigEndian.PutUint32(tcp[4:], 0xffff0000) // the sequence numbers wrap
	tcp[13] = packet.FlagACK | packet.FlagFIN | 0x08 | 0x80
	if b[0]>>4 == 4 {
		ip[2], ip[3], ip[10], ip[11] = 0, 0, 0, 0
		binary.BigEndian.PutUint16(ip[10:], packet.Sum(0).Bytes(ip).Checksum())
	} else {
		ip[4], ip[5] = 0, 0
		if option {
			ip[6] = packet.NumHopByHop
			ip = append(ip, packet.NumTCP, 0, 0xc2, 4)
			ip = binary.BigEndian.AppendUint32(ip, uint32(8+len(tcp)+payload))
		}
	}
	f := packet.Frame{Offload: packet.Offload{Checksum: packet.ChecksumPartial, GSO: kind, ECN: true, GSOSize: uint16(size),
		HdrLen: uint16(len(ip) + len(tcp)), CsumStart: uint16(len(ip)), CsumOffset: packet.TCPChecksum}}
	f.Data = append(ip, tcp...)
	for i := range payload {
		f.Data = append(f.Data, byte(i>>8^i))
	}
	return f
}

// A TCP super-packet of more than 64 KiB is split into several: the whole payload in order, each with correct
// lengths, checksums and sequence numbers, CWR only on the first, PSH and FIN only on the last.
func TestBigTCPIsSplit(t *testing.T) {
	for _, c := range []struct {
		side    packet.Family
		payload int
		size    int
		option  bool
	}{
		{packet.V6, 65516, 1440, true}, {packet.V6, 65516, 1440, false}, {packet.V6, 196608, 1428, true}, {packet.V6, longest - 100, 1440, false},
		{packet.V4, 65516, 1440, false}, {packet.V4, 196608, 1428, false}, {packet.V4, longest - 100, 1440, false},
	} {
		t.Run(fmt.Sprintf("%v %d", c.side, c.payload), func(t *testing.T) {
			t.Parallel()
			s := newSetting(t, ordinary())
			port := connect(t, s)
			b, l4, kind := from6(packet.NumTCP, packet.FlagACK, 0), packet.IPv4Len, packet.GSOTCPv4
			if c.side == packet.V4 {
				b, l4, kind = from4(packet.NumTCP, packet.FlagACK, 0, port, true), packet.IPv6Len, packet.GSOTCPv6
			}
			f := longFrame(b, c.payload, c.size, c.option)
			want := bytes.Clone(f.Data[len(f.Data)-c.payload:])
			got := s.sendFrames(c.side, f)
			if least := c.payload/0xffff + 1; len(got) < least {
				t.Fatalf("%d packets came out, want %d or more; drops %v", len(got), least, metrics.Lines(s.Counters.Samples()))
			}
			next := uint32(0xffff0000)
			for i, p := range got {
				last := i == len(got)-1
				tcp, payload := p.ip[l4:l4+packet.TCPLen], p.ip[l4+packet.TCPLen:]
				if seq := binary.BigEndian.Uint32(tcp[4:]); seq != next || !bytes.HasPrefix(want, payload) {
					t.Fatalf("part %d: sequence number %d, want %d", i, seq, next)
				}
				next, want = next+uint32(len(payload)), want[len(payload):]
				flags := byte(packet.FlagACK)
				if i == 0 {
					flags |= 0x80
				}
				if last {
					flags |= packet.FlagFIN | 0x08
				}
				if tcp[13] != flags || p.offload.ECN != (i == 0) {
					t.Errorf("part %d: flags %#x, ECN %v; want %#x", i, tcp[13], p.offload.ECN, flags)
				}
				if !last && (p.offload.GSO != kind || len(payload)%c.size != 0) {
					t.Errorf("part %d: %+v with %d bytes", i, p.offload, len(payload))
				}
				if p.offload.Checksum != packet.ChecksumPartial { // that it is the sum of the pseudo-header, outputs.check sees
					t.Errorf("part %d: %+v, want the checksum left to the NIC", i, p.offload)
				}
			}
			if len(want) != 0 {
				t.Errorf("%d bytes did not come out", len(want))
			}
		})
	}
}

// A packet of more than 64 KiB that cannot be split is dropped with a specific reason, or left to the host if it is for the host.
func TestPacketsBeyond64KiBAreRefused(t *testing.T) {
	t.Parallel()
	s := newSetting(t, ordinary())
	port := connect(t, s)
	syn6, syn4 := from6(packet.NumTCP, packet.FlagACK, 0), from4(packet.NumTCP, packet.FlagACK, 0, port, true)
	edit := func(f packet.Frame, change func(*packet.Frame)) packet.Frame {
		change(&f)
		return f
	}
	plain := func(f *packet.Frame) { f.Offload = packet.Offload{} }
	udp := func(f *packet.Frame) { f.Offload.GSO, f.Offload.CsumOffset = packet.GSOUDPL4, packet.UDPChecksum }
	unverified := func(f *packet.Frame) { f.Offload.Checksum = packet.ChecksumUnknown }
	for name, c := range map[string]struct {
		side packet.Family
		f    packet.Frame
		want drop.Reason
	}{
		"jumbogram":                    {packet.V6, edit(longFrame(syn6, 70000, 1440, true), plain), drop.Large},
		"jumbogram without its option": {packet.V6, edit(longFrame(syn6, 70000, 1440, false), plain), drop.Large},
		"IPv4 packet without a length": {packet.V4, edit(longFrame(syn4, 70000, 1440, false), plain), drop.Large},
		"joined datagrams, IPv6":       {packet.V6, edit(longFrame(syn6, 70000, 1440, true), udp), drop.Large},
		"joined datagrams, IPv4":       {packet.V4, edit(longFrame(syn4, 70000, 1440, false), udp), drop.Large},
		"whole checksum":               {packet.V6, edit(longFrame(syn6, 70000, 1440, true), unverified), drop.Offload},
		"a segment of 64 KiB":          {packet.V4, longFrame(syn4, 70000, 65500, false), drop.Offload},
		"length beyond the frame":      {packet.V6, edit(longFrame(syn6, 70000, 1440, true), func(f *packet.Frame) { f.Data[44] = 1 }), drop.Truncated},
		"length within the headers":    {packet.V6, edit(longFrame(syn6, 70000, 1440, true), func(f *packet.Frame) { clear(f.Data[45:48]); f.Data[47] = 7 }), drop.Truncated},
		"another option":               {packet.V6, edit(longFrame(syn6, 70000, 1440, true), func(f *packet.Frame) { f.Data[42] = 5 }), drop.Large},
		"TCP header beyond the end":    {packet.V6, edit(longFrame(syn6, 70000, 1440, true), func(f *packet.Frame) { clear(f.Data[44:48]); f.Data[47] = 8 + 19 }), drop.TCPHeader},
		"short TCP header":             {packet.V4, edit(longFrame(syn4, 70000, 1440, false), func(f *packet.Frame) { f.Data[32] = 0x40 }), drop.TCPHeader},
		"wrong IPv4 checksum":          {packet.V4, edit(longFrame(syn4, 70000, 1440, false), func(f *packet.Frame) { f.Data[10]++ }), drop.HeaderChecksum4},
		"short IPv4 header":            {packet.V4, edit(longFrame(syn4, 70000, 1440, false), func(f *packet.Frame) { f.Data[0] = 0x44 }), drop.Header4},
		"to the host, IPv6":            {packet.V6, edit(longFrame(syn6, 70000, 1440, true), func(f *packet.Frame) { f.Data[24] = 0x30 }), drop.NotPool6},
		"to the host, IPv4":            {packet.V4, edit(longFrame(syn4, 70000, 1440, false), func(f *packet.Frame) { f.Data[16] = 10 }), drop.NotPool4},
	} {
		before := s.Counters.Drops(c.want)
		nothing(t, s.sendFrames(c.side, c.f))
		if n := s.Counters.Drops(c.want) - before; n != 1 {
			t.Errorf("%s: %d drops were counted as %v, want one", name, n, c.want)
		}
	}
}
