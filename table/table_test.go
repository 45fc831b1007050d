package table_test

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/table"
)

func TestTimeOfRoundsUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d    time.Duration
		want table.Time
	}{
		{0, 0}, {1, 1}, {table.Tick, 1}, {table.Tick + 1, 2}, {time.Second, 16}, {2 * time.Hour, 115200},
	} {
		if got := table.TimeOf(c.d); got != c.want {
			t.Errorf("TimeOf(%v) = %d, want %d", c.d, got, c.want)
		}
		if back := table.TimeOf(c.d).Duration(); back < c.d || back >= c.d+table.Tick {
			t.Errorf("%v becomes %v", c.d, back)
		}
	}
}

// TestHashSpreads changes one input bit at a time: each output bit changes in about half the cases.
func TestHashSpreads(t *testing.T) {
	t.Parallel()
	k := table.NewKey([16]byte{1, 2, 3, 15: 9})
	var changed [64]int
	const rounds = 200
	for n := range uint64(rounds) {
		in := [3]uint64{n, n << 8, 7}
		h := k.Hash(in[0], in[1], in[2])
		for bit := range 192 {
			in[bit/64] ^= 1 << (bit % 64)
			d := h ^ k.Hash(in[0], in[1], in[2])
			in[bit/64] ^= 1 << (bit % 64)
			for ; d != 0; d &= d - 1 {
				changed[bits.TrailingZeros64(d)]++
			}
		}
	}
	for bit, n := range changed {
		if share := float64(n) / (rounds * 192); share < 0.45 || share > 0.55 {
			t.Errorf("bit %d changes in %.3f of the cases, want about half", bit, share)
		}
	}
	if k.Hash(1, 2, 3) == table.NewKey([16]byte{}).Hash(1, 2, 3) {
		t.Error("the key does not matter")
	}
}

// TestWaitReturnsAfterRunningBatches calls Wait during a batch, and with no batch running.
func TestWaitReturnsAfterRunningBatches(t *testing.T) {
	t.Parallel()
	e := table.NewEpochs(2)
	e.Enter(0)
	done := make(chan struct{})
	go func() {
		e.Wait()
		close(done)
	}()
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case <-done:
		t.Error("Wait has returned during a batch")
	default:
	}
	e.Leave(0)
	<-done
	for range 100 {
		e.Wait() // no batch runs
	}
}

// TestRetiredSlotWaitsForBatches frees a slot while a worker is in its batch and a goroutine is in Read.
func TestRetiredSlotWaitsForBatches(t *testing.T) {
	t.Parallel()
	e := table.NewEpochs(2)
	s := table.NewSlab[uint64](1, e)
	all := drain(s)
	freed := all[len(all)/2]

	e.Enter(1)
	s.Retire(freed)
	mustAlloc(t, s, 0)
	e.Enter(0) // entered after the slot was freed: does not matter
	mustAlloc(t, s, 0)
	e.Leave(1)
	mustAlloc(t, s, freed)
	e.Leave(0)

	e.Read(func() {
		s.Retire(freed)
		mustAlloc(t, s, 0)
	})
	mustAlloc(t, s, freed)
}

func drain(s *table.Slab[uint64]) (slots []uint32) {
	for {
		slot := s.Alloc(uint32(len(slots)))
		if slot == 0 {
			return slots
		}
		slots = append(slots, slot)
	}
}

func mustAlloc(t *testing.T, s *table.Slab[uint64], want uint32) {
	t.Helper()
	if got := s.Alloc(5); got != want {
		t.Fatalf("Alloc returned slot %d, want %d", got, want)
	}
}

func TestSlabHandsOutEachSlotOnce(t *testing.T) {
	t.Parallel()
	s := table.NewSlab[uint64](10_000, table.NewEpochs(1))
	seen := make(map[uint32]bool)
	for _, slot := range drain(s) {
		if slot == 0 || slot >= s.Slots() || seen[slot] {
			t.Fatalf("slot %d of %d came twice, or never should have", slot, s.Slots())
		}
		seen[slot] = true
		*s.At(slot) = uint64(slot)
	}
	if len(seen) < 10_000 {
		t.Fatalf("room for %d entries, want 10000", len(seen))
	}
	for slot := range seen {
		if *s.At(slot) != uint64(slot) {
			t.Fatalf("slot %d holds the entry of another slot", slot)
		}
	}
}

// TestIndexModel compares an index with a map. The few tags and shards cause collisions, overflow and growth.
func TestIndexModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := table.NewIndex(1, table.NewEpochs(1))
		model := make(map[uint32]uint64) // slot to hash
		hash := rapid.Custom(func(t *rapid.T) uint64 {
			return uint64(rapid.IntRange(0, 1).Draw(t, "shard"))<<63 | uint64(rapid.IntRange(0, 40).Draw(t, "tag"))
		})
		next := uint32(1)
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				h := hash.Draw(t, "hash")
				s := x.Lock(h)
				s.Insert(h, next)
				s.Unlock()
				model[next] = h
				next++
			},
			"remove": func(t *rapid.T) {
				slot := uint32(rapid.IntRange(1, int(next)).Draw(t, "slot"))
				h, ok := model[slot]
				if !ok {
					t.Skip("no such slot")
				}
				s := x.Lock(h)
				s.Remove(h, slot)
				s.Unlock()
				delete(model, slot)
			},
			"": func(t *rapid.T) { compareIndex(t, x, model) },
		})
	})
}

func compareIndex(t *rapid.T, x *table.Index, model map[uint32]uint64) {
	total := 0
	for i := range x.Shards() {
		s := x.LockShard(i)
		s.Each(func(slot uint32) {
			total++
			if _, ok := model[slot]; !ok {
				t.Fatalf("slot %d is in the index and should not be", slot)
			}
		})
		s.Unlock()
	}
	if total != len(model) {
		t.Fatalf("%d slots in the index, want %d", total, len(model))
	}
	for slot, h := range model {
		if !finds(x, h, slot) {
			t.Fatalf("slot %d with hash %#x is not found", slot, h)
		}
	}
}

func finds(x *table.Index, h uint64, slot uint32) bool {
	p := x.Find(h)
	for got := p.Next(); got != 0; got = p.Next() {
		if got == slot {
			return true
		}
	}
	return false
}

// store is a set of keys in a slab with an index, as the tables use them.
type store struct {
	epochs *table.Epochs
	slab   *table.Slab[uint64]
	index  *table.Index
	key    table.Key
}

func (s *store) insert(key uint64) (slot uint32) {
	h := s.key.Hash(key, 0, 0)
	for slot = s.slab.Alloc(uint32(h)); slot == 0; slot = s.slab.Alloc(uint32(h)) {
		runtime.Gosched() // a reader is in its batch, but not on a CPU
	}
	sh := s.index.Lock(h)
	defer sh.Unlock()
	*s.slab.At(slot) = key
	sh.Insert(h, slot)
	return slot
}

func (s *store) remove(key uint64, slot uint32) {
	h := s.key.Hash(key, 0, 0)
	sh := s.index.Lock(h)
	defer sh.Unlock()
	sh.Remove(h, slot)
	s.slab.Retire(slot)
}

func (s *store) has(key uint64) bool {
	p := s.index.Find(s.key.Hash(key, 0, 0))
	for slot := p.Next(); slot != 0; slot = p.Next() {
		if *s.slab.At(slot) == key {
			return true
		}
	}
	return false
}

// TestReadersDuringWrites lets readers look for keys that are always present, and for keys in slots that are freed and
// reused all the time. The race detector checks that no key changes under a reader within a batch.
func TestReadersDuringWrites(t *testing.T) {
	t.Parallel()
	const (
		readers = 3
		stable  = 500
		moving  = 500
		rounds  = 40_000 // more than the slab has slots: they are reused
	)
	e := table.NewEpochs(readers)
	s := &store{e, table.NewSlab[uint64](stable+moving, e), table.NewIndex(stable+moving, e), table.NewKey([16]byte{7})}
	for key := range uint64(stable) {
		s.insert(key)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range readers {
		wg.Go(func() {
			for n := uint64(w); !stop.Load(); n++ {
				e.Enter(w)
				for i := range uint64(32) {
					if key := (n*32 + i) % stable; !s.has(key) {
						t.Errorf("key %d is not found", key)
					}
					s.has(stable + (n+i)%moving)
				}
				e.Leave(w)
			}
		})
	}
	var slots [moving]uint32
	for n := range uint64(rounds) {
		i := n % moving
		if slots[i] != 0 {
			s.remove(stable+i, slots[i])
		}
		slots[i] = s.insert(stable + i)
	}
	stop.Store(true)
	wg.Wait()
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(map[int]string{1_000: "1k", 1_000_000: "1M"}[n], func(b *testing.B) {
			x := table.NewIndex(n, table.NewEpochs(1))
			k := table.NewKey([16]byte{3})
			for i := range uint64(n) {
				h := k.Hash(i, 0, 0)
				s := x.Lock(h)
				s.Insert(h, uint32(i+1))
				s.Unlock()
			}
			i, miss := uint64(0), 0
			for b.Loop() {
				p := x.Find(k.Hash(i*2654435761%uint64(n), 0, 0))
				if p.Next() == 0 {
					miss++
				}
				i++
			}
			if miss > 0 {
				b.Fatalf("%d of %d not found", miss, i)
			}
		})
	}
}

// BenchmarkInsertRemove inserts and removes a slot in an index of a million.
func BenchmarkInsertRemove(b *testing.B) {
	const n = 1_000_000
	x, k := table.NewIndex(n+1, table.NewEpochs(1)), table.NewKey([16]byte{3})
	for i := range uint64(n) {
		h := k.Hash(i, 0, 0)
		s := x.Lock(h)
		s.Insert(h, uint32(i+1))
		s.Unlock()
	}
	i := uint64(n)
	for b.Loop() {
		h := k.Hash(i, 0, 0)
		s := x.Lock(h)
		s.Insert(h, n+1)
		s.Remove(h, n+1)
		s.Unlock()
		i++
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	x := table.NewIndex(10, table.NewEpochs(1))
	s := x.Lock(5)
	s.Insert(5, 1)
	s.Unlock()
	if n := testing.AllocsPerRun(100, func() {
		s := x.Lock(6)
		s.Insert(6, 2)
		s.Remove(6, 2)
		s.Unlock()
		p := x.Find(5)
		for p.Next() != 0 {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
