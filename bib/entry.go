package bib

import (
	"sync/atomic"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// entry is a binding in its slot: 32 bytes without pointers. All fields except counted and refs are written before the
// slot is published in the indexes, and stay unchanged until it has been retired and all batches of that time have
// ended, so that readers that found the slot in their batch read them without a lock.
type entry struct {
	client  packet.Endpoint6
	mapped  packet.Endpoint4
	proto   packet.Proto
	counted table.Generation // of the subscribers that count it; guarded by the shard's lock
	refs    refs
}

// refs is the reference count and the state of a binding in one word:
//
//	bits 0-29  count of sessions, and of packets that are making one
//	bit 30     static: it lives without sessions
//	bit 31     gone: it is in no index, and its memory is free after its last session
//
// acquire takes a count by CAS, unless the binding is dead or gone. The count of a dynamic binding reaches zero only
// under the lock of its shard, so that a binding which is in the index is alive for the holder of that lock.
type refs struct{ atomic.Uint32 }

const (
	static   = 1 << 30
	gone     = 1 << 31
	sessions = static - 1
)

// alive reports whether w is the word of a binding that packets may use.
func alive(w uint32) bool { return w != 0 && w&gone == 0 }

// acquire takes a count, unless the binding is dead or gone, or has most counts already; most is 0 for no limit.
func (r *refs) acquire(most uint32) drop.Reason {
	for {
		w := r.Load()
		if why := acquirable(w, most); why != drop.None || r.CompareAndSwap(w, w+1) {
			return why
		}
	}
}

// acquirable returns drop.None if a binding with the word w may get one more session.
func acquirable(w, most uint32) drop.Reason {
	switch {
	case !alive(w):
		return drop.NoBinding
	case most != 0 && w&sessions >= most:
		return drop.BindingSessions
	}
	return drop.None
}

// tryRelease gives a count back, unless it is the last count of a dynamic binding, which needs the shard's lock. It
// reports whether it did, and whether that was the last reference to a binding that is gone.
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

// set sets and clears flags and returns the new word.
func (r *refs) set(on, off uint32) uint32 {
	for {
		w := r.Load()
		n := w&^off | on
		if r.CompareAndSwap(w, n) {
			return n
		}
	}
}
