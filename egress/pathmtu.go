package egress

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"nat64d/packet"
)

// Bounds of what is learned of IPv4 paths: our own choices, except for the lifetime, which RFC 1191 section 6.3 suggests.
const (
	pathSlots = 1024 // the last of two destinations that share a slot counts
	pathLife  = 10 * time.Minute
	// minMTU4 is the smallest MTU that is accepted, as in Linux: a smaller one is more likely an attack than a link, and every
	// packet to the destination would be cut into tiny fragments.
	minMTU4 = 552
)

// Paths remembers IPv4 path MTUs below 1260 bytes. No Packet Too Big may carry them to IPv6 senders, because
// it never says less than 1280 (RFC 8021): the gateway fragments the packets instead (RFC 7915 section 5.1). Any goroutine may use it.
type Paths struct {
	known atomic.Bool // an MTU has been learned; until then limit reads no slot
	slots [pathSlots]atomic.Uint64
}

// A slot contains the address in its upper half, then 11 bits of MTU, and in 21 bits the minute of its expiry, which
// is enough for four years.
func pathSlot(a packet.Addr4) (slot, key uint64) {
	return uint64(hash32(a[:])) % pathSlots, uint64(binary.BigEndian.Uint32(a[:])) << 32
}

// Learn stores the MTU of a Fragmentation Needed for the path to a; 0 means none.
func (p *Paths) Learn(a packet.Addr4, mtu uint32, now time.Duration) {
	if mtu == 0 || mtu >= minMTU6-shorter {
		return
	}
	mtu = max(mtu, minMTU4)
	slot, key := pathSlot(a)
	p.slots[slot].Store(key | uint64(mtu)<<21 | uint64((now+pathLife)/time.Minute+1))
	p.known.Store(true)
}

// limit returns the smaller of mtu and the cached MTU of the path to a.
func (p *Paths) limit(a packet.Addr4, mtu int, now time.Duration) int {
	if !p.known.Load() {
		return mtu
	}
	slot, key := pathSlot(a)
	w := p.slots[slot].Load()
	if end := w & (1<<21 - 1); w>>32 != key>>32 || uint64(now/time.Minute) >= end {
		return mtu
	}
	return min(mtu, int(w>>21&(1<<11-1)))
}

// hash32 distributes addresses over the slots of path MTUs and of Identifications (FNV-1a over 32-bit words). A
// collision only evicts a path MTU or makes two destinations share a counter: no packet is lost.
func hash32(a []byte) uint32 {
	h := uint32(2166136261)
	for ; len(a) >= 4; a = a[4:] {
		h = (h ^ binary.BigEndian.Uint32(a)) * 16777619
		h ^= h >> 15
	}
	return h
}
