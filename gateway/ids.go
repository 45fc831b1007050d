package gateway

import (
	"math/rand/v2"

	"nat64d/packet"
)

const idBuckets = 1024 // 2 KiB

// ids generates IPv4 Identifications. Packets of one source, destination and protocol share a counter, so that a number
// comes again only after 65,534 others (RFC 6864 section 4.3); each counter starts at random. Only the worker of the
// IPv6 side uses one.
type ids struct{ next16 [idBuckets]uint16 }

func (i *ids) seed() {
	for b := range i.next16 {
		i.next16[b] = uint16(rand.Uint32())
	}
}

// next returns the Identification of a packet to t.Dst. A super-packet takes as many as it has segments, since the
// kernel counts up from the first.
func (i *ids) next(t *packet.Tuple4, p packet.Proto, off packet.Offload) uint16 {
	n := 1
	if off.GSO != packet.GSONone {
		n = maxSuper/int(max(off.GSOSize, 1))%64 + 1
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
	if int(*c)+n > maxSuper || *c == 0 {
		*c = 1 // a fragment with Identification 0 would look like one that never had any
	}
	id := *c
	*c += uint16(n)
	return id
}
