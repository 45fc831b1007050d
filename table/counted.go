package table

import "runtime"

// CountedKey is the key of a row. It holds no pointers.
type CountedKey interface {
	comparable
	Hash(Key) uint64
}

// Counted is a bounded table of rows that count the things of a key, such as the sessions of a client. The first count
// makes the row, the last one that is given back frees it. Neither K nor V holds pointers.
//
// Any goroutine may call Update, which takes the lock of one shard, chosen by the hash of the key. Find takes no lock
// and is for workers in a batch of the Epochs given to NewCounted.
type Counted[K CountedKey, V any] struct {
	key   Key
	index *Index
	rows  *Slab[row[K, V]]
	tried map[K]*V // of a trial: the rows that Update has copied; nil for one that counts nothing
}

// row is a key and its counts. The key is written before the slot is published in the index and stays until the slot
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
	if c.tried != nil {
		c.try(k, f)
		return true
	}
	defer runtime.KeepAlive(c) // the caller's may be the last reference, and the rows are not on Go's heap
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

// Trial returns a copy whose Update works on copies of the rows, so that c does not change. Such an Update finds room for every
// row. One goroutine may use a trial; Update is its only method.
func (c *Counted[K, V]) Trial() *Counted[K, V] {
	return &Counted[K, V]{key: c.key, index: c.index, rows: c.rows, tried: make(map[K]*V)}
}

func (c *Counted[K, V]) try(k K, f func(*V) (counts bool)) {
	v, copied := c.tried[k]
	if !copied {
		v = c.copied(k)
	}
	if v == nil {
		v = new(V)
	}
	if !f(v) {
		v = nil
	}
	c.tried[k] = v
}

// copied returns a copy of the row of k, or nil if there is none.
func (c *Counted[K, V]) copied(k K) *V {
	defer runtime.KeepAlive(c)
	h := k.Hash(c.key)
	s := c.index.Lock(h)
	defer s.Unlock()
	slot := c.find(s.Find(h), k)
	if slot == 0 {
		return nil
	}
	v := c.rows.At(slot).value
	return &v
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

// Line returns the address of the place in the index where the row of k is or will be, for Lines.
func (c *Counted[K, V]) Line(k K) uintptr { return c.index.Line(c.index.Home(k.Hash(c.key))) }

// Find returns the row of k, or nil if there is none. The caller reads it by atomic loads, in the same batch and while
// c is reachable. A row that is freed meanwhile keeps the contents that the last Update has left.
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

// Len returns the number of rows. It takes the locks of all shards, one after the other.
func (c *Counted[K, V]) Len() (n int) {
	for i := range c.index.Shards() {
		s := c.index.LockShard(i)
		n += int(s.live)
		s.Unlock()
	}
	return n
}

// Maintain calls Slab.Maintain and Index.Maintain, and reports whether one of them has more to give back.
func (c *Counted[K, V]) Maintain() (more bool) {
	more = c.rows.Maintain()
	return c.index.Maintain() || more
}

// Generation numbers the Counted tables that replace each other. An entry of another table holds the Generation of the
// table that counts it, so that it is counted once and given back to the right table; 0 is none.
//
// A new table counts all entries before the next one replaces it, so the Generation in an entry is the current one, the
// one before it, or 0, and a wrap does no harm there. Only a goroutine between two locks, for about a microsecond, can
// hold an older one. It would confuse that with the current one after 65,535 replacements. A replacement reserves
// memory and locks at least 64 shards twice, which takes more than 10 µs, so that 65,535 take more than 0.6 s in a
// loop, and 45 days at one reload a minute.
type Generation uint16

// Next returns the Generation that follows g.
func (g Generation) Next() Generation {
	if g++; g == 0 {
		g = 1
	}
	return g
}
