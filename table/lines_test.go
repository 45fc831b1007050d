package table

import (
	"testing"
)

// TestGuessIsWhatFindBeginsWith: a slot in its own bucket is guessed whatever word it is in, one that had to go on to the next
// bucket is not, and neither is what has another hash.
func TestGuessIsWhatFindBeginsWith(t *testing.T) {
	t.Parallel()
	x := NewIndex(1, NewEpochs(1))
	s := x.LockShard(0)
	defer s.Unlock()
	for i := range uint32(bucketLen + 1) {
		hash := uint64(i) << 8 // all in one bucket
		if got := x.Guess(x.Home(hash)); got != 0 {
			t.Errorf("before slot %d is in, %d is guessed", i+1, got)
		}
		if i == bucketLen {
			s.grow(0)
		}
		s.Insert(hash, i+1)
		p, want := x.Find(hash), i+1
		if got := p.Next(); got != want {
			t.Fatalf("slot %d is found as %d", want, got)
		}
		if i == bucketLen {
			want = 0
		}
		if got := x.Guess(x.Home(hash)); got != want {
			t.Errorf("slot %d is guessed as %d, want %d", i+1, got, want)
		}
	}
}

// TestLinesTakeWhatTheyCan: none, some, too many, and places where nothing is.
func TestLinesTakeWhatTheyCan(t *testing.T) {
	t.Parallel()
	x := NewIndex(1, NewEpochs(1))
	var l Lines
	for _, n := range []int{0, 1, maxLines, maxLines + 1} {
		for i := range n {
			if i%2 == 0 {
				l.Add(x.Line(x.Home(uint64(i))))
			} else {
				l.Add(uintptr(i - 1))
			}
		}
		if want := min(n, maxLines); l.n != want {
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
