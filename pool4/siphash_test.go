package pool4

import (
	"encoding/binary"
	"testing"
)

// TestSipHash compares with the vectors of the authors' reference implementation: the key is 0, 1, … 15, the input
// 0, 1, … of as many bytes.
func TestSipHash(t *testing.T) {
	t.Parallel()
	var in [16]byte
	for i := range in {
		in[i] = byte(i)
	}
	k := newSipKey(in)
	a, b := binary.LittleEndian.Uint64(in[:8]), binary.LittleEndian.Uint64(in[8:])
	for _, c := range []struct {
		words []uint64
		want  uint64
	}{
		{nil, 0x726fdb47dd0e0e31},
		{[]uint64{a}, 0x93f5f5799a932462},
		{[]uint64{a, b}, 0x3f2acc7f57c29bdb},
	} {
		if got := k.sum(c.words...); got != c.want {
			t.Errorf("%d bytes: %#x, want %#x", 8*len(c.words), got, c.want)
		}
	}
}
