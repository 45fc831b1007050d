package egress

import (
	"math/rand/v2"

	"nat64d/packet"
)

const (
	idBuckets = 1024 // 2 KiB
	maxBlock  = 512  // maximum block of a super-packet; segments smaller than 128 bytes are not realistic
)

// ids generates IPv4 Identifications. Packets with the same source, destination and protocol share a counter, so that
// a number is repeated only after all others of the range (RFC 6864 section 4.3); each counter starts at random. The
// workers of a side have separate ranges, since each of them may send packets with the same source and destination.
// Only workers of the IPv6 side use ids.
type ids struct {
	next16   [idBuckets]uint16
	low, end int // the range; 0 is excluded, because a fragment with it would look like one without an Identification
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

// next returns the Identification of a packet to t.Dst. A super-packet takes one per segment, because the kernel
// increments the first one.
func (i *ids) next(t *packet.Tuple4, p packet.Proto, off packet.Offload) uint16 {
	n := 1
	if off.GSO != packet.GSONone {
		n = min(maxSuper/int(max(off.GSOSize, 1))+1, maxBlock)
	}
	return i.take(&t.Src.Addr, &t.Dst.Addr, number4[p], n)
}

// block returns the first of n Identifications for the segments of o, a coalesced packet.
func (i *ids) block(o *packet.Out, n int) uint16 {
	h := packet.IPv4(o.Head[packet.Headroom:])
	return i.take(h.Src(), h.Dst(), h.Protocol(), n)
}

// number4 contains the IPv4 protocol number of each protocol.
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
