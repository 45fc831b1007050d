package fragment_test

import (
	"encoding/binary"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// FuzzReassemble reads its input as a stream of well-formed fragments and pauses, of 6 bytes each, which it adds to a
// Reassembler and to the model.
func FuzzReassemble(f *testing.F) {
	f.Add([]byte{0, 0, 0, 125, 1, 0, 0, 0, 125, 60, 0, 0}, true)
	f.Add([]byte{0, 0, 125, 60, 0, 0, 3, 0, 0, 0, 0, 250, 0, 0, 0, 125, 1, 0}, false)
	f.Add([]byte{4, 0, 0, 250, 1, 0, 4, 0, 124, 250, 1, 0, 4, 0, 200, 9, 0, 5}, true)
	f.Fuzz(func(t *testing.T, stream []byte, v6 bool) {
		p := newPair()
		for ; len(stream) >= 6; stream = stream[6:] {
			op, high, low, units, flags, rest := stream[0], stream[1], stream[2], stream[3], stream[4], stream[5]
			if op&3 == 3 {
				p.wait(t, time.Duration(units)*8*time.Millisecond)
				continue
			}
			g := frag{v6: v6, next: packet.NumUDP, source: op & 3, id: uint32(op >> 2 & 7), more: flags&1 != 0}
			g.offset = int(high&3)<<11 + int(low)*8
			g.data = payload(int(units)*8+8, int(flags>>1&1))
			if !g.more {
				g.data = g.data[:len(g.data)-int(rest&7)]
				if g.offset == 0 {
					continue // it is complete
				}
			}
			p.add(t, g)
		}
		p.wait(t, time.Hour)
		if p.r.Len() != 0 || p.r.Bytes() != 0 {
			t.Fatalf("%d datagrams of %d bytes are left after all time-outs", p.r.Len(), p.r.Bytes())
		}
	})
}

// FuzzAdd reads its input as arbitrary IP packets, each after a byte of time and two of length. A complete datagram
// must parse, and the limits must hold.
func FuzzAdd(f *testing.F) {
	seed := func(base frag) {
		base.data = payload(300, 0)
		var stream []byte
		for _, g := range base.cut(104) {
			b := g.build()
			stream = binary.BigEndian.AppendUint16(append(stream, 1), uint16(len(b)))
			stream = append(stream, b...)
		}
		f.Add(stream)
	}
	seed(frag{v6: true, next: packet.NumTCP})
	seed(frag{v6: true, next: packet.NumICMPv6, ext: options6(packet.NumFragment, 16)})
	seed(frag{next: packet.NumUDP, ext: []byte{1, 1, 1, 0}, df: true})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := fragment.New(modelLimits)
		now, kept := time.Duration(0), 0
		for len(stream) >= 3 {
			now += time.Duration(stream[0]) * 10 * time.Millisecond
			n := min(int(binary.BigEndian.Uint16(stream[1:])), len(stream)-3)
			v, bad := parse(stream[3 : 3+n])
			stream = stream[3+n:]
			if bad != drop.None || !fragmented(&v) {
				continue
			}
			w, bad := addView(r, &v, now)
			if bad == drop.None {
				kept++
			}
			if w.Data != nil {
				checkWhole(t, w)
			}
			if r.Bytes() > modelLimits.Bytes || r.Len() > modelLimits.Bytes/block || r.Len() > kept {
				t.Fatalf("%d datagrams of %d bytes", r.Len(), r.Bytes())
			}
		}
		r.Expire(now + time.Hour)
		if r.Len() != 0 || r.Bytes() != 0 {
			t.Fatalf("%d datagrams of %d bytes are left after all time-outs", r.Len(), r.Bytes())
		}
	})
}

// fragmented reports whether a packet that parse has read is a fragment, and not an atomic one.
func fragmented(v *packet.View) bool {
	c := *v
	if v.Data[0]>>4 == 4 {
		return c.Transport4() == drop.Fragment
	}
	return c.Transport6() == drop.Fragment
}

func addView(r *fragment.Reassembler, v *packet.View, now time.Duration) (fragment.Whole, drop.Reason) {
	if v.Data[0]>>4 == 4 {
		return r.Add4(v, now)
	}
	return r.Add6(v, now)
}

func checkWhole(t *testing.T, w fragment.Whole) {
	v, bad := parse(w.Data)
	if bad != drop.None || len(v.Data) != len(w.Data) || fragmented(&v) || v.Fragmented {
		t.Fatalf("a complete datagram does not parse: %v: %x", bad, w.Data)
	}
	if w.Largest <= 0 || w.Largest >= len(v.Transport()) {
		t.Fatalf("the datagram has %d bytes, its largest part %d", len(v.Transport()), w.Largest)
	}
}
