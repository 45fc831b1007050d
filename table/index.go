package table

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Index finds slots by the hash of their key. It is a set of shards. A shard is an open-addressing table of buckets,
// and a bucket is a cache line of words, each half hash, half slot. The index does not know the keys: the caller of
// Find compares them.
//
// Find takes no lock; it is for readers in a batch of the Epochs given to NewIndex, and for the holder of the shard's
// lock. Insert, Remove and Each are methods of a locked Shard. A reader that runs concurrently with a writer sees the
// state before or after the change, a change of the level included: words move only by that, and it leaves the old words
// unchanged until all readers of that time have left.
//
// A shard grows by copying itself, under its lock, into twice as many buckets, whose address space NewIndex has
// reserved. Maintain makes shards that have become nearly empty smaller in the same way. Shards stay small: their number
// follows from the maximum number of entries, at about 1,000 entries a shard.
// So an insertion takes a bounded time in an index of any size, and does not delay other shards. The words hold enough
// of the hash to be copied without access to the entries. The hash spreads evenly, so all shards grow at about the same
// time, and Maintain gives the memory of a level that no shard uses back to the kernel.
type Index struct {
	epochs *Epochs
	levels []atomic.Uint32 // of each shard, which has 1<<level buckets; apart from the shards because every search reads them
	all    []bucket        // level after level, in each of them shard after shard
	tiers  []tier          // by level: the parts of all
	last   uint32          // the highest level that a shard reaches, except with probability < 1e-6
	shards []Shard

	moving sync.RWMutex // locked for reading while a shard moves to another level, for writing while memory is given back
	next   int          // the shard that shrink visits next; for Maintain
	calm   int          // shards visited since one was made smaller; for Maintain
}

// tier is the buckets of all shards at one level.
type tier struct {
	buckets []bucket
	shards  atomic.Int32  // at this level
	entered atomic.Uint32 // how often a shard has moved to this level

	// For Maintain.
	ready int    // the buckets below have been prepared
	since uint64 // the epoch in which Maintain has seen that no shard was here; 0: not yet
	seen  uint32 // entered at that time
	gone  uint32 // entered when the memory was given back
}

// Shard is one part of an Index. Index.Lock and Index.LockShard return it locked; its methods are for the holder of the
// lock.
type Shard struct {
	sync.Mutex
	index  *Index
	number uint32
	live   uint32 // words that hold a slot
	grown  uint64 // the epoch after the shard has grown: older readers may use lower levels
	shrunk uint64 // the epoch after it has shrunk: older readers may use higher levels
	used   uint32 // a bit for each level that may hold old words
	_      [20]byte
}

// bucket is a cache line. A word is the low half of the hash above the slot, or 0. The last word counts the slots that
// were inserted further on because this bucket was full: a search ends at a bucket where the count is 0, so that a
// removed slot needs no tombstone.
type bucket [bucketLen + 1]atomic.Uint64

const (
	bucketLen = 7
	maxLoad   = 6 // mean number of slots of a bucket at which a shard grows; then a third of the buckets overflow
	perShard  = 1024
	minShards = 64
)

// NewIndex returns an index for at most max entries, whose readers are in batches of e.
func NewIndex(max int, e *Epochs) *Index {
	n := (max + perShard - 1) / perShard
	if n < minShards {
		n = minShards
	}
	most := 2*max/n + minShards // slots of one shard; a share of 1,024 would have to deviate by 32 standard deviations
	levels := 1 + bits.Len(uint(most/maxLoad))
	last := uint32(bits.Len(uint(max / n * 5 / 4 / maxLoad)))
	x := &Index{epochs: e, last: last, levels: make([]atomic.Uint32, n), tiers: make([]tier, levels), shards: make([]Shard, n)}
	x.all = reserve[Index, bucket](x, n<<levels-n)
	for l, rest := 0, x.all; l < levels; l++ {
		x.tiers[l].buckets, rest = rest[:n<<l], rest[n<<l:]
	}
	x.tiers[0].shards.Store(int32(n))
	x.tiers[0].entered.Store(1)
	for i := range x.shards {
		x.shards[i].index, x.shards[i].number = x, uint32(i)
	}
	return x
}

// Find starts a search for entries with this hash.
func (x *Index) Find(hash uint64) Probe {
	n := x.shard(hash)
	b := x.buckets(n, x.levels[n].Load())
	return Probe{buckets: b, tag: uint32(hash), at: uint32(hash), last: uint32(hash) + uint32(len(b))}
}

// Home is the bucket in which a slot with a hash is, unless the bucket was full, and the tag that distinguishes the
// hash from others there. It is valid in the batch in which it was made.
type Home struct {
	at       uint32 // in Index.all
	overflow uint32 // where a slot is if that was full
	tag      uint32
}

// Home returns the home of a hash.
func (x *Index) Home(hash uint64) Home {
	shard, tag := x.shard(hash), uint32(hash)
	level := x.levels[shard].Load()
	n := uint32(len(x.levels))
	first := n<<level - n + shard<<level // of the shard, behind the n + 2n + ... buckets of lower levels
	mask := uint32(1)<<level - 1
	return Home{at: first + tag&mask, overflow: first + (tag+1)&mask, tag: tag}
}

// Line returns the address of a home, for Lines.
func (x *Index) Line(h Home) uintptr { return uintptr(unsafe.Pointer(&x.all[h.at])) }

// Guess returns a slot whose hash probably agrees, or 0. It finds nearly all slots that Find finds. Unlike Find it has
// no branch that depends on the position of the slot in its bucket, so that the processor can start the next search
// meanwhile. It stays within the shard: what a neighbour has left behind when it grew may name slots that have been
// given to others since.
func (x *Index) Guess(h Home) (slot uint32) {
	b := &x.all[h.at]
	if slot = b.guess(h.tag); slot == 0 && b[bucketLen].Load() != 0 {
		slot = x.all[h.overflow].guess(h.tag)
	}
	return slot
}

// guess returns a slot in the bucket with this half of a hash, or 0.
func (b *bucket) guess(tag uint32) (slot uint32) {
	found := b.has(0, tag) | b.has(1, tag)<<1 | b.has(2, tag)<<2 | b.has(3, tag)<<3 |
		b.has(4, tag)<<4 | b.has(5, tag)<<5 | b.has(6, tag)<<6
	if found == 0 {
		return 0
	}
	return uint32(b[bits.TrailingZeros64(found)&bucketLen].Load())
}

// has returns 1 if a word has this half of a hash, otherwise 0.
func (b *bucket) has(i int, tag uint32) uint64 { return (b[i].Load()>>32 ^ uint64(tag) - 1) >> 63 }

// Lock locks and returns the shard of a hash.
func (x *Index) Lock(hash uint64) *Shard { return x.LockShard(int(x.shard(hash))) }

// Shards returns the number of shards.
func (x *Index) Shards() int { return len(x.shards) }

// LockShard locks and returns a shard by its number.
func (x *Index) LockShard(n int) *Shard {
	s := &x.shards[n]
	s.Lock()
	return s
}

// Maintain makes nearly empty shards smaller, gives the memory of a level that all shards and all readers have left back to
// the kernel, and prepares the memory of the level that the shards are about to reach, if it is large. One goroutine calls it
// ten times a second; a call takes up to some milliseconds. Maintain reports whether there is more to give back.
func (x *Index) Maintain() (more bool) {
	more = x.shrink()
	level := x.levels[0].Load() + 1
	for l := range x.tiers {
		r := &x.tiers[l]
		switch entered := r.entered.Load(); {
		case r.shards.Load() > 0, r.gone == entered && (r.ready == 0 || uint32(l) == level && x.filled(level, 4)):
			r.since = 0
		case r.since == 0 || r.seen != entered:
			r.since, r.seen = x.epochs.next(), entered
			more = true
		case x.epochs.passed(r.since):
			more = !x.release(r) || more
		}
	}
	x.prepare(level)
	return more
}

// release gives the memory of a level back, and reports whether it has: not if a shard comes back to it meanwhile. A shard that
// moves waits for a part.
func (x *Index) release(r *tier) (done bool) {
	const part = 1 << 15                                                                                    // 2 MiB
	first := (-int(uintptr(unsafe.Pointer(&r.buckets[0]))) & (pageSize - 1)) / int(unsafe.Sizeof(bucket{})) // on a page of its own
	for from := first; from < len(r.buckets); from += part {
		if !x.releasePart(r, r.buckets[from:min(from+part, len(r.buckets))]) {
			return false
		}
	}
	r.gone, r.ready, r.since = r.seen, 0, 0
	return true
}

func (x *Index) releasePart(r *tier, b []bucket) bool {
	x.moving.Lock()
	defer x.moving.Unlock()
	if r.entered.Load() != r.seen {
		return false
	}
	release(b)
	return true
}

// shrink makes some nearly empty shards smaller. It reports whether there was one among the last len(x.shards) shards.
func (x *Index) shrink() (more bool) {
	const atOnce = 1024 // shards
	for range min(atOnce, len(x.shards)) {
		if x.calm++; x.shrinkShard(x.next) {
			x.calm = 0
		}
		x.next = (x.next + 1) % len(x.shards)
	}
	return x.calm < len(x.shards)
}

// smallest returns the level below which shards do not shrink: their buckets take half a MiB to 1 MiB together. A shard cannot
// grow again until all readers have left the level to which it grows, so it must have room for the slots that come meanwhile.
func (x *Index) smallest() (level uint32) {
	for len(x.shards)<<(level+1) <= 1<<14 {
		level++
	}
	return max(level, 2)
}

// shrinkShard makes a shard as small as it can be while it is half full at most, if that gives three quarters back or the level is
// the smallest.
// It reports whether it has done so.
func (x *Index) shrinkShard(n int) (done bool) {
	s := &x.shards[n]
	if !s.TryLock() { // it is in use
		return false
	}
	defer s.Unlock()
	level := x.levels[n].Load()
	least := x.smallest()
	small := least
	for s.live > maxLoad<<small/2 {
		small++
	}
	return (small+2 <= level || small == least && small < level) && s.moveLocked(level, small)
}

// prepare prepares some of the memory of a level, if the level is large and the shards will soon reach it. It stops
// when the first shard has reached the level: that shard would wait for the page that is being prepared.
func (x *Index) prepare(level uint32) {
	const atOnce = 4 // huge pages
	if level > x.last || len(x.shards)<<level < large || x.tiers[level].shards.Load() > 0 || !x.filled(level, 7) {
		return
	}
	r := &x.tiers[level]
	for range atOnce {
		if r.ready < len(r.buckets) {
			r.ready = prepare(r.buckets, r.ready)
		}
	}
}

// filled reports whether more than tenths/10 of the slots for which shards have room before they reach a level are in use.
func (x *Index) filled(level, tenths uint32) bool { return x.sample() > maxLoad<<level/2*tenths/10 }

// sample returns the mean number of slots in a sample of the shards.
func (x *Index) sample() uint32 {
	const some = 16
	sum := uint32(0)
	for i := range some {
		s := x.LockShard(i * (len(x.shards) / some))
		sum += s.live
		s.Unlock()
	}
	return sum / some
}

// shard returns the number of a hash's shard. The high half of the hash selects the shard, the low half the bucket.
func (x *Index) shard(hash uint64) uint32 {
	return uint32(hash >> 32 * uint64(len(x.shards)) >> 32)
}

// buckets returns the buckets of a shard at a level.
func (x *Index) buckets(shard, level uint32) []bucket {
	from := uint(shard) << level
	return x.tiers[level].buckets[from : from+1<<level]
}

// Find starts a search for entries with this hash, which belongs to the shard.
func (s *Shard) Find(hash uint64) Probe { return s.index.Find(hash) }

// Insert adds a slot whose key is not in the shard, and reports whether there was room. A shard has room for more than
// twice its share of the entries, so it is full only if an attacker knows the Key and aims at the shard. The caller
// then refuses the entry as if the table were full.
func (s *Shard) Insert(hash uint64, slot uint32) bool {
	level := s.index.levels[s.number].Load()
	if s.live >= maxLoad<<level && int(level+1) < len(s.index.tiers) && s.moveLocked(level, level+1) {
		level++
	}
	if s.live == bucketLen<<level {
		return false
	}
	put(s.index.buckets(s.number, level), uint32(hash), slot)
	s.live++
	return true
}

// Remove removes a slot that is in the shard.
func (s *Shard) Remove(hash uint64, slot uint32) {
	b := s.index.buckets(s.number, s.index.levels[s.number].Load())
	mask := uint32(len(b) - 1)
	home := uint32(hash)
	for at := home; at-home <= mask; at++ {
		i := b[at&mask].index(word(home, slot))
		if i < 0 {
			continue
		}
		b[at&mask][i].Store(0)
		for ; at != home; at-- {
			b[(at-1)&mask][bucketLen].Add(^uint64(0))
		}
		s.live--
		return
	}
}

// Each calls f for every slot in the shard. f may remove the slot that it was called with.
func (s *Shard) Each(f func(slot uint32)) {
	b := s.index.buckets(s.number, s.index.levels[s.number].Load())
	for i := range b {
		for j := range bucketLen {
			if slot := uint32(b[i][j].Load()); slot != 0 {
				f(slot)
			}
		}
	}
}

// moveLocked copies the slots to another level. It does nothing, and returns false, if a reader may still use what the shard
// has left there before; a batch later it will succeed. The caller holds the lock of s.
func (s *Shard) moveLocked(from, to uint32) bool {
	x := s.index
	b := x.buckets(s.number, to)
	left := &s.shrunk
	if to < from {
		left = &s.grown
	}
	if s.used>>to&1 != 0 && !x.epochs.passed(*left) {
		return false
	}
	x.moving.RLock()
	defer x.moving.RUnlock()
	if s.used>>to&1 != 0 {
		erase(b)
	}
	old := x.buckets(s.number, from)
	for i := range old {
		for j := range bucketLen {
			if w := old[i][j].Load(); w != 0 {
				put(b, uint32(w>>32), uint32(w))
			}
		}
	}
	x.levels[s.number].Store(to)
	s.used |= 1<<from | 1<<to
	if to > from {
		s.grown = x.epochs.next()
	} else {
		s.shrunk = x.epochs.next()
	}
	x.tiers[to].shards.Add(1)
	x.tiers[to].entered.Add(1)
	x.tiers[from].shards.Add(-1)
	return true
}

// erase clears all words of buckets.
func erase(b []bucket) {
	for i := range b {
		for j := range b[i] {
			b[i][j].Store(0)
		}
	}
}

// put writes a slot into the first free word. It first counts the slot in the full buckets before that, so that a
// search does not end there.
func put(b []bucket, tag, slot uint32) {
	mask := uint32(len(b) - 1)
	at := tag
	for ; ; at++ {
		if i := b[at&mask].index(0); i >= 0 {
			b[at&mask][i].Store(word(tag, slot))
			return
		}
		b[at&mask][bucketLen].Add(1)
	}
}

// index returns the index of a word in the bucket, or -1.
func (b *bucket) index(word uint64) int {
	for i := range bucketLen {
		if b[i].Load() == word {
			return i
		}
	}
	return -1
}

func word(tag, slot uint32) uint64 { return uint64(tag)<<32 | uint64(slot) }

// Probe is a search in progress, a value on the stack of its reader. It finds every slot that is in the shard from the
// beginning of the search to its end, even if the shard grows or shrinks meanwhile: the old words stay unchanged.
type Probe struct {
	buckets  []bucket
	tag      uint32
	at, last uint32 // the next bucket, and the one after the last
	word     uint32 // in the bucket
}

// Next returns the next slot whose hash agrees, or 0 at the end.
func (p *Probe) Next() uint32 {
	mask := uint32(len(p.buckets) - 1)
	for p.at != p.last {
		b := &p.buckets[p.at&mask]
		for i := p.word; i < bucketLen; i++ {
			if w := b[i].Load(); uint32(w>>32) == p.tag && uint32(w) != 0 {
				p.word = i + 1
				return uint32(w)
			}
		}
		if b[bucketLen].Load() == 0 {
			p.at = p.last
			return 0
		}
		p.at, p.word = p.at+1, 0
	}
	return 0
}
