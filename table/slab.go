package table

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	runLen  = 1024 // slots that a stripe of a slab gets together
	stripes = 16   // free lists of a slab, so that writers seldom meet
)

// Slab is the memory that entries of type T live in. An entry is named by its slot, a number that is never 0, and its
// memory never moves and is never given back while the slab is in use, so that a reader without a lock always finds an
// entry there, though perhaps a dead one. T holds no pointers: ten million entries then cost the garbage collector
// nothing. If the size of T divides that of a cache line, no entry lies in two of them.
//
// All methods may be called by any goroutine. The fields of an entry are the user's matter; the rule that the tables
// keep is that key fields are written between Alloc and the publication of the slot in an index, and never again
// until the slot has been retired. Who uses an entry keeps the slab reachable.
type Slab[T any] struct {
	epochs  *Epochs
	entries []T
	links   []uint32      // of free and retired slots; beside the entries, which late readers may still read
	used    atomic.Uint32 // the slots that stripes have got are below; written under growing
	ready   [2]int        // the entries, and the links, that are below have been prepared; for Maintain
	growing sync.Mutex
	stripes [stripes]stripe
}

// stripe is one of the free lists.
type stripe struct {
	sync.Mutex
	fresh, end uint32 // slots of the newest run that were never used
	free       uint32 // head of the list of slots ready for use
	sealed     uint32 // head of the list of slots that are ready when epoch has passed
	epoch      uint64
	retired    uint32 // head of the list of slots retired since then
	_          [88]byte
}

// NewSlab returns a slab for at least max entries. Slots in retirement take room as well; an eighth more is there for
// them.
func NewSlab[T any](max int, e *Epochs) *Slab[T] {
	n := ((max+max/8)/runLen + stripes + 1) * runLen
	s := &Slab[T]{epochs: e}
	s.entries = reserve[Slab[T], T](s, n)
	s.links = reserve[Slab[T], uint32](s, n)
	return s
}

// At returns the entry in a slot that Alloc has returned at some time.
func (s *Slab[T]) At(slot uint32) *T { return &s.entries[slot] }

// Line returns where the entry in a slot is, for Lines.
func (s *Slab[T]) Line(slot uint32) uintptr { return uintptr(unsafe.Pointer(&s.entries[slot])) }

// Slots returns the number that all slots in use are below. Entries that were never in use are zero.
func (s *Slab[T]) Slots() uint32 { return s.used.Load() }

// Cap returns the number that all slots will ever be below.
func (s *Slab[T]) Cap() int { return len(s.entries) }

// Maintain prepares memory that is about to be used, if the slab is large. It is for one goroutine, ten times a second, and
// may take some milliseconds.
func (s *Slab[T]) Maintain() {
	used := int(s.used.Load())
	if used < large {
		return
	}
	from, to := used+large/2, min(used+2*large, len(s.entries))
	s.ready[0] = prepareAll(s.entries, max(s.ready[0], from), to)
	s.ready[1] = prepareAll(s.links, max(s.ready[1], from), to)
}

// prepareAll prepares values from one number up to another, or a little further, and returns the number of the first behind
// them. There may be none: near the end of a slab all is left to who makes the entries.
func prepareAll[T any](values []T, from, to int) int {
	for from < to {
		from = prepare(values, from)
	}
	return from
}

// large is how many entries make a slab large. Half as many may come in the time between two calls of Maintain; it does not
// touch those, lest it and who makes an entry have the same page to wait for.
const large = 1 << 17

// Alloc returns a free slot, or 0 when there is none. The entry still holds what was in it when it was retired. Any
// hint will do; callers that give different ones seldom wait for each other.
func (s *Slab[T]) Alloc(hint uint32) uint32 {
	for i := range uint32(stripes) {
		if slot := s.take(&s.stripes[(hint+i)%stripes]); slot != 0 {
			return slot
		}
	}
	return 0
}

// Retire gives a slot back. The caller has unlinked it, so that who enters a batch from now on cannot find it; it is
// used again when all batches of today have ended.
func (s *Slab[T]) Retire(slot uint32) {
	st := &s.stripes[slot/runLen%stripes]
	st.Lock()
	defer st.Unlock()
	s.links[slot] = st.retired
	st.retired = slot
}

func (s *Slab[T]) take(st *stripe) uint32 {
	st.Lock()
	defer st.Unlock()
	if st.free == 0 {
		s.recycleLocked(st)
	}
	if slot := st.free; slot != 0 {
		st.free = s.links[slot]
		return slot
	}
	if st.fresh == st.end && !s.grow(st) {
		return 0
	}
	slot := st.fresh
	st.fresh++
	return slot
}

// recycleLocked moves retired slots one step on: to the free list if their epoch has passed, and into an epoch of their own
// if none is under way. The caller holds the lock of st.
func (s *Slab[T]) recycleLocked(st *stripe) {
	if st.sealed != 0 && s.epochs.passed(st.epoch) {
		st.free, st.sealed = st.sealed, 0
	}
	if st.sealed == 0 && st.retired != 0 {
		st.sealed, st.retired = st.retired, 0
		st.epoch = s.epochs.next()
	}
	if st.free == 0 && st.sealed != 0 && s.epochs.passed(st.epoch) {
		st.free, st.sealed = st.sealed, 0
	}
}

// grow gives the stripe a new run of slots.
func (s *Slab[T]) grow(st *stripe) bool {
	s.growing.Lock()
	defer s.growing.Unlock()
	n := s.used.Load()
	if int(n) == len(s.entries) {
		return false
	}
	s.used.Store(n + runLen)
	st.fresh, st.end = n, n+runLen
	if n == 0 {
		st.fresh = 1 // slot 0 means "none"
	}
	return true
}
