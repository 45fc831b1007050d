package session

import "nat64d/bib"

// Purge ends the bindings that match, static ones included, and their sessions, and nothing else: after transport
// addresses have left pool4, or a static binding has been removed, it leaves the tables as if they had never been
// there. It returns how many of both there were. A packet that arrives meanwhile either finds the binding that is
// about to end, or makes a new one. Locks are held for one shard at a time; match is called under a lock and must not
// call the tables.
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

// PurgePrefix ends the sessions whose clients used NAT64 prefix n last, and bindings that lose their last session by
// that, before the number gets another meaning. The caller has taken the prefix out of pool6 and let the batches end
// that may not know it (table.Epochs.Wait). It returns how many sessions there were. Locks are held for one shard at a
// time.
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

// purge ends the sessions whose words free has freed, under the lock of their shard; free returns the last word.
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
			ends = append(ends, t.unlink(s, t.hash(e.key()), slot))
		}
	})
	return ends
}
