//go:build linux

package nexthop

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// cacheSize is the number of flows of each family that a Cache remembers, a power of two. Both arrays together
// take about 280 KiB, so that they stay in a CPU's second-level cache.
const cacheSize = 1 << 11

// Cache is one worker's memory of the answers of a Table: plain arrays, direct-mapped by what the host's rules look at of a
// flow, mostly its destination alone. They forget everything when Generation changes. It takes no lock and allocates
// nothing. One goroutine may use it.
type Cache struct {
	t     *Table
	parts [sides]parts // that the entries are for
	sixes [cacheSize]entry6
	fours [cacheSize]entry4
}

type entry6 struct {
	flow       packet.Selector6 // without what nobody looks at
	generation uint64           // 0: empty
	answer     answer
}

type entry4 struct {
	flow       packet.Selector4
	generation uint64 // 0: empty
	answer     answer
}

// NewCache returns an empty cache in front of t.
func NewCache(t *Table) *Cache {
	return &Cache{t: t, parts: t.state.Load().parts}
}

// Hop6 returns the way of f by the v6 interface. With drop.None the hop is usable. With pending it is not known
// yet: queue the packet, call Table.Resolve6, and ask again when Generation has changed. Other reasons are final until
// Generation changes: drop.NoRoute, drop.OtherInterface, drop.HostAddress, drop.IPsec, and drop.Neighbour for a next hop that
// does not answer.
func (c *Cache) Hop6(f *packet.Selector6) (h packet.Hop, pending bool, r drop.Reason) {
	g := c.t.generation.Load()
	e := &c.sixes[slot(binary.NativeEndian.Uint64(f.Dst[:8])^binary.NativeEndian.Uint64(f.Dst[8:]))]
	if c.parts[v6] != 0 || e.generation != g || e.flow.Dst != f.Dst {
		e = c.find6(f, g)
	}
	e.answer.neighbour.use()
	return e.answer.hop, e.answer.pending, e.answer.reason
}

// ByDestination reports whether routes, rules and IPsec policies look at nothing of a flow but its destination, by the
// state that the last answer comes from.
func (c *Cache) ByDestination() bool { return c.parts == [sides]parts{} }

// find6 returns the entry of a flow of which more than the destination counts, or of one that has none yet. The state may be
// newer than generation: then that changes soon, and the entry with it.
func (c *Cache) find6(f *packet.Selector6, generation uint64) *entry6 {
	key := only6(f, c.parts[v6])
	if e := &c.sixes[slot6(&key)]; e.generation == generation && e.flow == key {
		return e
	}
	s := c.t.state.Load()
	c.parts = s.parts
	key = only6(f, c.parts[v6])
	e := &c.sixes[slot6(&key)]
	*e = entry6{key, generation, s.answer(v6, flow6(f))}
	return e
}

// Hop4 returns the way of f by the v4 interface, as Hop6 does.
func (c *Cache) Hop4(f *packet.Selector4) (h packet.Hop, pending bool, r drop.Reason) {
	g := c.t.generation.Load()
	e := &c.fours[slot(uint64(binary.NativeEndian.Uint32(f.Dst[:])))]
	if c.parts[v4] != 0 || e.generation != g || e.flow.Dst != f.Dst {
		e = c.find4(f, g)
	}
	e.answer.neighbour.use()
	return e.answer.hop, e.answer.pending, e.answer.reason
}

// find4 is find6 for IPv4.
func (c *Cache) find4(f *packet.Selector4, generation uint64) *entry4 {
	key := only4(f, c.parts[v4])
	if e := &c.fours[slot4(&key)]; e.generation == generation && e.flow == key {
		return e
	}
	s := c.t.state.Load()
	c.parts = s.parts
	key = only4(f, c.parts[v4])
	e := &c.fours[slot4(&key)]
	*e = entry4{key, generation, s.answer(v4, flow4(f))}
	return e
}

// only6 and only4 return f with its destination and the parts p; the others are zero.
func only6(f *packet.Selector6, p parts) packet.Selector6 {
	key := packet.Selector6{Dst: f.Dst}
	if p == 0 {
		return key
	}
	if p&partSource != 0 {
		key.Src = f.Src
	}
	if p&partPorts != 0 {
		key.SrcPort, key.DstPort = f.SrcPort, f.DstPort
	}
	key.Proto, key.TOS, key.Origin = small(p, f.Proto, f.TOS, f.Origin)
	return key
}

func only4(f *packet.Selector4, p parts) packet.Selector4 {
	key := packet.Selector4{Dst: f.Dst}
	if p == 0 {
		return key
	}
	if p&partSource != 0 {
		key.Src = f.Src
	}
	if p&partPorts != 0 {
		key.SrcPort, key.DstPort = f.SrcPort, f.DstPort
	}
	key.Proto, key.TOS, key.Origin = small(p, f.Proto, f.TOS, f.Origin)
	return key
}

// small returns those of a flow's small parts that are in p. Of the type of service nobody looks at the bits of ECN.
func small(p parts, proto, tos uint8, o packet.Origin) (uint8, uint8, packet.Origin) {
	if p&partProto == 0 {
		proto = 0
	}
	if p&partTOS == 0 {
		tos = 0
	}
	if p&partOrigin == 0 {
		o = 0
	}
	return proto, tos & dscpMask, o
}

// slot6 and slot4 return where the flow's entry is.
func slot6(f *packet.Selector6) uint64 {
	src := binary.NativeEndian.Uint64(f.Src[:8]) ^ binary.NativeEndian.Uint64(f.Src[8:])
	dst := binary.NativeEndian.Uint64(f.Dst[:8]) ^ binary.NativeEndian.Uint64(f.Dst[8:])
	return slot(dst ^ spread64(src^uint64(f.SrcPort)<<16^uint64(f.DstPort)))
}

func slot4(f *packet.Selector4) uint64 {
	src, dst := uint64(binary.NativeEndian.Uint32(f.Src[:])), uint64(binary.NativeEndian.Uint32(f.Dst[:]))
	return slot(dst ^ spread64(src^uint64(f.SrcPort)<<48^uint64(f.DstPort)<<32))
}

// spread64 keeps what is zero zero, and two halves of a flow that are equal from cancelling each other out.
func spread64(x uint64) uint64 { return x * 0xd6e8feb86659fd93 }

// slot mixes an address into the number of its entry. A collision only costs a miss.
func slot(x uint64) uint64 { return x * 0x9e3779b97f4a7c15 >> 53 }

// The shift of slot leaves exactly the bits of cacheSize.
var _ = [1]struct{}{}[cacheSize-1<<(64-53)]
