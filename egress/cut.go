package egress

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// cut sends o, which is p or one of its datagrams, in fragments.
func (s *Sender) cut(f packet.Family, p *Packet, o *packet.Out, limit int, id uint32) (r drop.Reason) {
	if f == packet.V4 {
		r = s.pieces.Split4(o, limit, uint16(id))
	} else {
		r = s.pieces.Split6(o, limit, id)
	}
	if r != drop.None {
		return r
	}
	for o := s.to[f].next(); s.pieces.Next(o); o = s.to[f].next() {
		s.depart(f, p, o)
	}
	return drop.None
}

// cutDatagrams sends the datagrams of a UDP super-packet one by one, each in fragments: as the NIC or the kernel joined
// them, they would have come one by one without it. This path is not optimized.
func (s *Sender) cutDatagrams(f packet.Family, p *Packet, limit int, id uint32) drop.Reason {
	o := p.Out
	ipLen, payload, size := int(o.Offload.CsumStart), o.Payload, int(o.Offload.GSOSize)
	s.head = append(s.head[:0], o.Head...) // the first fragment overwrites it
	for n := uint32(0); len(payload) > 0; n++ {
		part := payload[:min(size, len(payload))]
		payload = payload[len(part):]
		one := packet.Out{Head: s.head, Payload: part}
		udp := one.Head[packet.Headroom+ipLen:]
		binary.BigEndian.PutUint16(udp[4:], uint16(packet.UDPLen+len(part)))
		binary.BigEndian.PutUint16(udp[packet.UDPChecksum:], 0)
		c := packet.PseudoHeader(one.Head[packet.Headroom:], packet.UDPLen+len(part)).Bytes(udp).Bytes(part).Checksum()
		if c == 0 {
			c = 0xffff // 0 means that there is none (RFC 768)
		}
		binary.BigEndian.PutUint16(udp[packet.UDPChecksum:], c)
		if r := s.cut(f, p, &one, limit, id+n); r != drop.None {
			return r
		}
	}
	return drop.None
}
