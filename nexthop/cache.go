package nexthop

import (
	"encoding/binary"
	"net/netip"

	"nat64d/drop"
	"nat64d/packet"
)

// cacheSize is the number of destinations of each family that a Cache remembers, a power of two. Both arrays together
// take about 210 KiB, so that they stay in a CPU's second-level cache.
const cacheSize = 1 << 11

// Cache is one worker's memory of the answers of a Table: plain arrays, direct-mapped by address, that forget
// everything when Generation changes. It takes no lock and allocates nothing. One goroutine may use it.
type Cache struct {
	t     *Table
	sixes [cacheSize]entry6
	fours [cacheSize]entry4
}

type entry6 struct {
	dst        packet.Addr6
	generation uint64 // 0: empty
	answer     answer
}

type entry4 struct {
	dst        packet.Addr4
	generation uint64 // 0: empty
	answer     answer
}

// NewCache returns an empty cache in front of t.
func NewCache(t *Table) *Cache { return &Cache{t: t} }

// Hop6 returns the way to dst by the v6 interface. With drop.None the hop is usable. With pending it is not known
// yet: queue the packet, call Table.Resolve6, and ask again when Generation has changed. Other reasons are final until
// Generation changes: drop.NoRoute, drop.OtherInterface, drop.HostAddress, and drop.Neighbour for a next hop that
// does not answer.
func (c *Cache) Hop6(dst packet.Addr6) (h Hop, pending bool, r drop.Reason) {
	e := &c.sixes[slot(binary.NativeEndian.Uint64(dst[:8])^binary.NativeEndian.Uint64(dst[8:]))]
	if g := c.t.generation.Load(); e.generation != g || e.dst != dst {
		*e = entry6{dst, g, c.t.state.Load().answer(v6, netip.AddrFrom16(dst))}
	}
	e.answer.neighbour.use()
	return e.answer.hop, e.answer.pending, e.answer.reason
}

// Hop4 returns the way to dst by the v4 interface, as Hop6 does.
func (c *Cache) Hop4(dst packet.Addr4) (h Hop, pending bool, r drop.Reason) {
	e := &c.fours[slot(uint64(binary.NativeEndian.Uint32(dst[:])))]
	if g := c.t.generation.Load(); e.generation != g || e.dst != dst {
		*e = entry4{dst, g, c.t.state.Load().answer(v4, netip.AddrFrom4(dst))}
	}
	e.answer.neighbour.use()
	return e.answer.hop, e.answer.pending, e.answer.reason
}

// slot mixes an address into the number of its entry. Whoever makes two addresses collide wins a miss, no more.
func slot(x uint64) uint64 { return x * 0x9e3779b97f4a7c15 >> 53 }

// The shift of slot leaves exactly the bits of cacheSize.
var _ = [1]struct{}{}[cacheSize-1<<(64-53)]
