package table

import (
	"encoding/binary"
	"math/bits"
)

// Key makes the hashes of an index unpredictable to whoever chooses addresses and ports, so that nobody can aim at
// one shard. The zero Key works, but not against an adversary.
type Key struct{ a, b uint64 }

// NewKey returns a key from 16 random bytes.
func NewKey(secret [16]byte) Key {
	return Key{binary.LittleEndian.Uint64(secret[:8]), binary.LittleEndian.Uint64(secret[8:])}
}

// Numbers with nothing up their sleeve: the fractions of the square roots of 2, 3 and 5.
const (
	root2 = 0x6a09e667f3bcc909
	root3 = 0xbb67ae8584caa73b
	root5 = 0x3c6ef372fe94f82b
)

// Hash mixes three words into one: two rounds of a full multiplication folded in half, about 2 ns. It is not for
// values that an outsider sees: those deserve SipHash.
func (k Key) Hash(a, b, c uint64) uint64 {
	return fold(fold(a^k.a^root2, b^k.b^root3)^k.b, c^k.a^root5)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
