package gateway

import (
	"encoding/binary"

	"nat64d/packet"
)

// verified caches sources that have passed verify6 or verify4. For most packets the checks then cost one comparison.
// A worker clears it when something changes that the checks depend on. Both arrays are direct-mapped: after a
// collision both sources are checked again.
type verified struct {
	six   [verifiedLen]packet.Addr6 // the zero address means empty: no check passes it
	four  [verifiedLen]packet.Addr4
	since circumstances
}

// verifiedLen is a power of two: our own choice, 20 KiB.
const verifiedLen = 1 << 10

// circumstances are what the checks depend on besides the source.
type circumstances struct {
	conf   *conf
	routes uint64 // the generation of the routes
	pool4  uint64 // the edition of the pool
}

// refresh clears the cache if the circumstances have changed.
func (d *verified) refresh(now circumstances) {
	if d.since != now {
		*d = verified{since: now}
	}
}

func (d *verified) at6(a *packet.Addr6) *packet.Addr6 {
	return &d.six[place64(binary.NativeEndian.Uint64(a[:8])^binary.NativeEndian.Uint64(a[8:]))]
}

func (d *verified) at4(a packet.Addr4) *packet.Addr4 {
	return &d.four[place64(uint64(binary.NativeEndian.Uint32(a[:])))]
}

// has6 and has4 report whether a source has passed.
func (d *verified) has6(a *packet.Addr6) bool { return *d.at6(a) == *a && *a != packet.Addr6{} }
func (d *verified) has4(a packet.Addr4) bool  { return *d.at4(a) == a && a != packet.Addr4{} }

// place64 hashes an address to an index below verifiedLen.
func place64(x uint64) uint64 { return x * 0x9e3779b97f4a7c15 >> 54 }

// The shift of place64 leaves exactly the bits of verifiedLen.
var _ = [1]struct{}{}[verifiedLen-1<<(64-54)]
