package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/xlat"
)

// shorter is how much shorter an IPv4 header is than an IPv6 header, in bytes.
const shorter = packet.IPv6Len - packet.IPv4Len

// leave4 sends a translated packet into the IPv4 network, in pieces where it must and may be: a datagram that came in
// pieces, and one that its sender cannot make smaller (RFC 7915 section 5.1).
func (w *worker) leave4(v *packet.View, o *packet.Out) drop.Reason {
	h := packet.IPv4(o.Head[packet.Headroom:])
	hop, pending, r := w.hop4(w.flow4(o))
	switch {
	case pending:
		return w.park()
	case r != drop.None:
		return w.refuse6(v, r, 0)
	}
	w.clamp(o, v)
	limit := int(hop.MTU)
	whole := w.alone(v)
	switch {
	case !whole:
		limit = min(limit, packet.IPv4Len+w.whole.Largest)
	case !h.DF():
		limit = w.g.paths.limit(*h.Dst(), limit, w.now)
	}
	if whole && o.SegmentLen() > limit && h.DF() {
		return w.refuse6(v, drop.TooBig, max(minMTU6, hop.MTU+shorter))
	}
	id := uint32(h.ID())
	if !whole {
		id = w.whole.ID & 0xffff
	}
	return w.fit(V4, o, limit, whole, id, &hop)
}

// leave6 sends a translated packet into the IPv6 network, in pieces where it must and may be: a datagram that came in
// pieces, and one without DF that does not fit every IPv6 link (RFC 7915 section 4).
func (w *worker) leave6(v *packet.View, o *packet.Out) drop.Reason {
	hop, pending, r := w.hop6(w.flow6(o))
	switch {
	case pending:
		return w.park()
	case r != drop.None:
		return w.refuse4(v, r, 0)
	}
	w.clamp(o, v)
	limit := int(hop.MTU)
	whole, df := w.alone(v), v.IP4().DF() || v.Error
	id := uint32(v.IP4().ID())
	if !whole {
		limit, df, id = packet.IPv6Len+packet.FragLen+w.whole.Largest, w.whole.DF, w.whole.ID&0xffff
	}
	if gso := o.Offload.GSO; !df && (gso == packet.GSONone || gso == packet.GSOUDPL4) {
		limit = min(limit, int(hop.MTU), w.conf.LowestIPv6MTU)
	}
	switch {
	case whole && df && o.SegmentLen() > limit:
		return w.refuse4(v, drop.TooBig, hop.MTU-shorter)
	case !whole && limit > int(hop.MTU):
		return w.refuse4(v, drop.TooBig, hop.MTU-shorter-packet.FragLen)
	}
	return w.fit(V6, o, limit, whole, id, &hop)
}

// alone says whether the translation of v need not be split as v was: it came whole, or it is an ICMP error, which is cut
// to what every link carries however it came.
func (w *worker) alone(v *packet.View) bool { return w.whole.Data == nil || v.Error }

// fit sends o on side s in packets of at most limit bytes: as it is; as smaller segments, if it is a TCP super-packet,
// whose receiver does not see the difference; or in fragments with the Identification id.
func (w *worker) fit(s Side, o *packet.Out, limit int, whole bool, id uint32, hop *packet.Hop) drop.Reason {
	o.Inner.Complete(o.Payload) // from here on nothing parks the received packet or quotes it
	gso := o.Offload.GSO
	switch {
	case whole && o.SegmentLen() <= limit:
	case gso == packet.GSOTCPv4 || gso == packet.GSOTCPv6:
		if limit <= int(o.Offload.HdrLen) {
			return drop.TooBig
		}
		o.Offload.GSOSize = uint16(limit) - o.Offload.HdrLen
	case gso == packet.GSOUDPL4:
		return w.cutDatagrams(s, o, limit, id, hop)
	default:
		return w.cut(s, o, limit, id, hop)
	}
	w.depart(s, o, hop)
	return drop.None
}

// cut sends a packet in fragments.
func (w *worker) cut(s Side, o *packet.Out, limit int, id uint32, hop *packet.Hop) drop.Reason {
	split := func() drop.Reason { return w.pieces.Split6(o, limit, id) }
	if s == V4 {
		split = func() drop.Reason { return w.pieces.Split4(o, limit, uint16(id)) }
	}
	if r := split(); r != drop.None {
		return r
	}
	for o := w.to[s].next(); w.pieces.Next(o); o = w.to[s].next() {
		w.depart(s, o, hop)
	}
	return drop.None
}

// cutDatagrams sends the datagrams of a UDP super-packet one by one, each in fragments: as the NIC or the kernel joined
// them, they would have come one by one without it. It is not fast.
func (w *worker) cutDatagrams(s Side, o *packet.Out, limit int, id uint32, hop *packet.Hop) drop.Reason {
	ipLen, payload, size := int(o.Offload.CsumStart), o.Payload, int(o.Offload.GSOSize)
	w.head = append(w.head[:0], o.Head...) // the first piece is written over it
	for n := uint32(0); len(payload) > 0; n++ {
		part := payload[:min(size, len(payload))]
		payload = payload[len(part):]
		one := packet.Out{Head: w.head, Payload: part}
		udp := one.Head[packet.Headroom+ipLen:]
		binary.BigEndian.PutUint16(udp[4:], uint16(packet.UDPLen+len(part)))
		binary.BigEndian.PutUint16(udp[packet.UDPChecksum:], 0)
		c := pseudo(one.Head[packet.Headroom:], packet.UDPLen+len(part)).Bytes(udp).Bytes(part).Checksum()
		if c == 0 {
			c = 0xffff // 0 means that there is none (RFC 768)
		}
		binary.BigEndian.PutUint16(udp[packet.UDPChecksum:], c)
		if r := w.cut(s, &one, limit, id+n, hop); r != drop.None {
			return r
		}
	}
	return drop.None
}

// depart counts a packet that is complete but for its link header, and keeps it for the next flush.
func (w *worker) depart(s Side, o *packet.Out, hop *packet.Hop) {
	ethernet(o, s, hop)
	d := metrics.From6To4
	switch {
	case w.hairpin:
		d = metrics.Hairpin
	case s == V6:
		d = metrics.From4To6
	}
	w.forwarded(s, o, d)
}

// hop6 and hop4 return the way to a destination, with the MTU that is configured if that is less than the route's.
func (w *worker) hop6(f *packet.Selector6) (h packet.Hop, pending bool, r drop.Reason) {
	h, pending, r = w.hops.Hop6(f)
	if pending || r == drop.Neighbour || w.behind() {
		pending = w.want(way{side: V6, six: *f, client: w.sender()}, pending, r)
	}
	if w.conf.MTU6 != 0 {
		h.MTU = min(h.MTU, w.conf.MTU6)
	}
	return h, pending, r
}

func (w *worker) hop4(f *packet.Selector4) (h packet.Hop, pending bool, r drop.Reason) {
	h, pending, r = w.hops.Hop4(f)
	if pending || r == drop.Neighbour || w.behind() {
		pending = w.want(way{side: V4, four: *f, client: w.sender()}, pending, r)
	}
	if w.conf.MTU4 != 0 {
		h.MTU = min(h.MTU, w.conf.MTU4)
	}
	return h, pending, r
}

// clamp keeps the segments of a TCP connection that is being opened within what both links carry.
func (w *worker) clamp(o *packet.Out, v *packet.View) {
	if w.conf.ClampMSS == 0 || v.Proto != packet.TCP || v.Event != packet.SYN || v.Error {
		return
	}
	mss := w.conf.ClampMSS
	if mss == AutoMSS {
		const headers6, headers4 = packet.IPv6Len + packet.TCPLen, packet.IPv4Len + packet.TCPLen
		six, four := w.ends(o, v)
		mss = int(min(w.mtu6(six)-headers6, w.mtu4(four)-headers4))
	}
	xlat.ClampMSS(o, v, mss)
}

// ends returns the flows to the two ends of a packet v and its translation o: to the client and to its peer.
func (w *worker) ends(o *packet.Out, v *packet.View) (client *packet.Selector6, peer *packet.Selector4) {
	if v.Data[0]>>4 == 6 {
		return w.back6(v), w.flow4(o)
	}
	return w.flow6(o), w.back4(v)
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
	w.flush() // the next hairpinned packet uses the same memory
	return r
}
