package table

import (
	"math"
	"sync"
	"sync/atomic"
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
		s.moveLocked(0, 1) // two buckets
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
		s.moveLocked(0, 1)
		s.Unlock()
	}
	for range 3 {
		x.Maintain()
	}
	if x.tiers[0].isGone() {
		t.Error("memory was given back under a reader")
	}
	e.Leave(0)
	x.Maintain()
	if !x.tiers[0].isGone() || x.tiers[1].isGone() {
		t.Errorf("given back: level 0 %v, level 1 %v; want only level 0", x.tiers[0].isGone(), x.tiers[1].isGone())
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

// isGone reports whether the memory of a level has been given back.
func (r *tier) isGone() bool { return r.gone == r.entered.Load() }

// TestIndexShrinks fills an index, empties it except for a few slots, and fills it again, while a reader looks for those: it
// finds them at every moment, and the memory of the levels between is given back.
func TestIndexShrinks(t *testing.T) {
	t.Parallel()
	const n, kept = 200_000, 100
	e := NewEpochs(1)
	x := NewIndex(n, e)
	key := NewKey([16]byte{1})
	change := func(from, to int, f func(*Shard, uint64, uint32)) {
		for i := from; i < to; i++ {
			h := key.Hash(uint64(i), 0, 0)
			s := x.Lock(h)
			f(s, h, uint32(i+1))
			s.Unlock()
			if i%10_000 == 0 {
				x.Maintain()
			}
		}
	}
	insert := func(s *Shard, h uint64, slot uint32) {
		if !s.Insert(h, slot) {
			t.Error("a shard is full")
		}
	}
	change(0, kept, insert)
	var done atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() {
		for i := 0; !done.Load(); i++ {
			e.Enter(0)
			h := key.Hash(uint64(i%kept), 0, 0)
			p := x.Find(h)
			slot := p.Next()
			for slot != 0 && slot != uint32(i%kept+1) {
				slot = p.Next()
			}
			if slot == 0 {
				t.Errorf("slot %d is not found", i%kept+1)
				done.Store(true)
			}
			e.Leave(0)
		}
	})
	for range 2 - raceDetector {
		change(kept, n, insert)
		high := x.levels[0].Load()
		change(kept, n, func(s *Shard, h uint64, slot uint32) { s.Remove(h, slot) })
		e.Wait()
		for wait := 0; !x.tiers[high].isGone() && wait < 1e6; wait++ {
			x.Maintain()
		}
		if !x.tiers[high].isGone() || x.levels[0].Load()+2 > high {
			t.Errorf("level %d: given back %v, a shard is at level %d", high, x.tiers[high].isGone(), x.levels[0].Load())
		}
		e.Wait() // a shard does not grow while a reader may use what it has left there
	}
	done.Store(true)
	reader.Wait()
}
