package gateway

import (
	"nat64d/packet"
)

// Side is one of the two networks.
type Side uint8

// The sides.
const (
	V6 Side = iota
	V4
)

// String returns v6 or v4.
func (s Side) String() string { return [...]string{"v6", "v4"}[s] }

const sides = 2

// place is the position of a worker: number i of the workers of a side.
type place struct {
	side  Side
	i, of int
}

// number returns the number of the worker among those of both sides.
func (p place) number() int { return int(p.side)*p.of + p.i }

// origin returns the origin of the packets that the worker receives.
func (p place) origin() packet.Origin {
	if p.side == V6 {
		return packet.FromV6
	}
	return packet.FromV4
}
