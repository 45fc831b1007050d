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
// blocks. Only Maintain calls it.
func (s *Slab[T]) giveBack() {
	g := &s.giving
	if s.used.Load() < giveFrom || pageSize > runLen*4 {
		return
	}
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
	s.giveBlocks()
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
	var all sorted
	s.growing.Lock()
	for block := len(g.runs) - 1; block >= 0; block-- {
		r := &g.runs[block]
		switch {
		case r.n == runLen:
			g.addSpare(block, g.stripe)
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

// giveBlocks gives back the memory of some blocks of spare runs.
func (s *Slab[T]) giveBlocks() {
	for block, n := 0, 0; n < giveBlocks; block++ {
		done, end := s.giveBlock(block)
		if end {
			return
		}
		if done {
			n++
		}
	}
}

func (s *Slab[T]) giveBlock(block int) (done, end bool) {
	s.growing.Lock()
	defer s.growing.Unlock()
	g := &s.giving
	if block >= len(g.spare) {
		return false, true
	}
	if g.spare[block] != 1<<blockRuns-1 || g.gone[block].Load() {
		return false, false
	}
	from, to := uint32(block)*blockLen, uint32(block+1)*blockLen
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
