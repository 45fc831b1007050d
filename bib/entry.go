package bib

import (
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// entry is a binding in its slot: 32 bytes without pointers. All fields but counted and refs are written before the slot is
// published in the indexes and stay until it has been retired and every batch of that time has ended; readers that
// found the slot in their batch read them without a lock.
type entry struct {
	client  packet.Endpoint6
	mapped  packet.Endpoint4
	proto   packet.Proto
	counted table.Generation // of the subscribers that count it; guarded by the shard's lock
	refs    refs
}

// refs is the life of a binding in one word:
//
//	bits 0-29  count of sessions, and of packets that are about to make one
//	bit 30     static: it lives without sessions
//	bit 31     gone: it is in no index any more, and only waits for its last session
//
// A count is taken by CAS, unless the binding is dead or gone. A dynamic binding's count reaches zero under the lock
// of its shard only, so that whoever holds that lock and finds a binding in the index finds it alive.
type refs struct{ atomic.Uint32 }

const (
	static   = 1 << 30
	gone     = 1 << 31
	sessions = static - 1
)

// alive reports whether w is the word of a binding that packets may use.
func alive(w uint32) bool { return w != 0 && w&gone == 0 }

// acquire takes a count, unless the binding is dead or gone, or has most of them already; most is 0 for no limit.
func (r *refs) acquire(most uint32) drop.Reason {
	for {
		w := r.Load()
		switch {
		case !alive(w):
			return drop.NoBinding
		case most != 0 && w&sessions >= most:
			return drop.BindingSessions
		case r.CompareAndSwap(w, w+1):
			return drop.None
		}
	}
}

// tryRelease gives a count back, unless it is the last one of a dynamic binding, which needs the shard's lock. It reports
// whether it did, and whether nothing is left that refers to the binding.
func (r *refs) tryRelease() (done, last bool) {
	for {
		w := r.Load()
		if w == 1 {
			return false, false
		}
		if r.CompareAndSwap(w, w-1) {
			return true, w-1 == gone
		}
	}
}

// set sets and clears flags and returns the word as it is then.
func (r *refs) set(on, off uint32) uint32 {
	for {
		w := r.Load()
		n := w&^off | on
		if r.CompareAndSwap(w, n) {
			return n
		}
	}
}
