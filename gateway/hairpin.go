package gateway

import (
	"nat64d/drop"
	"nat64d/packet"
)

// turns reports whether a packet, with the tuple of its translation, is for one of the gateway's own transport
// addresses. A query has the same Identifier at both ends.
func (w *worker) turns(p packet.Proto, t *packet.Tuple4) bool {
	dst := t.Dst
	if p == packet.ICMP {
		dst.Port = t.Src.Port
	}
	return w.owns(p, dst)
}

// turn makes take process the translation o, whose destination is an address of pool4, as if it had arrived from the
// IPv4 side (RFC 6146 section 3.8). Both translations count as one hop, which the second one decrements.
func (w *worker) turn(p *inflight, o *packet.Out) drop.Reason {
	b := append(append(w.hairpinBuf[:0], o.Head[packet.Headroom:]...), o.Payload...)
	w.hairpinBuf = b
	o.Inner.Complete(b[len(b)-len(o.Payload):])
	packet.IPv4(b).PutTTL(packet.IPv4(b).TTL() + 1)
	p.frame = packet.Frame{Data: b, Offload: o.Offload}
	p.hairpin, p.again, p.hint = true, true, nil // the hint is for the direction from IPv6
	return drop.None
}
