package table

import (
	"runtime"
	"sync"
	"testing"
)

// flood allocates n slots, each with its own number as entry, calls f, and retires all but every keep-th.
func flood(t *testing.T, s *Slab[[4]uint64], n, keep int, f func()) (left []uint32) {
	slots := make([]uint32, n)
	for i := range slots {
		slots[i] = s.Alloc(uint32(i))
		if slots[i] == 0 {
			t.Fatalf("the slab is full at %d of %d", i, n)
		}
		*s.At(slots[i]) = [4]uint64{uint64(slots[i])}
	}
	f()
	visited := map[uint32]bool{}
	for slot, end := s.NextBlock(0); slot < s.Slots(); slot, end = s.NextBlock(end) {
		for ; slot < end; slot++ {
			visited[slot] = true
		}
	}
	for i, slot := range slots {
		if !visited[slot] {
			t.Fatalf("NextBlock skips slot %d, which is in use", slot)
		}
		if s.At(slot)[0] != uint64(slot) {
			t.Fatalf("slot %d holds %d", slot, s.At(slot)[0])
		}
		if i < keep {
			left = append(left, slot)
		} else {
			s.Retire(slot)
		}
	}
	return left
}

// given returns the number of blocks below those of a number of slots that the slab has given back or forgotten.
func given(s *Slab[[4]uint64], slots int) (n int) {
	n = max(slots-int(s.Slots()), 0) / blockLen
	for i := range s.giving.gone {
		if s.giving.gone[i].Load() {
			n++
		}
	}
	return n
}

// settleGiving calls Maintain until there is nothing left to give back.
func settleGiving(t *testing.T, s *Slab[[4]uint64]) {
	for n := 0; s.Maintain(); n++ {
		if n == 20*stripes {
			t.Fatal("there is always more to give back")
		}
	}
}

// TestSlabGivesBack floods a slab several times: its memory goes back to the kernel and comes again, entries in use stay, and no
// slot is given out twice.
func TestSlabGivesBack(t *testing.T) {
	t.Parallel()
	const n, keep = 300_000, 1000
	s := NewSlab[[4]uint64](n, NewEpochs(1))
	forgotten := 0
	s.OnGive(func(from, to uint32) { forgotten += int(to - from) })
	testGiving(t, s, n, keep)
	if forgotten == 0 {
		t.Error("OnGive was not called")
	}
}

func testGiving(t *testing.T, s *Slab[[4]uint64], n, keep int) {
	held := flood(t, s, keep, keep, func() {})
	for round := range 3 {
		flood(t, s, n-keep, 0, func() { s.Maintain() })
		settleGiving(t, s)
		if g := given(s, n); g < n/blockLen-2 {
			t.Errorf("round %d: %d blocks are given back of %d", round, g, n/blockLen)
		}
		for slot, visited := uint32(0), 0; ; visited++ {
			var end uint32
			if slot, end = s.NextBlock(slot); slot == s.Slots() {
				break
			}
			if slot = end; visited > 4 {
				t.Fatal("NextBlock does not skip what was given back")
			}
		}
		seen := map[uint32]bool{}
		for _, slot := range held {
			if seen[slot] || s.At(slot)[0] != uint64(slot) {
				t.Fatalf("slot %d holds %d", slot, s.At(slot)[0])
			}
			seen[slot] = true
		}
	}
}

// TestTrimmedSlabIsVisitedAgain keeps so many slots in use that the slab continues to give back after it has been trimmed: what
// comes back is visited.
func TestTrimmedSlabIsVisitedAgain(t *testing.T) {
	t.Parallel()
	const n, keep = 200_000, giveFrom + blockLen
	s := NewSlab[[4]uint64](n, NewEpochs(1))
	flood(t, s, keep, keep, func() {})
	for range 3 {
		flood(t, s, n-keep, 0, func() { s.Maintain() })
		settleGiving(t, s)
	}
}

// TestSlabGivesBackUnderLoad allocates and retires slots while Maintain gives memory back.
func TestSlabGivesBackUnderLoad(t *testing.T) {
	t.Parallel()
	const n = 200_000
	s := NewSlab[[4]uint64](n, NewEpochs(1))
	flood(t, s, n, 0, func() {})
	var all sync.WaitGroup
	for g := range 2 {
		all.Go(func() {
			for i := range 200 {
				var mine []uint32
				for j := range 500 {
					slot := s.Alloc(uint32(g + j))
					if slot == 0 {
						t.Error("the slab is full")
						return
					}
					*s.At(slot) = [4]uint64{uint64(slot), uint64(g)}
					mine = append(mine, slot)
				}
				for _, slot := range mine {
					if e := *s.At(slot); e != [4]uint64{uint64(slot), uint64(g)} {
						t.Errorf("round %d: slot %d holds %v", i, slot, e)
						return
					}
					s.Retire(slot)
				}
				runtime.Gosched()
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			s.Maintain()
		}
	}
	settleGiving(t, s)
	if given(s, n) == 0 {
		t.Error("nothing was given back")
	}
}
