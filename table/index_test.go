package table

import "testing"

// TestOverflowIsForgotten fills a bucket and the next with slots of the first, and removes them in some order: in the
// end nothing is left that a search would have to go past.
func TestOverflowIsForgotten(t *testing.T) {
	t.Parallel()
	const slots = bucketLen + 3
	for _, step := range []uint32{1, 3, 7, 9} { // each coprime to slots
		x := NewIndex(1, NewEpochs(1))
		s := x.LockShard(0)
		s.grow(0) // two buckets
		for slot := range uint32(slots) {
			s.Insert(7, slot+1) // the way goes round the end
		}
		for i := range uint32(slots) {
			s.Remove(7, i*step%slots+1)
		}
		if s.live != 0 {
			t.Errorf("step %d: %d slots are left", step, s.live)
		}
		b := x.buckets(0, 1)
		for i := range b {
			for j := range b[i] {
				if w := b[i][j].Load(); w != 0 {
					t.Errorf("step %d: word %d of bucket %d is %#x", step, j, i, w)
				}
			}
		}
		s.Unlock()
	}
}

// TestTidyWaitsForReaders lets all shards grow while a reader is in its batch: it must find the old words as they were.
func TestTidyWaitsForReaders(t *testing.T) {
	t.Parallel()
	e := NewEpochs(1)
	x := NewIndex(1, e)
	e.Enter(0)
	for i := range x.Shards() {
		s := x.LockShard(i)
		if i > 0 {
			x.Tidy()
		}
		s.grow(0)
		s.Unlock()
	}
	for range 3 {
		x.Tidy()
	}
	if x.rows[0].empty {
		t.Error("memory was given back under a reader")
	}
	e.Leave(0)
	x.Tidy()
	if !x.rows[0].empty || x.rows[1].empty {
		t.Errorf("given back: level 0 %v, level 1 %v; want only level 0", x.rows[0].empty, x.rows[1].empty)
	}
}
