package session

import (
	"nat64d/bib"
	"nat64d/table"
)

// Purge ends the bindings that match, static ones included, and their sessions, and returns the number of both: after
// transport addresses have left pool4, or a static binding was removed. A packet that arrives meanwhile either finds
// the binding that is ending, or makes a new one. Purge locks one shard at a time; it calls match under a lock, so
// match must not call the tables.
func (t *Table) Purge(match func(bib.Binding) bool) (bindings, sessions int) {
	if bindings = t.bib.Unlink(match); bindings == 0 {
		return 0, 0
	}
	return bindings, t.purge(func(e *entry) (w word, freed bool) {
		if t.bib.Linked(e.binding) {
			return 0, false
		}
		w = word(e.word.Load())
		e.word.Store(uint64(w.freed()))
		return w, true
	})
}

// PurgePrefix ends the sessions whose clients used NAT64 prefix n last, and bindings that lose their last session,
// before another prefix gets the number. It returns the number of sessions. The caller has removed the prefix from
// pool6 and waited for the batches that can still use it (table.Epochs.Wait). PurgePrefix locks one shard at a time.
func (t *Table) PurgePrefix(n uint8) (sessions int) {
	return t.purge(func(e *entry) (w word, freed bool) {
		for {
			w = word(e.word.Load())
			if w.prefix() != n {
				return 0, false
			}
			if e.word.CompareAndSwap(uint64(w), uint64(w.freed())) {
				return w, true
			}
		}
	})
}

// PurgeSessions ends the sessions that match, and the dynamic bindings that lose their last session by that. It returns the
// number of sessions. A packet of the client makes a new session, except for a TCP segment that is no SYN. PurgeSessions locks
// one shard at a time; it calls match under the lock, so match must not call the tables.
func (t *Table) PurgeSessions(now table.Time, match func(*Session) bool) (sessions int) {
	limits := &t.policy.Load().limits
	return t.purge(func(e *entry) (w word, freed bool) {
		for {
			w = word(e.word.Load())
			alive := w.settle(now+origin, limits)
			if w.state() == Closed || alive.expired(now+origin, limits) {
				return 0, false
			}
			s := t.copy(e, alive) // the session has a count of its binding
			s.Remaining, s.Idle = alive.remaining(limits, now+origin), alive.idle(now+origin)
			if !match(&s) {
				return 0, false
			}
			if e.word.CompareAndSwap(uint64(w), uint64(w.freed())) {
				return w, true
			}
		}
	})
}

// purge ends the sessions that free frees, under the lock of their shard; free returns the last word.
func (t *Table) purge(free func(*entry) (word, bool)) (n int) {
	var ends []end
	for i := range t.index.Shards() {
		ends = t.purgeShard(i, free, ends[:0])
		for _, x := range ends {
			t.finalize(x)
		}
		n += len(ends)
	}
	return n
}

func (t *Table) purgeShard(i int, free func(*entry) (word, bool), ends []end) []end {
	s := t.index.LockShard(i)
	defer s.Unlock()
	s.Each(func(slot uint32) {
		e := t.entries.At(slot)
		if w, freed := free(e); freed {
			t.ended(slot, e, w, Purged, t.observers.now())
			ends = append(ends, t.unlinkLocked(s, t.hash(e.key()), slot))
		}
	})
	return ends
}
