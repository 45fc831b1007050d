package table

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Epochs tells when the last reader that may still look at a freed slot has gone. A reader announces itself for the
// time of one batch; a slot that is freed meanwhile is reused only after that batch has ended, so that within a batch
// a key never changes under a reader, though readers take no lock.
//
// Enter and Leave are called by worker w alone. Read, Wait and the methods of Slab that retire and reuse slots may be
// called by any goroutine.
type Epochs struct {
	// now counts the batches of freed slots. It does not wrap: an increment comes with at least one freed slot, so even at
	// 10^9 a second, more than the tables can free, 2^64 of them take 584 years.
	now     atomic.Uint64
	readers []reader   // the last one is for Read
	reading sync.Mutex // held by Read
}

// reader is what one worker says of itself: the epoch in which it entered its batch, 0 between batches. It fills two
// cache lines (adjacent lines are fetched together), so that workers do not disturb each other.
type reader struct {
	epoch atomic.Uint64
	_     [120]byte
}

// NewEpochs returns the epochs of so many workers, numbered from 0.
func NewEpochs(workers int) *Epochs {
	e := &Epochs{readers: make([]reader, workers+1)}
	e.now.Store(1)
	return e
}

// Enter begins a batch of worker w.
func (e *Epochs) Enter(w int) { e.readers[w].epoch.Store(e.now.Load()) }

// Leave ends a batch of worker w. What it found in a table is no longer to be used.
func (e *Epochs) Leave(w int) { e.readers[w].epoch.Store(0) }

// Read runs f, which may read tables like a worker in its batch. Concurrent calls wait for each other, and slots that are
// freed meanwhile are reused only afterwards: f must be short.
func (e *Epochs) Read(f func()) {
	e.reading.Lock()
	defer e.reading.Unlock()
	w := len(e.readers) - 1
	e.Enter(w)
	defer e.Leave(w)
	f()
}

// Wait returns when all batches that are under way now have ended. It must not be called in a batch.
func (e *Epochs) Wait() {
	for now := e.next(); !e.passed(now); {
		runtime.Gosched()
	}
}

// next ends the current epoch and returns the new one: what was unlinked before the call cannot be found by a reader
// that enters in it.
func (e *Epochs) next() uint64 { return e.now.Add(1) }

// passed reports whether no reader is left that entered before the epoch. Loads and stores of atomics are totally
// ordered: a reader that is about to enter with an older number, but that passed does not see yet, looks at the
// tables only after the unlinking.
func (e *Epochs) passed(epoch uint64) bool {
	for i := range e.readers {
		if in := e.readers[i].epoch.Load(); in != 0 && in < epoch {
			return false
		}
	}
	return true
}
