package table

import "testing"

// TestGuessReturnsFirstMatchOfFind inserts slots into each word of a bucket and into the next: Guess returns each of
// them and no other slot.
func TestGuessReturnsFirstMatchOfFind(t *testing.T) {
	t.Parallel()
	x := NewIndex(1, NewEpochs(1))
	s := x.LockShard(0)
	defer s.Unlock()
	for i := range uint32(bucketLen + 1) {
		hash := uint64(i) << 8 // all in one bucket
		if got := x.Guess(x.Home(hash)); got != 0 {
			t.Errorf("before the insertion of slot %d, Guess returned %d", i+1, got)
		}
		s.Insert(hash, i+1)
		p, want := x.Find(hash), i+1
		if got := p.Next(); got != want {
			t.Fatalf("Find returned %[2]d for slot %[1]d", want, got)
		}
		if got := x.Guess(x.Home(hash)); got != want {
			t.Errorf("slot %d is guessed as %d, want %d", i+1, got, want)
		}
	}
}

// TestHomeIsWhereFindBegins, in every shard and at every level.
func TestHomeIsWhereFindBegins(t *testing.T) {
	t.Parallel()
	x, k := NewIndex(70_000, NewEpochs(1)), NewKey([16]byte{4})
	for level := range x.tiers {
		for i := range x.levels {
			x.levels[i].Store(uint32(level))
		}
		for i := range uint64(10_000) {
			hash := k.Hash(i, 0, 0)
			p := x.Find(hash)
			if h := x.Home(hash); &x.all[h.at] != &p.buckets[p.at&uint32(len(p.buckets)-1)] {
				t.Fatalf("at level %d the home of %x is %d", level, hash, h.at)
			}
		}
	}
}

// TestHomeOutlastsGrowth: what was there when a batch began is guessed until its end, though all shards grow, and not
// beyond.
func TestHomeOutlastsGrowth(t *testing.T) {
	t.Parallel()
	const hash, slot = 7, 1
	e := NewEpochs(1)
	x := NewIndex(1, e)
	s := x.Lock(hash)
	s.Insert(hash, slot)
	s.Unlock()
	e.Enter(0)
	h := x.Home(hash)
	for i := range x.Shards() {
		s := x.LockShard(i)
		s.moveLocked(0, 1)
		s.Unlock()
	}
	for range 3 {
		x.Maintain()
	}
	if got := x.Guess(h); got != slot {
		t.Errorf("in the batch slot %d is guessed, want %d", got, slot)
	}
	e.Leave(0)
	x.Maintain()
	if got := x.Guess(x.Home(hash)); !x.tiers[0].isGone() || got != slot {
		t.Errorf("after it slot %d is guessed, want %d; the old memory has been given back: %v", got, slot, x.tiers[0].isGone())
	}
}

// TestNearlyAllIsGuessed, however full the shards are.
func TestNearlyAllIsGuessed(t *testing.T) {
	t.Parallel()
	const n, step = 1 << 16, 1 << 12
	x, k := NewIndex(n, NewEpochs(1)), NewKey([16]byte{5})
	for i := range uint32(n) {
		h := k.Hash(uint64(i), 0, 0)
		s := x.Lock(h)
		s.Insert(h, i+1)
		s.Unlock()
		if (i+1)%step != 0 {
			continue
		}
		right := 0
		for j := range i + 1 {
			if x.Guess(x.Home(k.Hash(uint64(j), 0, 0))) == j+1 {
				right++
			}
		}
		if share := float64(right) / float64(i+1); share < 0.95 {
			t.Errorf("of %d slots %.1f %% are guessed", i+1, 100*share)
		}
	}
}

// TestLinesIgnoreExcess fetches no line, some, too many, and addresses that are not mapped.
func TestLinesIgnoreExcess(t *testing.T) {
	t.Parallel()
	x := NewIndex(1, NewEpochs(1))
	var l Lines
	for _, n := range []int{0, 1, MaxLines, MaxLines + 1} {
		for i := range n {
			if i%2 == 0 {
				l.Add(x.Line(x.Home(uint64(i))))
			} else {
				l.Add(uintptr(i - 1))
			}
		}
		if want := min(n, MaxLines); l.n != want {
			t.Errorf("of %d lines %d are taken, want %d", n, l.n, want)
		}
		l.Fetch()
		if l.n != 0 {
			t.Errorf("%d of %d lines are left", l.n, n)
		}
	}
}

// BenchmarkGuess looks for slots among a million, 64 after their lines have been fetched.
func BenchmarkGuess(b *testing.B) {
	const n, together = 1_000_000, 64
	x, k := NewIndex(n, NewEpochs(1)), NewKey([16]byte{3})
	for i := range uint64(n) {
		h := k.Hash(i, 0, 0)
		s := x.Lock(h)
		s.Insert(h, uint32(i+1))
		s.Unlock()
	}
	var l Lines
	var homes [together]Home
	i, found := uint64(0), 0
	round := func() {
		for j := range homes {
			i++
			homes[j] = x.Home(k.Hash(i*2654435761%n, 0, 0))
			l.Add(x.Line(homes[j]))
		}
		l.Fetch()
		for _, h := range homes {
			if x.Guess(h) != 0 {
				found++
			}
		}
	}
	if a := testing.AllocsPerRun(10, round); a != 0 {
		b.Fatalf("%v allocations", a)
	}
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/together, "ns/slot")
	b.ReportMetric(100*float64(found)/float64(i), "%found")
}

// TestGuessStaysWithinShard fills the last bucket of a shard until it overflows, and leaves a word in the next shard's
// first bucket, as that shard does when it grows. No search in the first shard may return it: the slot may have been
// given to another entry since.
func TestGuessStaysWithinShard(t *testing.T) {
	t.Parallel()
	const tag, stale = 101, 99
	x := NewIndex(1, NewEpochs(1))
	s := x.LockShard(0)
	defer s.Unlock()
	s.moveLocked(0, 1) // to two buckets, of which odd tags belong into the second
	for i := range uint32(bucketLen + 1) {
		s.Insert(uint64(2*i+1), i+1)
	}
	next := &x.tiers[1].buckets[2]
	next[0].Store(word(tag, stale))
	home := x.Home(tag)
	if &x.all[home.at+1] != next || x.all[home.at][bucketLen].Load() == 0 {
		t.Fatal("the home is not a full bucket followed by the next shard")
	}
	if got := x.Guess(home); got != 0 {
		t.Errorf("the guess is slot %d of the next shard", got)
	}
	if got := x.Guess(x.Home(2*bucketLen + 1)); got != bucketLen+1 {
		t.Errorf("the slot that went from the last bucket to the first is guessed as %d, want %d", got, bucketLen+1)
	}
}
