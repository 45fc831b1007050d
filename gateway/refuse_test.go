package gateway

import (
	"bytes"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/packet"
	"nat64d/synstore"
)

// flapping routes know the neighbours in every other answer only, beginning with yes or no.
type flapping struct {
	home
	known *bool
}

func (f flapping) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	*f.known = !*f.known
	return packet.Hop{MTU: 1500}, *f.known, drop.None
}

func (f flapping) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	*f.known = !*f.known
	return packet.Hop{MTU: 1500}, *f.known, drop.None
}

// A stored SYN is answered once and nothing else is parked for it, when its sender's link address is lost and found
// between any two look-ups.
func TestStoredSYNIsAnsweredWhileItsNeighbourFlaps(t *testing.T) {
	for _, turned := range []bool{false, true} {
		for _, known := range []bool{false, true} {
			var sent []caught
			now := time.Duration(0)
			g := stillWith(t, func(o *Options) {
				f := flapping{known: &known}
				o.Routes, o.Hops = f, func() Hops { return f }
				o.Config.SYNs = synstore.Limits{Total: 8, Lifetime: time.Second}
				o.Clock = func() time.Duration { return now }
				o.Open = func(s Side, _ bool) (Port, error) { return &catch{side: s, all: &sent}, nil }
			})
			side, syn := V4, synTo4(packet.Addr4{198, 51, 100, 20}, packet.Addr4{192, 0, 2, 1})
			if turned {
				side, syn = V6, client([6]byte{0, 1, 1, 7, 9, packet.FlagSYN}, nil)
				syn[packet.IPv6Len+2] = 20 // to port 5120 and more, of pool4
			}
			g.workers[side].batch(frames([][]byte{syn}))
			if n := g.Counters.Drops(drop.StoredSYN); n != 1 {
				t.Fatalf("%d SYNs were stored", n)
			}
			w := g.workers[V4]
			w.top = packet.Frame{Data: []byte("a frame that has been freed")}
			sent, now = nil, time.Minute
			for g.sweepSYNs(now) {
			}
			for range 4 {
				w.batch(nil)
			}
			if w.parked.len() != 0 {
				t.Errorf("%d frames are parked", w.parked.len())
			}
			if len(sent) != 1 || sent[0].side != side || !isError(sent[0].ip) || !bytes.HasSuffix(sent[0].ip, syn) {
				t.Errorf("turned %v, first known %v: %+v was sent, want one error that quotes the SYN", turned, known, sent)
			}
		}
	}
}

// synTo4 returns a TCP SYN in IPv4 to port 5000.
func synTo4(src, dst packet.Addr4) []byte {
	b := make([]byte, packet.IPv4Len+packet.TCPLen)
	packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumTCP}, len(b), &src, &dst)
	h := b[packet.IPv4Len:]
	h[1], h[2], h[3], h[12], h[13] = 80, 5000>>8, 5000&0xff, packet.TCPLen/4<<4, packet.FlagSYN
	return b
}

// FuzzAnswerable looks for packets that are ICMP errors, behind whatever headers, and might be answered.
func FuzzAnswerable(f *testing.F) {
	f.Add(client([6]byte{2, 1, 0, 7, 9, 64}, nil))
	f.Add(synTo4(packet.Addr4{198, 51, 100, 20}, packet.Addr4{192, 0, 2, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v packet.View
		if v.Parse6(b) == drop.None {
			bad := v.Headers6()
			if icmp.Answerable6(&v) && (v.Error || bad == drop.Fragment && v.Number == packet.NumICMPv6 && v.Later()) {
				t.Errorf("%x may be answered", b)
			}
		}
		if v.Parse4(b) == drop.None {
			v.Transport4()
			if icmp.Answerable4(&v) && v.Error {
				t.Errorf("%x may be answered", b)
			}
		}
	})
}
