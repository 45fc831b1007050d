package egress

import (
	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/xlat"
)

const (
	// shorter is how much shorter an IPv4 header is than an IPv6 header, in bytes.
	shorter = packet.IPv6Len - packet.IPv4Len
	// minMTU6 is the minimum MTU of IPv6 links (RFC 8200 section 5); a Packet Too Big never reports less (RFC 8021).
	minMTU6 = 1280
)

// Packet is a translated packet to send.
type Packet struct {
	Out  *packet.Out  // in the slot that Next or Large returned
	From *packet.View // the original packet
	// Pieces describes the fragments in which From arrived. It is nil for a packet that arrived whole, and for an
	// ICMP error, which is truncated to a size that every link supports.
	Pieces    *fragment.Whole
	Hop       packet.Hop
	Direction metrics.Direction
}

// Send4 sends a packet into the IPv4 network, in pieces where it must and may: a datagram that came in pieces, and one that its
// sender cannot make smaller (RFC 7915 section 5.1). For drop.TooBig it returns the MTU to report to the sender; 0: none.
func (s *Sender) Send4(p *Packet) (mtu uint32, r drop.Reason) {
	s.clamp(p)
	h := packet.IPv4(p.Out.Head[packet.Headroom:])
	limit, id := int(p.Hop.MTU), uint32(h.ID())
	switch {
	case p.Pieces != nil:
		limit, id = min(limit, packet.IPv4Len+p.Pieces.Largest), p.Pieces.ID&0xffff
	case !h.DF():
		limit = s.paths.limit(*h.Dst(), limit, s.now)
	case p.Out.SegmentLen() > limit:
		return max(minMTU6, p.Hop.MTU+shorter), drop.TooBig
	}
	return 0, s.fit(packet.V4, p, limit, id)
}

// Send6 sends a packet to the IPv6 network. It fragments a datagram that arrived in fragments, and one without DF
// that does not fit every IPv6 link (RFC 7915 section 4). It returns the same as Send4.
func (s *Sender) Send6(p *Packet) (mtu uint32, r drop.Reason) {
	s.clamp(p)
	limit := int(p.Hop.MTU)
	df, id := p.From.IP4().DF() || p.From.Error, uint32(p.From.IP4().ID())
	if p.Pieces != nil {
		limit, df, id = packet.IPv6Len+packet.FragLen+p.Pieces.Largest, p.Pieces.DF, p.Pieces.ID&0xffff
	}
	if gso := p.Out.Offload.GSO; !df && (gso == packet.GSONone || gso == packet.GSOUDPL4) {
		limit = min(limit, int(p.Hop.MTU), s.conf.LowestIPv6MTU)
	}
	switch {
	case p.Pieces == nil && df && p.Out.SegmentLen() > limit:
		return p.Hop.MTU - shorter, drop.TooBig
	case p.Pieces != nil && limit > int(p.Hop.MTU):
		return p.Hop.MTU - shorter - packet.FragLen, drop.TooBig
	}
	return 0, s.fit(packet.V6, p, limit, id)
}

// fit sends a packet in packets of at most limit bytes: unchanged; with smaller segments, if it is a TCP
// super-packet, which its receiver cannot notice; or in fragments with the Identification id.
func (s *Sender) fit(f packet.Family, p *Packet, limit int, id uint32) drop.Reason {
	o := p.Out
	o.Inner.Complete(o.Payload) // from here on, the received packet is neither parked nor quoted
	gso := o.Offload.GSO
	switch {
	case p.Pieces == nil && o.SegmentLen() <= limit:
	case gso == packet.GSOTCPv4 || gso == packet.GSOTCPv6:
		if limit <= int(o.Offload.HdrLen) {
			return drop.TooBig
		}
		o.Offload.GSOSize = uint16(limit) - o.Offload.HdrLen
	case gso == packet.GSOUDPL4:
		return s.cutDatagrams(f, p, limit, id)
	default:
		return s.cut(f, p, o, limit, id)
	}
	s.depart(f, p, o)
	return drop.None
}

// depart counts o, which is p or a part of it, and keeps it for the next flush.
func (s *Sender) depart(f packet.Family, p *Packet, o *packet.Out) {
	c := &s.carried[p.Direction][p.From.Proto]
	c.packets++
	c.bytes += uint64(o.Len())
	s.post(f, o, &p.Hop)
}

// clamp limits the segments of a TCP connection that is being opened to what both links support.
func (s *Sender) clamp(p *Packet) {
	v := p.From
	if s.conf.ClampMSS == 0 || v.Proto != packet.TCP || v.Event != packet.SYN || v.Error {
		return
	}
	mss := s.conf.ClampMSS
	if mss == AutoMSS {
		const headers6, headers4 = packet.IPv6Len + packet.TCPLen, packet.IPv4Len + packet.TCPLen
		mtu6, mtu4 := s.ends(p)
		mss = int(min(mtu6-headers6, mtu4-headers4))
	}
	xlat.ClampMSS(p.Out, v, mss)
}

// ends returns the MTUs of the next hops to the client and the peer of a connection.
func (s *Sender) ends(p *Packet) (mtu6, mtu4 uint32) {
	if p.From.Data[0]>>4 == 6 {
		return s.MTU6(s.Reply6(p.From)), s.MTU4(s.Leaving4(p.Out))
	}
	return s.MTU6(s.Leaving6(p.Out)), s.MTU4(s.Reply4(p.From))
}
