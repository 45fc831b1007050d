package table_test

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"nat64d/table"
)

// countedKey is a key with the hash given, so that tests choose the shard.
type countedKey struct {
	hash uint64
	n    uint32
}

func (k countedKey) Hash(table.Key) uint64 { return k.hash }

// tally counts two things, as the rows of a subscriber do.
type tally struct{ a, b int32 }

func (v *tally) any() bool { return *v != tally{} }

// TestCountedModel compares a table of rows with a map, where few hashes make the keys collide.
func TestCountedModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := table.NewEpochs(1)
		c := table.NewCounted[countedKey, tally](100, table.Key{}, e)
		model := make(map[countedKey]tally)
		key := rapid.Custom(func(t *rapid.T) countedKey {
			return countedKey{uint64(rapid.IntRange(0, 3).Draw(t, "hash")) << 31, uint32(rapid.IntRange(0, 3).Draw(t, "n"))}
		})
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				k := key.Draw(t, "key")
				want := model[k]
				want.a += int32(rapid.IntRange(0, 1).Draw(t, "a"))
				want.b = int32(rapid.IntRange(0, 1).Draw(t, "b"))
				if rapid.Bool().Draw(t, "free") {
					want = tally{}
				}
				ok := c.Update(k, func(v *tally) bool {
					if *v != model[k] {
						t.Fatalf("%v counts %v, want %v", k, *v, model[k])
					}
					*v = want
					return v.any()
				})
				if !ok {
					t.Fatalf("no room for %v with %d rows", k, len(model))
				}
				if model[k] = want; !want.any() {
					delete(model, k)
				}
			},
			"": func(t *rapid.T) { compareCounted(t, c, model, key.Draw(t, "other")) },
		})
	})
}

func compareCounted(t *rapid.T, c *table.Counted[countedKey, tally], model map[countedKey]tally, other countedKey) {
	if n := c.Len(); n != len(model) {
		t.Fatalf("%d rows, want %d", n, len(model))
	}
	for k, want := range model {
		if v := c.Find(k); v == nil || *v != want {
			t.Fatalf("%v counts %v, want %v", k, v, want)
		}
	}
	if v := c.Find(other); v != nil && *v != model[other] {
		t.Fatalf("%v counts %v, want %v", other, *v, model[other])
	}
}

// TestCountedRefusesFullShard aims all keys at one shard: the table refuses rows for which there is no room, and
// continues to count in existing rows and in other shards.
func TestCountedRefusesFullShard(t *testing.T) {
	t.Parallel()
	c := table.NewCounted[countedKey, tally](1000, table.Key{}, table.NewEpochs(1))
	add := func(k countedKey) bool { return c.Update(k, func(v *tally) bool { v.a++; return true }) }
	n := uint32(0)
	for add(countedKey{0, n}) {
		n++
	}
	if n < 1000/64*2 || n >= 1000 {
		t.Errorf("a shard has room for %d rows", n)
	}
	if c.Len() != int(n) {
		t.Errorf("%d rows, want %d", c.Len(), n)
	}
	if !add(countedKey{0, n - 1}) || !add(countedKey{math.MaxUint64, 0}) {
		t.Error("the table refuses a row that it has, or one of another shard")
	}
	for i := range 3000 { // more than there are slots: a refused row gives its slot back
		if add(countedKey{0, n + uint32(i)}) {
			t.Fatal("a full shard takes another row")
		}
	}
	if !c.Update(countedKey{0, 0}, func(*tally) bool { return false }) || !add(countedKey{0, n}) {
		t.Error("no room after a row was freed")
	}
}

// TestCountedReadersDuringUpdates lets a worker read a row by atomic loads while others make and free it.
func TestCountedReadersDuringUpdates(t *testing.T) {
	t.Parallel()
	const writers, rounds = 2, 5000
	e := table.NewEpochs(1)
	c := table.NewCounted[countedKey, atomic.Uint32](10, table.Key{}, e)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range uint32(rounds) {
				k := countedKey{n: i % 3}
				for !c.Update(k, func(v *atomic.Uint32) bool { v.Add(1); return true }) {
					runtime.Gosched() // the reader is in its batch
				}
				c.Update(k, func(v *atomic.Uint32) bool { return v.Add(^uint32(0)) != 0 })
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for ended := false; !ended; {
		e.Enter(0)
		for i := range uint32(30) {
			if v := c.Find(countedKey{n: i % 3}); v != nil && v.Load() > writers {
				t.Errorf("a row counts %d, want %d at most", v.Load(), writers)
			}
		}
		e.Leave(0)
		select {
		case <-done:
			ended = true
		default:
		}
	}
	if n := c.Len(); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func TestCountedDoesNotAllocate(t *testing.T) {
	c := table.NewCounted[countedKey, tally](10, table.Key{}, table.NewEpochs(1))
	by := int32(1)
	if n := testing.AllocsPerRun(100, func() {
		c.Update(countedKey{n: 1}, func(v *tally) bool { v.a += by; return v.any() })
		c.Find(countedKey{n: 1})
		c.Update(countedKey{n: 1}, func(v *tally) bool { v.a -= by; return v.any() })
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGenerationWrapSkipsNone(t *testing.T) {
	t.Parallel()
	g := table.Generation(math.MaxUint16 - 1)
	if g = g.Next(); g != math.MaxUint16 {
		t.Errorf("got generation %d, want %d", g, math.MaxUint16)
	}
	if g = g.Next(); g != 1 {
		t.Errorf("got generation %d after the last, want 1", g)
	}
}

// BenchmarkCounted makes and frees a row among 100,000.
func BenchmarkCounted(b *testing.B) {
	const n = 100_000
	c := table.NewCounted[countedKey, tally](n+1, table.Key{}, table.NewEpochs(1))
	k := table.NewKey([16]byte{3})
	for i := range uint32(n) {
		c.Update(countedKey{k.Hash(uint64(i), 0, 0), i}, func(v *tally) bool { v.a = 1; return true })
	}
	b.ReportAllocs()
	for i := uint32(n); b.Loop(); i++ {
		key := countedKey{k.Hash(uint64(i), 0, 0), i}
		c.Update(key, func(v *tally) bool { v.a++; return true })
		c.Update(key, func(v *tally) bool { v.a--; return false })
	}
}
