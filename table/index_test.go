package table

import (
	"math"
	"testing"
)

// TestRemoveClearsOverflowCounts fills a bucket and the next with slots of the first, and removes them in several
// orders: in the end all words are zero.
func TestRemoveClearsOverflowCounts(t *testing.T) {
	t.Parallel()
	const slots = bucketLen + 3
	for _, step := range []uint32{1, 3, 7, 9} { // each coprime to slots
		x := NewIndex(1, NewEpochs(1))
		s := x.LockShard(0)
		s.growLocked(0) // two buckets
		for slot := range uint32(slots) {
			s.Insert(7, slot+1) // wraps from the last bucket to the first
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

// TestMaintainWaitsForReaders lets all shards grow while a reader is in its batch: the memory that it reads must not be
// given back.
func TestMaintainWaitsForReaders(t *testing.T) {
	t.Parallel()
	e := NewEpochs(1)
	x := NewIndex(1, e)
	e.Enter(0)
	for i := range x.Shards() {
		s := x.LockShard(i)
		if i > 0 {
			x.Maintain()
		}
		s.growLocked(0)
		s.Unlock()
	}
	for range 3 {
		x.Maintain()
	}
	if x.tiers[0].empty {
		t.Error("memory was given back under a reader")
	}
	e.Leave(0)
	x.Maintain()
	if !x.tiers[0].empty || x.tiers[1].empty {
		t.Errorf("given back: level 0 %v, level 1 %v; want only level 0", x.tiers[0].empty, x.tiers[1].empty)
	}
}

// TestInsertRefusesFullShard aims all hashes at one shard, as an attacker who knows the key could. The shard refuses
// slots for which it has no room, finds its slots, and accepts another slot after one has been removed.
func TestInsertRefusesFullShard(t *testing.T) {
	t.Parallel()
	x := NewIndex(1000, NewEpochs(1))
	s := x.Lock(0)
	defer s.Unlock()
	n := uint32(0)
	for s.Insert(uint64(n), n+1) {
		n++
	}
	if n < 2*1000/minShards || n > math.MaxUint16 {
		t.Errorf("a shard has room for %d slots", n)
	}
	if s.Insert(uint64(n), n+1) || s.live != n {
		t.Errorf("a full shard takes a slot, or counts %d of %d", s.live, n)
	}
	for i := range n {
		if p := x.Find(uint64(i)); p.Next() != i+1 {
			t.Fatalf("slot %d of a full shard is not found", i+1)
		}
	}
	s.Remove(3, 4)
	if !s.Insert(uint64(n), n+1) || s.Insert(3, 4) {
		t.Error("after one slot was removed, the shard does not accept exactly one")
	}
}
