package table

import "testing"

// TestTombstonesGoWithTheirChain removes a chain of equal hashes in every order: with the last one, nothing is left
// that a probe would have to step over.
func TestTombstonesGoWithTheirChain(t *testing.T) {
	t.Parallel()
	for _, order := range [][]uint32{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}} {
		var s Shard
		for slot := uint32(1); slot <= 3; slot++ {
			s.Insert(6, slot) // the chain goes round the end of 8 words
		}
		for _, slot := range order {
			s.Remove(6, slot)
		}
		if s.live != 0 || s.buried != 0 {
			t.Errorf("in order %v: %d live and %d buried words are left", order, s.live, s.buried)
		}
	}
}
