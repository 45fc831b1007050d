package gateway

import (
	"nat64d/drop"
	"nat64d/egress"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// leave4 sends a translated packet into the IPv4 network.
func (w *worker) leave4(v *packet.View, o *packet.Out) drop.Reason {
	hop, pending, r := w.hop4(w.out.Leaving4(o), w.sender())
	switch {
	case pending:
		return w.park()
	case r != drop.None:
		return w.refuse6(v, r, 0)
	}
	mtu, r := w.out.Send4(&egress.Packet{Out: o, From: v, Pieces: w.pieces(v), Hop: hop, Direction: w.direction(metrics.From6To4)})
	if mtu != 0 {
		return w.refuse6(v, r, mtu)
	}
	return r
}

// leave6 sends a translated packet into the IPv6 network.
func (w *worker) leave6(v *packet.View, o *packet.Out) drop.Reason {
	hop, pending, r := w.hop6(w.out.Leaving6(o), w.sender())
	switch {
	case pending:
		return w.park()
	case r != drop.None:
		return w.refuse4(v, r, 0)
	}
	mtu, r := w.out.Send6(&egress.Packet{Out: o, From: v, Pieces: w.pieces(v), Hop: hop, Direction: w.direction(metrics.From4To6)})
	if mtu != 0 {
		return w.refuse4(v, r, mtu)
	}
	return r
}

// pieces returns what v was before it was whole; nil if its translation need not be split as v was.
func (w *worker) pieces(v *packet.View) *fragment.Whole {
	if w.whole.Data == nil || v.Error {
		return nil
	}
	return &w.whole
}

// direction returns d, or that of a hairpinned packet.
func (w *worker) direction(d metrics.Direction) metrics.Direction {
	if w.hairpin {
		return metrics.Hairpin
	}
	return d
}

// turns says whether a packet, with the tuple of its translation, goes to one of our own transport addresses. A query has
// one Identifier for both ends.
func (w *worker) turns(p packet.Proto, t *packet.Tuple4) bool {
	dst := t.Dst
	if p == packet.ICMP {
		dst.Port = t.Src.Port
	}
	return w.owns(p, dst)
}

// turn takes a packet whose translation goes to an address of pool4 back to the IPv6 side, as if it had arrived from the
// IPv4 side (RFC 6146 section 3.8). The two translations are one hop: the second one takes it.
func (w *worker) turn(o *packet.Out) drop.Reason {
	w.hair = append(append(w.hair[:0], o.Head[packet.Headroom:]...), o.Payload...)
	o.Inner.Complete(w.hair[len(w.hair)-len(o.Payload):])
	packet.IPv4(w.hair).PutTTL(packet.IPv4(w.hair).TTL() + 1)
	w.hairpin = true
	r := w.from4(&packet.Frame{Data: w.hair, Offload: o.Offload})
	w.out.Flush() // the next hairpinned packet uses the same memory
	return r
}
