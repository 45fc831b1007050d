package gateway

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// asleep routes know no link address until they are woken.
type asleep struct {
	home
	woken *atomic.Bool
}

func (a asleep) Generation() uint64 {
	if a.woken.Load() {
		return 1
	}
	return 0
}

func (a asleep) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, !a.woken.Load(), drop.None
}

func (a asleep) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, !a.woken.Load(), drop.None
}

// tape is a port that records sent packets with their metadata.
type tape struct {
	nowhere
	outs []packet.Out
}

func (r *tape) Send(out []packet.Out) (int, error) {
	for _, o := range out {
		ip := slices.Concat(o.Head[packet.Headroom:], o.Payload)
		if ip[0]>>4 == 4 { // the Identification, and with it the checksum, differs between gateways
			clear(ip[4:6])
			clear(ip[10:12])
		}
		r.outs = append(r.outs, packet.Out{Payload: ip, Offload: o.Offload})
	}
	return 0, nil
}

// halfDone returns packets from or to the client 2001:db8::8 whose transport checksum, or that of a tunnelled packet,
// is left to the NIC.
func halfDone(mapped packet.Endpoint4) map[string]struct {
	side  packet.Family
	frame packet.Frame
} {
	src := packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 8}
	self := peerAddr
	copy(self[12:], mapped.Addr[:])
	peer := packet.Addr4{198, 51, 100, 20}
	tcp := make([]byte, packet.TCPLen+5)
	tcp[12], tcp[13] = packet.TCPLen/4<<4, packet.FlagSYN
	plain := append(make([]byte, 3), "hello"...) // an odd length
	// A tunnel: 8 bytes of its header, and a UDP datagram at an odd offset whose checksum is the sum of a pseudo-header.
	tunnel := append(make([]byte, 9), 0x30, 0x39, 0, 53, 0, 13, 0x12, 0x34, 'i', 'n', 's', 'i', 'd')
	udp := func(from, to uint16, sum uint16, payload []byte) []byte {
		b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
		b = binary.BigEndian.AppendUint16(b, uint16(packet.UDPLen+len(payload)))
		return append(binary.BigEndian.AppendUint16(b, sum), payload...)
	}
	six := func(dst packet.Addr6, number uint8, message []byte, start, at int) packet.Frame {
		b := append(make([]byte, packet.IPv6Len), message...)
		packet.IPv6(b).Put(0, len(message), number, 64, &src, &dst)
		off := packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(packet.IPv6Len + start), CsumOffset: uint16(at)}
		return packet.Frame{Data: b, Offload: off}
	}
	four := func(message []byte, start, at int) packet.Frame {
		b := append(make([]byte, packet.IPv4Len), message...)
		packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP}, len(b), &peer, &mapped.Addr)
		off := packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: uint16(packet.IPv4Len + start), CsumOffset: uint16(at)}
		return packet.Frame{Data: b, Offload: off}
	}
	late := six(peerAddr, packet.NumUDP, udp(1, 53, 7, tunnel), packet.UDPLen+9, packet.UDPChecksum)
	late.Data[7] = 1
	type one = struct {
		side  packet.Family
		frame packet.Frame
	}
	return map[string]one{
		"udp to IPv4":              {packet.V6, six(peerAddr, packet.NumUDP, udp(1, 53, 7, plain), 0, packet.UDPChecksum)},
		"tcp to IPv4":              {packet.V6, six(peerAddr, packet.NumTCP, tcp, 0, packet.TCPChecksum)},
		"tunnel to IPv4":           {packet.V6, six(peerAddr, packet.NumUDP, udp(1, 53, 7, tunnel), packet.UDPLen+9, packet.UDPChecksum)},
		"tunnel that turns":        {packet.V6, six(self, packet.NumUDP, udp(1, mapped.Port, 7, tunnel), packet.UDPLen+9, packet.UDPChecksum)},
		"tunnel, hop limit":        {packet.V6, late},
		"udp to IPv6":              {packet.V4, four(udp(53, mapped.Port, 7, plain), 0, packet.UDPChecksum)},
		"tunnel to IPv6":           {packet.V4, four(udp(53, mapped.Port, 7, tunnel), packet.UDPLen+9, packet.UDPChecksum)},
		"tunnel to IPv6, checksum": {packet.V4, four(udp(53, mapped.Port, 0, tunnel), packet.UDPLen+9, packet.UDPChecksum)},
	}
}

// A packet that has waited for a link address is sent like one that has not, and is not changed while it waits.
func TestParkedPacketsAreSentUnchanged(t *testing.T) {
	run := func(name string, wait bool) []packet.Out {
		out, woken := &tape{}, new(atomic.Bool)
		woken.Store(true)
		g := stillWith(t, func(o *Options) {
			a := asleep{woken: woken}
			o.Routes, o.Hops = a, func() Hops { return a }
			o.Open = func(packet.Family, bool) (Port, error) { return out, nil }
		})
		g.workers[packet.V6].batch(frames([][]byte{udp6(1)}))
		mapped, _ := g.Bindings.Lookup6(packet.UDP, packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 8}, Port: 1})
		one := halfDone(mapped)[name]
		w, before := g.workers[one.side], bytes.Clone(one.frame.Data)
		out.outs = nil
		if wait {
			woken.Store(false)
			w.batch(nil)
			w.batch([]packet.Frame{one.frame})
			if len(out.outs) != 0 || w.parked.len() != 1 {
				t.Fatalf("%s: %d packets left, %d wait", name, len(out.outs), w.parked.len())
			}
			if !bytes.Equal(one.frame.Data, before) {
				t.Errorf("%s: the received packet has been changed:\n%x, was\n%x", name, one.frame.Data, before)
			}
			woken.Store(true)
			w.batch(nil)
			return out.outs
		}
		w.batch([]packet.Frame{one.frame})
		return out.outs
	}
	for name := range halfDone(packet.Endpoint4{}) {
		want, got := run(name, false), run(name, true)
		if len(want) != 1 || len(got) != 1 {
			t.Errorf("%s: %d packets left at once, %d after waiting, want one", name, len(want), len(got))
			continue
		}
		if !bytes.Equal(got[0].Payload, want[0].Payload) || got[0].Offload != want[0].Offload {
			t.Errorf("%s: after waiting left\n%x %+v, at once\n%x %+v", name, got[0].Payload, got[0].Offload, want[0].Payload, want[0].Offload)
		}
	}
}

// The checksum computed for a datagram without one covers a completed tunnelled checksum.
func TestTunnelWithoutChecksum(t *testing.T) {
	var all []caught
	g := stillWith(t, func(o *Options) {
		o.Open = func(s packet.Family, _ bool) (Port, error) { return &catch{side: s, all: &all}, nil }
	})
	g.workers[packet.V6].batch(frames([][]byte{udp6(1)}))
	mapped, _ := g.Bindings.Lookup6(packet.UDP, packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 8}, Port: 1})
	all = nil
	g.workers[packet.V4].batch([]packet.Frame{halfDone(mapped)["tunnel to IPv6, checksum"].frame})
	if len(all) != 1 || !all[0].good {
		t.Fatalf("%d packets left: %+v", len(all), all)
	}
}
