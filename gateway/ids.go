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
	h := hash32(t.Src.Addr[:]) ^ hash32(t.Dst.Addr[:])*31 + uint32(p)
	c := &i.next16[h%idBuckets]
	if *c == 0 {
		*c = 1 // a fragment with Identification 0 would look like one that never had any
	}
	id := *c
	*c++
	if off.GSO != packet.GSONone {
		*c += 0xffff / max(off.GSOSize, 1) % 64
	}
	return id
}
