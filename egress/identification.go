package egress

import (
	"math/rand/v2"

	"nat64d/packet"
)

const (
	idBuckets = 1024 // 2 KiB
	maxBlock  = 512  // most numbers that a super-packet takes: one of smaller segments than 128 bytes is no real one
)

// ids generates IPv4 Identifications. Packets of one source, destination and protocol share a counter, so that a number
// comes again only after all others of the range (RFC 6864 section 4.3); each counter starts at random. Workers of one
// side have ranges of their own, since any of them may meet packets of one source and destination. Only workers of the
// IPv6 side use one.
type ids struct {
	next16   [idBuckets]uint16
	low, end int // the range; 0 is in none, for a fragment with it would look like one that never had any
}

// seed gives worker i of n its range.
func (c *ids) seed(i, n int) {
	c.low, c.end = 1+i*maxSuper/n, 1+(i+1)*maxSuper/n
	for b := range c.next16 {
		c.next16[b] = uint16(c.low + rand.IntN(c.end-c.low))
	}
}

// ID returns the Identification of a packet into the IPv4 network.
func (s *Sender) ID(t *packet.Tuple4, p packet.Proto, off packet.Offload) uint16 {
	return s.ids.next(t, p, off)
}

// next returns the Identification of a packet to t.Dst. A super-packet takes as many as it has segments, since the
// kernel counts up from the first.
func (i *ids) next(t *packet.Tuple4, p packet.Proto, off packet.Offload) uint16 {
	n := 1
	if off.GSO != packet.GSONone {
		n = min(maxSuper/int(max(off.GSOSize, 1))+1, maxBlock)
	}
	return i.take(&t.Src.Addr, &t.Dst.Addr, number4[p], n)
}

// block returns the first of n Identifications for the segments of o, a packet that others have been joined to.
func (i *ids) block(o *packet.Out, n int) uint16 {
	h := packet.IPv4(o.Head[packet.Headroom:])
	return i.take(h.Src(), h.Dst(), h.Protocol(), n)
}

// number4 is the IPv4 protocol number of each protocol.
var number4 = [packet.Protos]uint8{packet.TCP: packet.NumTCP, packet.UDP: packet.NumUDP, packet.ICMP: packet.NumICMP}

func (i *ids) take(src, dst *packet.Addr4, number uint8, n int) uint16 {
	h := hash32(src[:]) ^ hash32(dst[:])*31 + uint32(number)
	c := &i.next16[h%idBuckets]
	id := max(int(*c), i.low)
	if id+n > i.end {
		id = i.low
	}
	*c = uint16(id + n) // one past the end may be 0, which is below every range
	return uint16(id)
}
