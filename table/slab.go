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

// Slab stores entries of type T. A slot, a number that is never 0, names an entry. The memory of an entry never moves
// and stays readable while the slab is reachable, so that a reader without a lock always finds an entry there, although
// perhaps a dead one. T holds no pointers, so that ten million entries cost the garbage collector nothing. If the size
// of T divides that of a cache line, no entry lies in two lines.
//
// Any goroutine may call the methods. The user of the slab synchronizes access to the fields of entries: the tables
// write the key fields between Alloc and the publication of the slot in an index, and not again until the slot has been
// retired. A caller that uses an entry keeps the slab reachable.
//
// The entries of a kept slab outlive the process: they lie in a file, into which only the users of the slab
// write. A seal in another file is a check word over the fields of an entry that stay while it is in use, by which a
// later process tells an entry from what is left of one.
type Slab[T any] struct {
	epochs  *Epochs
	entries []T
	seals   []uint32 // nil: the slab is not kept
	keeper  keeper
	links   []uint32      // of free and retired slots; apart from the entries, which late readers may still read
	used    atomic.Uint32 // all slots that stripes have are lower; written under growing
	ready   [2]int        // lower entries, and lower links, have been prepared; for Maintain
	growing sync.Mutex
	giving  giving
	stripes [stripes]stripe
}

// stripe is one of the free lists.
type stripe struct {
	sync.Mutex
	fresh, end uint32 // slots of the newest run that were never used
	free       uint32 // head of the list of free slots
	sealed     uint32 // head of the list of slots that are free when epoch has passed
	epoch      uint64
	retired    uint32 // head of the list of slots retired since then
	_          [88]byte
}

// NewSlab returns a slab for at least max entries. It has an eighth more slots, because retired slots take room as well.
func NewSlab[T any](max int, e *Epochs) *Slab[T] { return NewKeptSlab[T](max, e, nil, "") }

// NewKeptSlab is NewSlab with entries and seals in files of f, name and name.seals. If there are none, it is NewSlab.
func NewKeptSlab[T any](max int, e *Epochs, f Files, name string) *Slab[T] {
	n := ((max+max/8)/runLen + stripes + 1) * runLen
	s := &Slab[T]{epochs: e}
	s.giving.gone = make([]atomic.Bool, n/blockLen+1)
	s.links = reserve[Slab[T], uint32](s, n)
	entries, inFile := reserveKept[Slab[T], T](s, n, f, name)
	seals, sealsInFile := reserveKept[Slab[T], uint32](s, n, f, name+".seals")
	if inFile == nil || sealsInFile == nil {
		s.entries = reserve[Slab[T], T](s, n)
		return s
	}
	s.entries, s.seals, s.keeper.arrays = entries, seals, []*kept{inFile, sealsInFile}
	return s
}

// At returns the entry in a slot that Alloc has returned.
func (s *Slab[T]) At(slot uint32) *T { return &s.entries[slot] }

// Line returns the address of the entry in a slot, for Lines.
func (s *Slab[T]) Line(slot uint32) uintptr { return uintptr(unsafe.Pointer(&s.entries[slot])) }

// Kept reports whether entries outlive the process, and Unkept how many slots do not, because their file had no room.
func (s *Slab[T]) Kept() bool     { return s.seals != nil }
func (s *Slab[T]) Unkept() uint32 { return s.keeper.failed.Load() }

// Seal stores the check word of an entry, before the entry is in use. In a slab that is not kept it does nothing.
func (s *Slab[T]) Seal(slot, check uint32) {
	if s.seals != nil {
		s.seals[slot] = check
	}
}

// Slots returns a number higher than all slots in use. Entries that were never in use are zero.
func (s *Slab[T]) Slots() uint32 { return s.used.Load() }

// Cap returns a number higher than all slots that Alloc can return.
func (s *Slab[T]) Cap() int { return len(s.entries) }

// Maintain prepares memory that will soon be used, if the slab is large, and gives memory back of which no slot is in use. It
// reports whether there may be more to give back. One goroutine calls it ten times a second; a call takes up to some
// milliseconds.
func (s *Slab[T]) Maintain() (more bool) {
	more = s.giveBack()
	if s.manySpare() {
		return more
	}
	s.prepareNext()
	return more
}

// prepareNext prepares the memory of the slots that stripes get next.
func (s *Slab[T]) prepareNext() {
	used := int(s.used.Load())
	if used < large {
		return
	}
	from, to := used+large/2, min(used+2*large, len(s.entries))
	s.ready[1] = prepareAll(s.links, max(s.ready[1], from), to)
	if s.Kept() {
		s.keeper.ahead(uint32(to))
		return
	}
	s.ready[0] = prepareAll(s.entries, max(s.ready[0], from), to)
}

// prepareAll prepares the values from index from up to at least index to, and returns the index of the first value
// after them. Near the end of a slab from can be higher than to; then it does nothing.
func prepareAll[T any](values []T, from, to int) int {
	for from < to {
		from = prepare(values, from)
	}
	return from
}

// large is the number of entries from which on a slab is large. Up to half as many entries can be made between two
// calls of Maintain, which leaves that many alone, so that it never prepares the page that an insertion is waiting for.
const large = 1 << 17

// Alloc returns a free slot, or 0 if there is none. The entry still holds its contents of before it was retired, or is zero. The
// hint selects a free list: callers with different hints seldom wait for each other.
func (s *Slab[T]) Alloc(hint uint32) uint32 {
	for i := range uint32(stripes) {
		if slot := s.take(&s.stripes[(hint+i)%stripes]); slot != 0 {
			return slot
		}
	}
	return 0
}

// Retire gives a slot back. The caller has unlinked it, so that a reader that enters a batch after the call cannot find
// it. Alloc returns it again when all batches that had begun before have ended.
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

// recycleLocked moves the sealed slots to the free list if their epoch has passed, and seals the retired slots in a new
// epoch if no others are sealed. The caller holds the lock of st.
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
	if first, ok := s.takeSpareLocked(); ok {
		st.fresh, st.end = first, first+runLen
		return true
	}
	n := s.used.Load()
	if int(n) == len(s.entries) {
		return false
	}
	s.keeper.need(n + runLen)
	s.used.Store(n + runLen)
	st.fresh, st.end = n, n+runLen
	if n == 0 {
		st.fresh = 1 // slot 0 means "none"
	}
	return true
}
