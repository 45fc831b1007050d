//go:build linux

package nexthop

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
)

// cacheSize is the number of flows of each family in a Cache, a power of two. Both arrays together take about 280
// KiB, which fits a CPU's second-level cache.
const cacheSize = 1 << 11

// Cache is one worker's cache of the answers of a Table: direct-mapped arrays, indexed by a hash of the flow's fields
// that the host's routing depends on, usually only its destination. All entries become invalid when Generation
// changes. Cache takes no lock and allocates nothing. It is not safe for concurrent use.
type Cache struct {
	t      *Table
	fields [sides]fields // of the flows in the entries
	sixes  [cacheSize]entry6
	fours  [cacheSize]entry4
}

type entry6 struct {
	flow       packet.Selector6 // only the fields that routing depends on
	generation uint64           // 0: empty
	answer     answer
}

type entry4 struct {
	flow       packet.Selector4
	generation uint64 // 0: empty
	answer     answer
}

// NewCache returns an empty cache for t.
func NewCache(t *Table) *Cache {
	return &Cache{t: t, fields: t.state.Load().fields}
}

// Hop6 returns the hop for f on the v6 interface. If r is drop.None and pending is false, the hop is usable. If
// pending is true, it is not known yet: queue the packet, call Table.Resolve6, and call Hop6 again when Generation
// has changed. Other reasons are valid until Generation changes: drop.NoRoute, drop.OtherInterface, drop.HostAddress,
// drop.IPsec, and drop.Neighbour for a next hop that does not answer.
func (c *Cache) Hop6(f *packet.Selector6) (h packet.Hop, pending bool, r drop.Reason) {
	g := c.t.generation.Load()
	e := &c.sixes[slot(binary.NativeEndian.Uint64(f.Dst[:8])^binary.NativeEndian.Uint64(f.Dst[8:]))]
	if c.fields[v6] != 0 || e.generation != g || e.flow.Dst != f.Dst {
		e = c.find6(f, g)
	}
	e.answer.neighbour.use()
	return e.answer.hop, e.answer.pending, e.answer.reason
}

// ByDestination reports whether, in the state of the last answer, routes, rules and IPsec policies depend only on the
// destination of a flow.
func (c *Cache) ByDestination() bool { return c.fields == [sides]fields{} }

// find6 returns the entry of a flow whose hop depends on more than its destination, or of one without an entry. The
// state may be newer than generation; then generation is about to change, and the entry becomes invalid with it.
func (c *Cache) find6(f *packet.Selector6, generation uint64) *entry6 {
	key := only6(f, c.fields[v6])
	if e := &c.sixes[slot6(&key)]; e.generation == generation && e.flow == key {
		return e
	}
	s := c.t.state.Load()
	c.fields = s.fields
	key = only6(f, c.fields[v6])
	e := &c.sixes[slot6(&key)]
	*e = entry6{key, generation, s.answer(v6, flow6(f))}
	return e
}

// Hop4 returns the hop for f on the v4 interface, as Hop6 does.
func (c *Cache) Hop4(f *packet.Selector4) (h packet.Hop, pending bool, r drop.Reason) {
	g := c.t.generation.Load()
	e := &c.fours[slot(uint64(binary.NativeEndian.Uint32(f.Dst[:])))]
	if c.fields[v4] != 0 || e.generation != g || e.flow.Dst != f.Dst {
		e = c.find4(f, g)
	}
	e.answer.neighbour.use()
	return e.answer.hop, e.answer.pending, e.answer.reason
}

// find4 is like find6, for IPv4.
func (c *Cache) find4(f *packet.Selector4, generation uint64) *entry4 {
	key := only4(f, c.fields[v4])
	if e := &c.fours[slot4(&key)]; e.generation == generation && e.flow == key {
		return e
	}
	s := c.t.state.Load()
	c.fields = s.fields
	key = only4(f, c.fields[v4])
	e := &c.fours[slot4(&key)]
	*e = entry4{key, generation, s.answer(v4, flow4(f))}
	return e
}

// only6 and only4 return f with its destination and the fields in p; the others are zero.
func only6(f *packet.Selector6, p fields) packet.Selector6 {
	key := packet.Selector6{Dst: f.Dst}
	if p == 0 {
		return key
	}
	if p&fieldSource != 0 {
		key.Src = f.Src
	}
	if p&fieldPorts != 0 {
		key.SrcPort, key.DstPort = f.SrcPort, f.DstPort
	}
	key.Proto, key.TOS, key.Origin = small(p, f.Proto, f.TOS, f.Origin)
	return key
}

func only4(f *packet.Selector4, p fields) packet.Selector4 {
	key := packet.Selector4{Dst: f.Dst}
	if p == 0 {
		return key
	}
	if p&fieldSource != 0 {
		key.Src = f.Src
	}
	if p&fieldPorts != 0 {
		key.SrcPort, key.DstPort = f.SrcPort, f.DstPort
	}
	key.Proto, key.TOS, key.Origin = small(p, f.Proto, f.TOS, f.Origin)
	return key
}

// small returns the small fields of a flow that are in p. Routing ignores the ECN bits of the type of service.
func small(p fields, proto, tos uint8, o packet.Origin) (uint8, uint8, packet.Origin) {
	if p&fieldProto == 0 {
		proto = 0
	}
	if p&fieldTOS == 0 {
		tos = 0
	}
	if p&fieldOrigin == 0 {
		o = 0
	}
	return proto, tos & dscpMask, o
}

// slot6 and slot4 return the index of the flow's entry.
func slot6(f *packet.Selector6) uint64 {
	src := binary.NativeEndian.Uint64(f.Src[:8]) ^ binary.NativeEndian.Uint64(f.Src[8:])
	dst := binary.NativeEndian.Uint64(f.Dst[:8]) ^ binary.NativeEndian.Uint64(f.Dst[8:])
	return slot(dst ^ spread64(src^uint64(f.SrcPort)<<16^uint64(f.DstPort)))
}

func slot4(f *packet.Selector4) uint64 {
	src, dst := uint64(binary.NativeEndian.Uint32(f.Src[:])), uint64(binary.NativeEndian.Uint32(f.Dst[:]))
	return slot(dst ^ spread64(src^uint64(f.SrcPort)<<48^uint64(f.DstPort)<<32))
}

// spread64 multiplies by an odd constant, so that equal halves of a flow do not cancel each other out. It maps zero
// to zero.
func spread64(x uint64) uint64 { return x * 0xd6e8feb86659fd93 }

// slot hashes an address to the index of its entry. A collision costs only a cache miss.
func slot(x uint64) uint64 { return x * 0x9e3779b97f4a7c15 >> 53 }

// The shift of slot leaves exactly the bits of cacheSize.
var _ = [1]struct{}{}[cacheSize-1<<(64-53)]
