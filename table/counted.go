package table

import "runtime"

// CountedKey is the key of a row. It holds no pointers.
type CountedKey interface {
	comparable
	Hash(Key) uint64
}

// Counted is a bounded table of rows that count what their key has. The first thing that is counted makes the row, and
// the last one that goes frees it. Neither K nor V holds pointers.
//
// Update may be called by any goroutine. It takes the lock of one shard, chosen by the hash of the key. Find takes no lock
// and is for workers in a batch of the Epochs given to NewCounted.
type Counted[K CountedKey, V any] struct {
	key   Key
	index *Index
	rows  *Slab[row[K, V]]
}

// row is a key and what it counts. The key is written before the slot is published in the index and stays until the slot
// has been retired and every batch of that time has ended.
type row[K, V any] struct {
	key   K
	value V
}

// NewCounted returns a table for at most max rows.
func NewCounted[K CountedKey, V any](max int, key Key, e *Epochs) *Counted[K, V] {
	return &Counted[K, V]{key: key, index: NewIndex(max, e), rows: NewSlab[row[K, V]](max, e)}
}

// Update calls f with the row of k, under the lock of the row's shard. A new row is zero. f reports whether the row still
// counts something; if not, Update frees it. Update returns false, without a call of f, if k has no row and there is no room
// for one.
func (c *Counted[K, V]) Update(k K, f func(*V) (counts bool)) (ok bool) {
	defer runtime.KeepAlive(c) // the caller's may be the last reference, and the rows are not Go's memory
	h := k.Hash(c.key)
	s := c.index.Lock(h)
	defer s.Unlock()
	slot := c.find(s.Find(h), k)
	if slot == 0 {
		if slot = c.addLocked(s, h, k); slot == 0 {
			return false
		}
	}
	if !f(&c.rows.At(slot).value) {
		s.Remove(h, slot)
		c.rows.Retire(slot)
	}
	return true
}

// addLocked makes a row and returns its slot, or 0 if there is no room. The caller holds the lock of s.
func (c *Counted[K, V]) addLocked(s *Shard, h uint64, k K) uint32 {
	slot := c.rows.Alloc(uint32(h))
	if slot == 0 {
		return 0
	}
	*c.rows.At(slot) = row[K, V]{key: k}
	if !s.Insert(h, slot) {
		c.rows.Retire(slot)
		return 0
	}
	return slot
}

// Find returns what k counts, to be read by atomic loads in the same batch and while c is reachable, or nil if it has no
// row. A row that is freed meanwhile stays as its last Update has left it.
func (c *Counted[K, V]) Find(k K) *V {
	slot := c.find(c.index.Find(k.Hash(c.key)), k)
	if slot == 0 {
		return nil
	}
	return &c.rows.At(slot).value
}

func (c *Counted[K, V]) find(p Probe, k K) (slot uint32) {
	for slot = p.Next(); slot != 0 && c.rows.At(slot).key != k; slot = p.Next() {
	}
	return slot
}

// Len returns the number of rows. It takes the lock of one shard after the other.
func (c *Counted[K, V]) Len() (n int) {
	for i := range c.index.Shards() {
		s := c.index.LockShard(i)
		n += int(s.live)
		s.Unlock()
	}
	return n
}

// Maintain does what Slab.Maintain and Index.Maintain do.
func (c *Counted[K, V]) Maintain() {
	c.rows.Maintain()
	c.index.Maintain()
}

// Generation tells the Counted tables that replace each other apart. An entry of another table holds the Generation that
// counts it, so that it is counted once and given back to the table that counts it; 0 is none.
//
// Whoever replaces the table has the new one count all entries before it replaces that one, so the Generation that an
// entry holds is never older than the last. Only a goroutine that is between two locks, for about a microsecond, can hold an
// older one. It would take it for the current one after 65,535 replacements; each of them reserves memory and visits at
// least 64 shards twice, which takes more than 10 µs, so 0.6 s is the least, and weeks at one reload a minute.
type Generation uint16

// Next returns the Generation that follows g.
func (g Generation) Next() Generation {
	if g++; g == 0 {
		g = 1
	}
	return g
}
