package gateway

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// awaking routes know a next hop from the second query on, or from one before the first packet ends.
type awaking struct {
	onLink
	asked, generation *atomic.Uint64
}

func (a awaking) Generation() uint64 { return a.generation.Load() }

func (a awaking) Hop4(f *packet.Selector4) (packet.Hop, bool, drop.Reason) {
	h, _, r := a.onLink.Hop4(f)
	if a.asked.Add(1) == 1 {
		return h, true, r
	}
	a.generation.Store(1)
	return h, false, r
}

// recorder keeps the last byte of each packet sent.
type recorder struct {
	nowhere
	sent []byte
}

func (r *recorder) Send(out []packet.Out) (int, error) {
	for i := range out {
		r.sent = append(r.sent, out[i].Payload[len(out[i].Payload)-1])
	}
	return 0, nil
}

// If a next hop becomes known within a batch, later packets do not overtake those that waited.
func TestParkedPacketsAreNotOvertaken(t *testing.T) {
	out := &recorder{}
	g := stillWith(t, func(o *Options) {
		a := awaking{asked: new(atomic.Uint64), generation: new(atomic.Uint64)}
		o.Routes, o.Hops = a, func() Hops { return a }
		o.Open = func(packet.Family, bool) (Port, error) { return out, nil }
	})
	var packets [][]byte
	for n := range byte(5) {
		p := udp6(1)
		p[len(p)-1] = n
		packets = append(packets, p)
	}
	g.workers[packet.V6].batch(frames(packets))
	g.workers[packet.V6].batch(nil)
	if got := string(out.sent); got != "\x00\x01\x02\x03\x04" {
		t.Errorf("the packets left in the order %v", out.sent)
	}
}

// unknown routes change all the time, but the requested next hop stays unknown.
type unknown struct {
	onLink
	generation *atomic.Uint64
}

func (u unknown) Generation() uint64 { return u.generation.Add(1) }

func (unknown) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{}, true, drop.None
}

// A waiting packet is counted once, however often it is checked.
func TestWaitingPacketIsCountedOnce(t *testing.T) {
	t.Parallel()
	g := stillWith(t, func(o *Options) {
		u := unknown{generation: new(atomic.Uint64)}
		o.Routes, o.Hops = u, func() Hops { return u }
	})
	w := g.workers[packet.V6]
	w.batch(frames([][]byte{udp6(1)}))
	for range 10 {
		w.batch(nil)
	}
	if n := g.Counters.Event(metrics.Parked); n != 1 || w.parked.len() != 1 {
		t.Errorf("%d packets are counted as having waited, %d wait", n, w.parked.len())
	}
}

// parkedOf is a packet of a client to a destination, of one byte that names it.
func parkedOf(client, destination, name byte) parkedFrame {
	return parkedFrame{
		frame: packet.Frame{Data: []byte{name}}, until: time.Second,
		way: way{side: packet.V4, four: packet.Selector4{Dst: packet.Addr4{destination}}, client: packet.Client{Addr: packet.Addr6{client}, Prefix: packet.Addr6{client}}},
	}
}

// names returns the names of the waiting packets in order, and empties the parking.
func (p *parking) names() (list []byte) {
	for n := p.oldest(); n != 0; n = p.oldest() {
		list = append(list, p.take(n).frame.Data[0])
	}
	return list
}

func TestParkingLimitsShares(t *testing.T) {
	t.Parallel()
	share, few := maxParked/parkedParts[ofDestination], maxParked/parkedParts[ofAddress]
	var p parking
	p.add(parkedOf(1, 1, 'a'))
	p.add(parkedOf(2, 2, 'b'))
	for i := range 2 * share { // a client scans
		if gone := p.add(parkedOf(3, byte(3+i%200), 'c')); gone != min(max(i+1-few, 0), 1) {
			t.Fatalf("%d packets were evicted for the client's packet %d", gone, i)
		}
	}
	if p.len() != few+2 || p.shares[shareKey{ofAddress, packet.Addr6{3}}].packets != few {
		t.Errorf("%d packets wait", p.len())
	}
	for i := range 2 * share { // many clients flood the destination of the second one
		p.add(parkedOf(byte(4+i%100), 2, 'd'))
	}
	if n := p.shares[shareKey{ofDestination, mapped4(packet.Addr4{2})}].packets; n != share {
		t.Errorf("%d packets wait for one destination", n)
	}
	list := p.names()
	if list[0] != 'a' || bytes.Count(list, []byte("c")) != few || len(p.shares) != 0 || p.len() != 0 {
		t.Errorf("%q waited, %d shares are left", list, len(p.shares))
	}
}

// A client that floods a destination first displaces its own packets there.
func TestParkingEvictsOwnPacketsFirst(t *testing.T) {
	t.Parallel()
	var p parking
	p.add(parkedOf(1, 1, 'a'))
	p.add(parkedOf(2, 1, 'b'))
	for range 2 * maxParked {
		p.add(parkedOf(2, 1, 'c'))
	}
	if list := p.names(); list[0] != 'a' || len(list) != maxParked/parkedParts[ofAddress]+1 || bytes.Contains(list, []byte("b")) {
		t.Errorf("%q waited", list)
	}
}

func TestParkingIsBounded(t *testing.T) {
	t.Parallel()
	var p parking
	gone := 0
	for i := range 2 * maxParked {
		gone += p.add(parkedOf(byte(i), byte(i), byte(i*256/maxParked/2)))
	}
	list := p.names()
	if gone != maxParked || len(list) != maxParked || list[0] != 128 || !slices.IsSorted(list) {
		t.Errorf("%d packets were evicted, %d waited, the oldest was number %d", gone, len(list), list[0])
	}
	if len(p.slots) != maxParked+1 {
		t.Errorf("%d slots for %d packets", len(p.slots), maxParked)
	}
	for i := range byte(200) { // packets that are large
		f := parkedOf(i, i, i)
		f.frame.Data = make([]byte, 60000)
		p.add(f)
	}
	if s := p.shares[shareKey{}]; s.bytes > maxParkedBytes {
		t.Errorf("%d bytes wait", s.bytes)
	}
	f := parkedOf(0, 0, 0)
	f.frame.Data = make([]byte, maxParkedBytes+1)
	if p.add(f); p.len() != 1 { // alone, as no ring hands over such a packet
		t.Errorf("%d packets wait together with one that fills all of it", p.len())
	}
}
