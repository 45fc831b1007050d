package table

import (
	"math/bits"
	"sync/atomic"
)

// blockRuns is the number of runs whose memory is given back together: one of each stripe. With whole blocks the number of
// mappings of the process stays far below the limit of the kernel (vm.max_map_count), which ends a process of Go.
const (
	blockRuns = stripes
	blockLen  = blockRuns * runLen
)

// Our own choices: how many slots, and how many blocks, one call of Maintain looks at or gives back; and from how many slots
// on a slab gives memory back.
const (
	giveStep   = 1 << 15
	giveTakes  = 4 // of the free slots of a stripe, until they are sorted
	giveBlocks = 8
	giveFrom   = 4 * blockLen
)

// giving is the part of a slab that gives memory back: runs of which all slots are free leave the stripes and are spare, and
// the memory of a block of spare runs goes back to the kernel. grow takes spare runs first.
type giving struct {
	onGive func(from, to uint32)

	spare []uint16      // by block: a bit for each spare run; guarded by Slab.growing
	gone  []atomic.Bool // by block: its memory has been given back; written under Slab.growing
	some  int           // spare runs; guarded by Slab.growing

	// For Maintain: the free slots of one stripe, while they are sorted by run.
	stripe int
	list   uint32 // those that are not sorted yet
	runs   []sorted
	active bool
	takes  int
	quiet  int // stripes in a row that had no run to give
}

// sorted is the free slots of one run, as a list.
type sorted struct{ head, tail, n uint32 }

// OnGive makes Maintain call f before it gives back the memory of the slots from from on below to. The entries are zero then,
// as if the slots had never been in use.
func (s *Slab[T]) OnGive(f func(from, to uint32)) { s.giving.onGive = f }

// NextBlock returns the first slot from slot on whose memory has not been given back, at most s.Slots(), and the end of its
// block.
func (s *Slab[T]) NextBlock(slot uint32) (next, end uint32) {
	all := s.Slots()
	for slot < all && int(slot/blockLen) < len(s.giving.gone) && s.giving.gone[slot/blockLen].Load() {
		slot = (slot/blockLen + 1) * blockLen
	}
	slot = min(slot, all)
	return slot, min((slot/blockLen+1)*blockLen, all)
}

// giveBack continues to sort the free slots of a stripe, or begins with the next stripe, and gives back the memory of some
// blocks. It reports whether there may be more to give back. Only Maintain calls it.
func (s *Slab[T]) giveBack() (more bool) {
	g := &s.giving
	if !g.active && s.used.Load() < giveFrom || pageSize > runLen*4 {
		return false
	}
	s.sortFree()
	gave := s.giveBlocks()
	s.trim()
	return gave || g.active || g.quiet < stripes
}

// sortFree continues to sort the free slots of a stripe by run, or begins with the next stripe.
func (s *Slab[T]) sortFree() {
	g := &s.giving
	if !g.active {
		g.stripe, g.active, g.takes = (g.stripe+1)%stripes, true, 0
		s.retireFresh(&s.stripes[g.stripe])
		g.runs = append(g.runs[:0], make([]sorted, int(s.used.Load())/blockLen+1)...)
	}
	for left := giveStep; left > 0; left-- {
		if g.list == 0 {
			if g.takes++; g.takes <= giveTakes {
				g.list = s.takeFree(&s.stripes[g.stripe])
			}
			if g.list == 0 {
				s.putSorted()
				break
			}
		}
		slot := g.list
		g.list = s.links[slot]
		r := g.run(slot)
		s.links[slot] = r.head
		if r.n == 0 {
			r.tail = slot
		}
		r.head = slot
		r.n++
	}
}

// run returns the list of the run of a slot. Runs that the stripe got meanwhile make the lists longer.
func (g *giving) run(slot uint32) *sorted {
	for int(slot/blockLen) >= len(g.runs) {
		g.runs = append(g.runs, sorted{})
	}
	return &g.runs[slot/blockLen]
}

// takeFree takes the free slots of a stripe. The other stripes serve meanwhile, and have
// more slots than the slab was made for.
func (s *Slab[T]) takeFree(st *stripe) (list uint32) {
	st.Lock()
	defer st.Unlock()
	if st.free == 0 {
		s.recycleLocked(st)
	}
	list, st.free = st.free, 0
	return list
}

// retireFresh gives the slots of a stripe that were never used to the stripes that get them when they are free.
func (s *Slab[T]) retireFresh(st *stripe) {
	st.Lock()
	from, to := st.fresh, st.end
	st.fresh, st.end = 0, 0
	st.Unlock()
	for ; from < to; from++ {
		s.Retire(from)
	}
}

// putSorted returns the sorted slots to their stripe, the lowest first, so that the higher runs become free in time, and makes
// the runs spare that are free as a whole.
func (s *Slab[T]) putSorted() {
	g := &s.giving
	g.active = false
	g.quiet++
	var all sorted
	s.growing.Lock()
	for block := len(g.runs) - 1; block >= 0; block-- {
		r := &g.runs[block]
		switch {
		case r.n == runLen:
			g.addSpare(block, g.stripe)
			g.quiet = 0
		case r.n > 0:
			s.links[r.tail] = all.head
			if all.n == 0 {
				all.tail = r.tail
			}
			all.head = r.head
			all.n += r.n
		}
	}
	s.growing.Unlock()
	if all.n == 0 {
		return
	}
	st := &s.stripes[g.stripe]
	st.Lock()
	defer st.Unlock()
	s.links[all.tail] = st.free
	st.free = all.head
}

func (g *giving) addSpare(block, run int) {
	for block >= len(g.spare) {
		g.spare = append(g.spare, 0)
	}
	g.spare[block] |= 1 << run
	g.some++
}

// giveBlocks gives back the memory of some blocks of spare runs, and reports whether there were any.
func (s *Slab[T]) giveBlocks() (gave bool) {
	for block, n := 0, 0; n < giveBlocks; block++ {
		done, end := s.giveBlock(block)
		if end {
			return n > 0
		}
		if done {
			n++
		}
	}
	return true
}

func (s *Slab[T]) giveBlock(block int) (done, end bool) {
	s.growing.Lock()
	defer s.growing.Unlock()
	g := &s.giving
	if block >= len(g.spare) {
		return false, true
	}
	from, to := s.blockLocked(block)
	if from == to { // trim has forgotten it
		return false, true
	}
	if g.spare[block] != 1<<((to-from)/runLen)-1 || g.gone[block].Load() {
		return false, false
	}
	if g.onGive != nil {
		g.onGive(from, to)
	}
	if s.Kept() {
		s.keeper.leave(from, to)
	} else {
		release(s.entries[from:to])
	}
	release(s.links[from:to])
	g.gone[block].Store(true)
	return true, false
}

// blockLocked returns the first slot of a block, and the one after its last run, which the last block may have fewer of. The
// caller holds s.growing.
func (s *Slab[T]) blockLocked(block int) (from, to uint32) {
	from = uint32(block) * blockLen
	return from, min(from+blockLen, max(from, s.used.Load()))
}

// trim makes the slab end before the last blocks if their memory has been given back, so that fewer slots are visited, and gives
// back the memory that was prepared behind its end if there are many spare runs.
func (s *Slab[T]) trim() {
	s.growing.Lock()
	defer s.growing.Unlock()
	g, trimmed := &s.giving, false
	for {
		last := int(s.used.Load()-1) / blockLen
		if !g.gone[last].Load() {
			break
		}
		g.some -= bits.OnesCount16(g.spare[last])
		g.spare[last] = 0
		g.gone[last].Store(false)
		s.used.Store(uint32(last) * blockLen)
		trimmed = true
	}
	used := s.used.Load()
	if !trimmed && int(used)-g.some*runLen >= large {
		return
	}
	if s.Kept() {
		s.keeper.retreat(used)
	} else {
		releaseFrom(s.entries, int(used), s.ready[0])
	}
	releaseFrom(s.links, int(used), s.ready[1])
	s.ready = [2]int{}
}

// releaseFrom gives the memory of the values from index from on below to back. to may be beyond the end, or before from.
func releaseFrom[T any](values []T, from, to int) {
	if to = min(to, len(values)); from < to {
		release(values[from:to])
	}
}

// manySpare reports whether so many runs are spare that new slots hardly need further ones.
func (s *Slab[T]) manySpare() bool {
	s.growing.Lock()
	defer s.growing.Unlock()
	return s.giving.some*runLen >= large || int(s.used.Load())-s.giving.some*runLen < large
}

// takeSpareLocked returns the lowest spare run, or false if there is none. The caller holds s.growing.
func (s *Slab[T]) takeSpareLocked() (first uint32, ok bool) {
	g := &s.giving
	if g.some == 0 {
		return 0, false
	}
	for block, runs := range g.spare {
		if runs == 0 {
			continue
		}
		run := bits.TrailingZeros16(runs)
		g.spare[block] &^= 1 << run
		g.some--
		from := uint32(block) * blockLen
		if g.gone[block].Load() {
			if s.Kept() {
				s.keeper.back(from, from+blockLen)
			}
			g.gone[block].Store(false)
		}
		return from + uint32(run)*runLen, true
	}
	return 0, false
}
