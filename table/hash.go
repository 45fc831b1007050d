package table

import (
	"encoding/binary"
	"math/bits"
)

// Key makes the hashes of an index unpredictable to hosts that choose addresses and ports, so that no host can aim its
// packets at one shard. The zero Key works, but an adversary can predict its hashes.
type Key struct{ a, b uint64 }

// NewKey returns a key from 16 random bytes.
func NewKey(secret [16]byte) Key {
	return Key{binary.LittleEndian.Uint64(secret[:8]), binary.LittleEndian.Uint64(secret[8:])}
}

// Nothing-up-my-sleeve numbers: the fractional parts of the square roots of 2, 3 and 5.
const (
	root2 = 0x6a09e667f3bcc909
	root3 = 0xbb67ae8584caa73b
	root5 = 0x3c6ef372fe94f82b
)

// Hash mixes three words into one by two rounds of a 128-bit multiplication whose halves are xored, in about 2 ns.
// Values that outsiders see need SipHash instead.
func (k Key) Hash(a, b, c uint64) uint64 {
	return fold(fold(a^k.a^root2, b^k.b^root3)^k.b, c^k.a^root5)
}

// Check mixes four words into a check word, which is not 0. Every program can compute it: it detects damage, not forgery.
func Check(a, b, c, d uint64) uint32 {
	h := fold(fold(a^root2, b^root3)^c^root5, d^root3)
	return uint32(h>>32) | 1
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
