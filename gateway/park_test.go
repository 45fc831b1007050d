package gateway

import (
	"sync/atomic"
	"testing"

	"nat64d/drop"
	"nat64d/metrics"
	"nat64d/nexthop"
	"nat64d/packet"
)

// awaking routes know a next hop from the second question on, or from when that is before the first packet's end.
type awaking struct {
	onLink
	asked, generation *atomic.Uint64
}

func (a awaking) Generation() uint64 { return a.generation.Load() }

func (a awaking) Hop4(f nexthop.Flow4) (nexthop.Hop, bool, drop.Reason) {
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

// A next hop that becomes known within a batch lets no packet overtake those that have waited for it.
func TestParkedPacketsAreNotOvertaken(t *testing.T) {
	out := &recorder{}
	g := stillWith(t, func(o *Options) {
		a := awaking{asked: new(atomic.Uint64), generation: new(atomic.Uint64)}
		o.Routes, o.Hops = a, func() Hops { return a }
		o.Open = func(Side, bool) (Port, error) { return out, nil }
	})
	var packets [][]byte
	for n := range byte(5) {
		p := udp6(1)
		p[len(p)-1] = n
		packets = append(packets, p)
	}
	g.workers[V6].batch(frames(packets))
	g.workers[V6].batch(nil)
	if got := string(out.sent); got != "\x00\x01\x02\x03\x04" {
		t.Errorf("the packets left in the order %v", out.sent)
	}
}

// unknown routes change all the time, but not for the next hop that is asked for.
type unknown struct {
	onLink
	generation *atomic.Uint64
}

func (u unknown) Generation() uint64 { return u.generation.Add(1) }

func (unknown) Hop4(nexthop.Flow4) (nexthop.Hop, bool, drop.Reason) {
	return nexthop.Hop{}, true, drop.None
}

// TestAPacketThatWaitsIsCountedOnce, however often it is looked at again.
func TestAPacketThatWaitsIsCountedOnce(t *testing.T) {
	t.Parallel()
	g := stillWith(t, func(o *Options) {
		u := unknown{generation: new(atomic.Uint64)}
		o.Routes, o.Hops = u, func() Hops { return u }
	})
	w := g.workers[V6]
	w.batch(frames([][]byte{udp6(1)}))
	for range 10 {
		w.batch(nil)
	}
	if n := g.Counters.Event(metrics.Parked); n != 1 || w.parked.len() != 1 {
		t.Errorf("%d packets are counted as having waited, %d wait", n, w.parked.len())
	}
}
