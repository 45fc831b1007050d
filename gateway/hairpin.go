package gateway

import (
	"nat64d/drop"
	"nat64d/packet"
)

// turns reports whether a packet, with the tuple of its translation, goes to one of our own transport addresses. A query has
// one Identifier for both ends.
func (w *worker) turns(p packet.Proto, t *packet.Tuple4) bool {
	dst := t.Dst
	if p == packet.ICMP {
		dst.Port = t.Src.Port
	}
	return w.owns(p, dst)
}

// turn has take run a packet once more whose translation o goes to an address of pool4: back to the IPv6 side, as if o had arrived
// from the IPv4 side (RFC 6146 section 3.8). The two translations are one hop: the second one takes it.
func (w *worker) turn(p *inflight, o *packet.Out) drop.Reason {
	b := append(append(w.hairpinBuf[:0], o.Head[packet.Headroom:]...), o.Payload...)
	w.hairpinBuf = b
	o.Inner.Complete(b[len(b)-len(o.Payload):])
	packet.IPv4(b).PutTTL(packet.IPv4(b).TTL() + 1)
	p.frame = packet.Frame{Data: b, Offload: o.Offload}
	p.hairpin, p.again, p.hint = true, true, nil // the hint is for the way from IPv6
	return drop.None
}
