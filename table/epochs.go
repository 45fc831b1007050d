package table

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Epochs decides when a freed slot can be reused: when no reader can still have found it (epoch-based reclamation). A
// reader announces itself for the time of one batch. A slot that is freed meanwhile is reused only after that batch has
// ended, so that no key changes under a reader, although readers take no lock.
//
// Only worker w calls Enter and Leave with its number. Any goroutine may call Read, Wait and the methods of Slab that
// retire and reuse slots.
type Epochs struct {
	// now counts the batches of freed slots. It does not wrap: an increment comes with at least one freed slot, so even at
	// 10^9 a second, more than the tables can free, 2^64 of them take 584 years.
	now     atomic.Uint64
	readers []reader // the last ones are for Read
	reading [atOnce]sync.Mutex
}

// atOnce is the number of calls of Read that do not wait for each other.
const atOnce = 8

// reader holds the epoch in which a worker entered its batch, or 0 between batches. It fills two cache lines, because
// processors fetch lines in pairs, so that workers do not share one.
type reader struct {
	epoch atomic.Uint64
	_     [120]byte
}

// NewEpochs returns the epochs of a number of workers, which are numbered from 0.
func NewEpochs(workers int) *Epochs {
	e := &Epochs{readers: make([]reader, workers+atOnce)}
	e.now.Store(1)
	return e
}

// Enter begins a batch of worker w.
func (e *Epochs) Enter(w int) { e.readers[w].epoch.Store(e.now.Load()) }

// Leave ends a batch of worker w, which must no longer use the slots that it has found in the batch.
func (e *Epochs) Leave(w int) { e.readers[w].epoch.Store(0) }

// Read runs f, which may read tables like a worker in its batch. No slot that is freed meanwhile is reused before f
// returns: f must be short.
func (e *Epochs) Read(f func()) {
	i := e.lockReader()
	defer e.reading[i].Unlock()
	w := len(e.readers) - atOnce + i
	e.Enter(w)
	defer e.Leave(w)
	f()
}

// lockReader returns the number of a reader that no other goroutine uses, and waits for one if need be.
func (e *Epochs) lockReader() (i int) {
	for i = range e.reading[1:] {
		if e.reading[i].TryLock() {
			return i
		}
	}
	i = atOnce - 1
	e.reading[i].Lock()
	return i
}

// Wait returns when all batches that have begun before the call have ended. A worker must not call it in a batch.
func (e *Epochs) Wait() {
	for now := e.next(); !e.passed(now); {
		runtime.Gosched()
	}
}

// next begins an epoch and returns its number: a reader that enters in it cannot find a slot that was unlinked before
// the call.
func (e *Epochs) next() uint64 { return e.now.Add(1) }

// passed reports whether all readers that entered before the epoch have left. Atomic loads and stores are totally
// ordered: a reader that has loaded an older number but has not stored it yet reads the tables only after the slot was
// unlinked.
func (e *Epochs) passed(epoch uint64) bool {
	for i := range e.readers {
		if in := e.readers[i].epoch.Load(); in != 0 && in < epoch {
			return false
		}
	}
	return true
}
