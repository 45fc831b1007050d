package table

import "testing"

// TestMemoryKeepsItsContent while pages are prepared under it, and loses only what is released.
func TestMemoryKeepsItsContent(t *testing.T) {
	t.Parallel()
	type owner struct{ lines []bucket }
	const n = 3 << 15 // 6 MiB
	o := new(owner)
	o.lines = reserve[owner, bucket](o, n)
	for i := range o.lines {
		o.lines[i][i%8].Store(uint64(i))
	}
	for at, before := 1, 0; at < n; {
		if before, at = at, prepare(o.lines, at); at <= before {
			t.Fatalf("preparing goes from %d to %d", before, at)
		}
	}
	release(o.lines[100 : n/2])
	for i := range o.lines {
		if w := o.lines[i][i%8].Load(); w != uint64(i) && (i < 100 || i >= n/2 || w != 0) {
			t.Fatalf("line %d holds %d", i, w)
		}
	}
}

// TestLargeTablesAreTidied: entries and slots are where they were after memory has been prepared and given back.
func TestLargeTablesAreTidied(t *testing.T) {
	t.Parallel()
	const n = 300_000 - 270_000*raceDetector
	e := NewEpochs(1)
	s, x, k := NewSlab[uint64](n, e), NewIndex(n, e), NewKey([16]byte{1})
	for i := range uint64(n) {
		slot := s.Alloc(uint32(i))
		*s.At(slot) = i
		h := k.Hash(i, 0, 0)
		shard := x.Lock(h)
		shard.Insert(h, slot)
		shard.Unlock()
		if i%10_000 == 0 {
			s.Maintain()
			x.Maintain()
		}
	}
	for i := range uint64(n) {
		p := x.Find(k.Hash(i, 0, 0))
		slot := p.Next()
		for slot != 0 && *s.At(slot) != i {
			slot = p.Next()
		}
		if slot == 0 {
			t.Fatalf("entry %d is lost", i)
		}
	}
	if !x.tiers[0].isGone() {
		t.Error("the first level has not been given back")
	}
}

// TestSlabsAreTidiedToTheirEnd: of a slab with little room behind what makes it large, none of which is left to be prepared.
func TestSlabsAreTidiedToTheirEnd(t *testing.T) {
	t.Parallel()
	for _, most := range []int{100_000, 120_000, 150_000, 200_000} {
		s := NewSlab[uint64](most, NewEpochs(1))
		for i := range uint32(most) {
			slot := s.Alloc(i)
			if slot == 0 {
				t.Fatalf("slab for %d: full at %d", most, i)
			}
			*s.At(slot) = uint64(slot)
			if i%30_000 == 0 {
				s.Maintain()
			}
		}
		s.Maintain()
		for slot := range s.Slots() {
			if v := *s.At(slot); v != 0 && v != uint64(slot) {
				t.Fatalf("slab for %d: slot %d holds %d", most, slot, v)
			}
		}
	}
}
