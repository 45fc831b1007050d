package gateway

import (
	"nat64d/packet"
)

// sides is how many networks there are.
const sides = int(packet.Families)

// place is the position of a worker: number i of the workers of a side.
type place struct {
	side  packet.Family
	i, of int
}

// number returns the number of the worker among those of both sides.
func (p place) number() int { return int(p.side)*p.of + p.i }

// origin returns the origin of the packets that the worker receives.
func (p place) origin() packet.Origin {
	if p.side == packet.V6 {
		return packet.FromV6
	}
	return packet.FromV4
}
