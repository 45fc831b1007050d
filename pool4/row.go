package pool4

import (
	"sync"
	"sync/atomic"
	"time"

	"nat64d/packet"
)

// row is one address for one protocol. Its lock guards all of it; a row is its own shard, so that clients of
// different addresses or protocols never wait for each other.
type row struct {
	mu         sync.Mutex
	spans      []span        // ports in the pool
	ports      *ports        // nil until a port is used, so that an idle pool is small
	inUse      int           // ports used, in spans or not
	peak       int           // the highest inUse
	used       *atomic.Int64 // the same of all rows of the protocol
	held       int           // ports held down, in spans or not
	resting    resting       // those in the queue
	next       uint64        // RFC 6056 section 3.3.3: next_ephemeral
	portBlocks *portBlocks   // nil without port blocks
	withFree   addrSet
	index      int // the row's place in open
}

// searchStep is one step of the search for a port: RFC 6146 section 3.5.1.1 for UDP, 3.5.2.3 for TCP, 3.5.3 for ICMP.
type searchStep struct {
	class  class
	parity parity
}

// searchSteps returns the steps for source port x: UDP tries class and parity, then class, then any; TCP class, then any;
// an Identifier has neither.
func searchSteps(proto packet.Proto, x uint16) [3]searchStep {
	c := dynamic
	if x < chunkPorts {
		c = wellKnown
	}
	switch proto {
	case packet.UDP:
		return [3]searchStep{{c, parity(x & 1)}, {c, either}, {anyPort, either}}
	case packet.TCP:
		return [3]searchStep{{c, either}, {anyPort, either}}
	default:
		return [3]searchStep{{anyPort, either}}
	}
}

// blockOwner is the client that gets a port, and the parameters of its port blocks. With the zero value there are no
// blocks.
type blockOwner struct {
	client    packet.Addr6
	blockSize int // 0: no blocks
	proto     packet.Proto
	addr      uint32 // of the row
	log       *blockLog

	held        *queue // ports may leave it early, after restAtLeast; or nil
	restAtLeast time.Duration
	early       uint64 // how many have left it
}

// allocate takes a free port for source port x. f is the keyed hash of the flow. This is algorithm 3 of RFC 6056
// section 3.3.3 with one change: the candidates are the free ports instead of all ports, so that no search follows, and
// a port after a run of used ports is not chosen more often than others.
func (r *row) allocate(proto packet.Proto, x uint16, f uint64, owner *blockOwner) (port uint16, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spans) == 0 {
		return 0, false
	}
	port, ok = r.chooseLocked(proto, x, f, owner)
	for n := 0; !ok && owner.held != nil && n < maxEarly && r.endEarlyLocked(owner); n++ {
		port, ok = r.chooseLocked(proto, x, f, owner)
	}
	return port, ok
}

// chooseLocked is allocate without the ports in hold-down. The caller holds r.mu.
func (r *row) chooseLocked(proto packet.Proto, x uint16, f uint64, owner *blockOwner) (port uint16, ok bool) {
	p := r.makePortsLocked()
	if l := r.makeBlocksLocked(owner); l != nil {
		return r.allocateInBlockLocked(proto, x, f, owner.client)
	}
	for _, w := range searchSteps(proto, x) {
		n := p.left(w.class, w.parity)
		if n == 0 {
			continue
		}
		port = p.nth(w.class, w.parity, int((f+r.next)%uint64(n)), r.spans)
		r.next++
		r.markLocked(port, true)
		return port, true
	}
	return 0, false
}

// allocateInBlockLocked is allocate with port blocks. The caller holds r.mu.
func (r *row) allocateInBlockLocked(proto packet.Proto, x uint16, f uint64, owner packet.Addr6) (port uint16, ok bool) {
	i, ok := r.portBlocks.choose(owner, proto, x, f+r.next)
	if !ok {
		return 0, false
	}
	s, par := r.portBlocks.span(i), either
	if proto == packet.UDP && r.ports.countIn(s, parity(x&1)) > 0 {
		par = parity(x & 1)
	}
	port = r.ports.nthIn(s, par, int((f+r.next)%uint64(r.ports.countIn(s, par))))
	r.next++
	r.portBlocks.markAllocated(port)
	r.markLocked(port, true)
	return port, true
}

// makeBlocksLocked returns the row's port blocks, which it makes on the first call, or nil if port blocks are off. The
// caller holds r.mu and has called makePortsLocked.
func (r *row) makeBlocksLocked(owner *blockOwner) *portBlocks {
	if r.portBlocks == nil && owner.blockSize != 0 {
		r.portBlocks = newPortBlocks(owner, r.ports, r.spans)
	}
	return r.portBlocks
}

// claim takes one port for a new binding, if it is in the pool and free, and in no block of another client.
func (r *row) claim(port uint16, owner *blockOwner) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !covers(r.spans, span{port, port}) {
		return false
	}
	p := r.makePortsLocked()
	p.chunk(int(port/chunkPorts), r.spans)
	if !p.idle(port) {
		return false
	}
	if l := r.makeBlocksLocked(owner); l != nil {
		if !l.assignedTo(l.index(port), owner.client) {
			return false
		}
		l.markAllocated(port)
	}
	return r.markLocked(port, true)
}

// reserve takes one port, which need not be in the pool and may be held down.
func (r *row) reserve(port uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.makePortsLocked().chunk(int(port/chunkPorts), r.spans)
	return r.markLocked(port, true)
}

// release gives a port back and reports whether the row is unused.
func (r *row) release(port uint16) (empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.markLocked(port, false)
	return r.unusedLocked()
}

// holdDown gives a port back into hold-down. It calls push with the owner of the port's block, or zero if there is none, to
// put the port into the queue; a port that was held when a static binding took it is still there.
func (r *row) holdDown(port uint16, push func(owner packet.Addr6) (seq uint32)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.countLocked(-1)
	if !r.ports.holdDown(port) {
		return
	}
	r.held++
	var owner packet.Addr6
	if r.portBlocks != nil {
		owner = r.portBlocks.ownerOf(port)
	}
	r.resting.add(restingPort{push(owner), port})
}

// endHoldDown ends the hold-down of a port, which has left place seq of the queue, and reports whether the row is unused.
func (r *row) endHoldDown(port uint16, seq uint32) (empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resting.trim(seq)
	r.ports.endHoldDown(port)
	r.held--
	r.portChangedLocked(port)
	return r.unusedLocked()
}

// unusedLocked reports whether the row can be deleted. The caller holds r.mu.
func (r *row) unusedLocked() bool { return r.inUse == 0 && r.held == 0 && len(r.spans) == 0 }

// markLocked marks a port used or free, and updates the counts and the pool's set of addresses with free ports. It
// reports whether that is a change. The caller holds r.mu; the port's chunk exists.
func (r *row) markLocked(port uint16, used bool) bool {
	if !r.ports.mark(port, used) {
		return false
	}
	if used {
		r.countLocked(1)
	} else {
		r.countLocked(-1)
	}
	r.portChangedLocked(port)
	return true
}

// countLocked counts ports in use. The caller holds r.mu.
func (r *row) countLocked(n int) {
	r.inUse += n
	r.peak = max(r.peak, r.inUse)
	r.used.Add(int64(n))
}

// portChangedLocked updates the port's block and the pool's set of addresses with free ports after a port was used,
// freed or held down. The caller holds r.mu.
func (r *row) portChangedLocked(port uint16) {
	if r.portBlocks != nil {
		r.portBlocks.portChanged(port, r.ports)
	}
	r.publishFreeLocked()
}

// publishFreeLocked tells the pool whether the row has a port for a new client. The caller holds r.mu.
func (r *row) publishFreeLocked() {
	if r.withFree == nil {
		return
	}
	free := r.ports == nil || r.ports.left(anyPort, either) > 0
	if r.portBlocks != nil {
		free = r.portBlocks.nfree > 0
	}
	r.withFree.set(r.index, len(r.spans) > 0 && free)
}

// makePortsLocked returns the row's ports, which it makes on the first call. The caller holds r.mu.
func (r *row) makePortsLocked() *ports {
	if r.ports == nil {
		r.ports = new(ports)
		r.ports.setSpans(r.spans)
	}
	return r.ports
}

// setSpans replaces the spans of the pool.
func (r *row) setSpans(spans []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = spans
	if r.ports != nil {
		r.ports.setSpans(spans)
	}
	if r.portBlocks != nil {
		r.portBlocks.classifyAll(r.ports, spans)
	}
	r.publishFreeLocked()
}

// setIndex tells the row its index in the set of a new view.
func (r *row) setIndex(open addrSet, at int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withFree, r.index = open, at
	r.publishFreeLocked()
}

// usage returns the row's spans and the numbers of ports used and held down in each.
func (r *row) usage() (spans []span, used, held []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	used, held = make([]int, len(r.spans)), make([]int, len(r.spans))
	for i, s := range r.spans {
		if r.ports != nil {
			used[i], held[i] = r.ports.count(s)
		}
	}
	return r.spans, used, held
}

// total returns the use of all ports of the row that are in the pool.
func (r *row) total() (u RowUsage) {
	spans, used, held := r.usage()
	for i := range spans {
		u.Used += used[i]
		u.Held += held[i]
	}
	u.Size = size(spans)
	r.mu.Lock()
	defer r.mu.Unlock()
	u.Peak = r.peak
	return u
}

// free returns the number of the row's ports that a new client can get. all is the number of its ports in the pool.
func (r *row) free(all int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports == nil {
		return all
	}
	left := r.ports.left(anyPort, either)
	if r.portBlocks != nil {
		left = min(left, r.portBlocks.nfree*r.portBlocks.size)
	}
	return left
}

// unused reports whether the row can be deleted: it is not in the pool, and no port of it is in use or held down.
func (r *row) unused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unusedLocked()
}
