package pool4

import (
	"slices"
	"sync/atomic"
)

// Trial returns a copy of the pool in which Allocate, Release, Retire, Contains, Holds, Has, Avoids and InUse give the same
// answers as in the pool, and change only the copy. It shows which port the next binding gets, and which one it gets after others
// have ended. One goroutine may use a trial, for a short time: a later change of the pool is not in it.
//
// A row is copied when it is first used, under its lock, which packets that make bindings there may wait for: a copy takes some
// 10 µs, with port blocks some 100 µs.
func (p *Pool) Trial() *Pool {
	t := &Pool{key: p.key, of: p}
	t.held.of = &p.held
	t.conf.Store(p.conf.Load())
	t.avoided.Store(p.avoided.Load())
	t.holdingDownAll.Store(p.holdingDownAll.Load())
	v := *p.view.Load()
	for proto := range v {
		v[proto].withFree = v[proto].withFree.clone()
		v[proto].tried = &tried{copies: make(map[int]*row), used: &t.used[proto]}
		t.used[proto].Store(p.used[proto].Load())
	}
	t.view.Store(&v)
	return t
}

// tried is the rows of one protocol that a trial has copied, by index, and its count of ports in use.
type tried struct {
	copies map[int]*row
	used   *atomic.Int64
}

// row returns the row of the address with an index: in a trial, a copy.
func (a *addresses) row(i int) *row {
	if a.tried == nil {
		return a.rows[i]
	}
	r := a.tried.copies[i]
	if r == nil {
		r = a.rows[i].clone(a.tried.used)
		r.withFree, r.index = a.withFree, i
		a.tried.copies[i] = r
	}
	return r
}

func (o addrSet) clone() addrSet {
	c := make(addrSet, len(o))
	for i := range o {
		c[i].Store(o[i].Load())
	}
	return c
}

// clone returns a copy that counts its ports in used.
func (r *row) clone(used *atomic.Int64) *row {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &row{spans: r.spans, inUse: r.inUse, used: used, held: r.held, next: r.next}
	c.resting.ports = slices.Clone(r.resting.ports[r.resting.begin:])
	if r.ports != nil {
		c.ports = r.ports.clone()
	}
	if r.portBlocks != nil {
		c.portBlocks = r.portBlocks.clone()
	}
	return c
}

func (p *ports) clone() *ports {
	c := *p
	for i, b := range p.chunks {
		if b != nil {
			own := *b
			c.chunks[i] = &own
		}
	}
	return &c
}

// clone returns a copy that logs nothing.
func (l *portBlocks) clone() *portBlocks {
	c := *l
	c.blocks, c.free, c.allocated = slices.Clone(l.blocks), slices.Clone(l.free), slices.Clone(l.allocated)
	c.openBlocks = make(map[ownerClass]uint16, len(l.openBlocks))
	for k, v := range l.openBlocks {
		c.openBlocks[k] = v
	}
	c.log = new(blockLog)
	return &c
}

// pushTried is push for the queue of a trial, which only counts: what it tries lies in the queue that it is of. The place that it
// returns is behind all ports of that queue, which takeEarly does not find.
func (q *queue) pushTried(most int) (seq uint32, oldest heldPort, over bool) {
	of := q.of
	of.mu.Lock()
	defer of.mu.Unlock()
	q.n++
	seq = uint32(of.popped) + uint32(of.n) + uint32(q.n) - 1
	if most == 0 || of.n-of.taken+q.n-q.taken <= most {
		return seq, oldest, false
	}
	skip := q.taken
	for i := range of.n {
		if e := of.entryLocked(i); !e.isFree() {
			if skip--; skip < 0 {
				q.taken++
				oldest = e.port()
				oldest.seq = uint32(of.popped) + uint32(i)
				return seq, oldest, true
			}
		}
	}
	return seq, oldest, false
}
