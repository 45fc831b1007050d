package pool4

import (
	"sync"

	"nat64d/packet"
)

// row is one address for one protocol. Its lock guards all of it; a row is its own shard, so that clients of
// different addresses or protocols never wait for each other.
type row struct {
	mu    sync.Mutex
	spans []span // what may be chosen
	ports *ports // nil until a port is used: a large pool costs little while it is idle
	inUse int    // ports used, inside spans or not
	held  int    // ports held down, inside spans or not
	next  uint64 // RFC 6056 section 3.3.3: next_ephemeral
	lots  *lots  // nil without port blocks
	open  openSet
	at    int // the row's place in open
}

// want is one step of the search for a port: RFC 6146 section 3.5.1.1 for UDP, 3.5.2.3 for TCP, 3.5.3 for ICMP.
type want struct {
	class  class
	parity parity
}

// wants returns the steps for source port x: UDP tries class and parity, then class, then any; TCP class, then any;
// an Identifier has neither.
func wants(proto packet.Proto, x uint16) [3]want {
	c := dynamic
	if x < blockPorts {
		c = wellKnown
	}
	switch proto {
	case packet.UDP:
		return [3]want{{c, parity(x & 1)}, {c, either}, {anyPort, either}}
	case packet.TCP:
		return [3]want{{c, either}, {anyPort, either}}
	default:
		return [3]want{{anyPort, either}}
	}
}

// lease is who gets a port, for port blocks. The zero lease is nobody, and there are none.
type lease struct {
	owner packet.Addr6
	size  int // of the blocks
	proto packet.Proto
	addr  uint32 // of the row
	log   *blockLog
}

// allocate takes a free port for source port x. f is the keyed hash of the flow. This is algorithm 3 of RFC 6056
// section 3.3.3 with one change: the candidates are the free ports, not all of them, so that no search follows and a
// port behind a run of used ones is no likelier than others.
func (r *row) allocate(proto packet.Proto, x uint16, f uint64, who *lease) (port uint16, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spans) == 0 {
		return 0, false
	}
	p := r.touch()
	if l := r.divide(who); l != nil {
		return r.allocateLent(proto, x, f, who.owner)
	}
	for _, w := range wants(proto, x) {
		n := p.left(w.class, w.parity)
		if n == 0 {
			continue
		}
		port = p.nth(w.class, w.parity, int((f+r.next)%uint64(n)), r.spans)
		r.next++
		r.mark(port, true)
		return port, true
	}
	return 0, false
}

// allocateLent is allocate from blocks. The caller holds the lock.
func (r *row) allocateLent(proto packet.Proto, x uint16, f uint64, owner packet.Addr6) (port uint16, ok bool) {
	i, ok := r.lots.choose(owner, proto, x, f+r.next)
	if !ok {
		return 0, false
	}
	s, par := r.lots.span(i), either
	if proto == packet.UDP && r.ports.countIn(s, parity(x&1)) > 0 {
		par = parity(x & 1)
	}
	port = r.ports.nthIn(s, par, int((f+r.next)%uint64(r.ports.countIn(s, par))))
	r.next++
	r.lots.lend(port)
	r.mark(port, true)
	return port, true
}

// divide returns the row's blocks, made if need be; nil if there are to be none. The caller holds the lock and has
// called touch.
func (r *row) divide(who *lease) *lots {
	if r.lots == nil && who.size != 0 {
		r.lots = newLots(who, r.ports, r.spans)
	}
	return r.lots
}

// claim takes one port for a new binding, if it may be chosen and is free, and in no block of somebody else.
func (r *row) claim(port uint16, who *lease) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !covers(r.spans, span{port, port}) {
		return false
	}
	p := r.touch()
	p.block(int(port/blockPorts), r.spans)
	if !p.idle(port) {
		return false
	}
	if l := r.divide(who); l != nil {
		if !l.serves(l.of(port), who.owner) {
			return false
		}
		l.lend(port)
	}
	return r.mark(port, true)
}

// reserve takes one port, which need not be in the pool. That it is held down does not matter.
func (r *row) reserve(port uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch().block(int(port/blockPorts), r.spans)
	return r.mark(port, true)
}

// release gives a port back and reports whether nothing is left of the row: no port in use, held down or
// in the pool.
func (r *row) release(port uint16) (empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark(port, false)
	return r.empty()
}

// hold gives a port back into hold-down. It reports whether the port has to be set free afterwards; if not, that is
// already somebody's task, because it was held when a static binding took it.
func (r *row) hold(port uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inUse--
	if !r.ports.hold(port) {
		return false
	}
	r.held++
	return true
}

// unhold ends the hold-down of a port and reports whether nothing is left of the row.
func (r *row) unhold(port uint16) (empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ports.unhold(port)
	r.held--
	r.settle(port)
	return r.empty()
}

// empty reports whether a row may be forgotten. The caller holds the lock.
func (r *row) empty() bool { return r.inUse == 0 && r.held == 0 && len(r.spans) == 0 }

// mark notes a port's use in the counts and in the pool's set of addresses with free ports. The caller holds the
// lock; the port's block exists.
func (r *row) mark(port uint16, used bool) bool {
	if !r.ports.mark(port, used) {
		return false
	}
	if used {
		r.inUse++
	} else {
		r.inUse--
	}
	r.settle(port)
	return true
}

// settle draws the conclusions of a change of a port. The caller holds the lock.
func (r *row) settle(port uint16) {
	if r.lots != nil {
		r.lots.settle(port, r.ports)
	}
	r.announce()
}

// announce tells the pool whether the row has a port for a new client. The caller holds the lock.
func (r *row) announce() {
	if r.open == nil {
		return
	}
	free := r.ports == nil || r.ports.left(anyPort, either) > 0
	if r.lots != nil {
		free = r.lots.nfree > 0
	}
	r.open.set(r.at, len(r.spans) > 0 && free)
}

// touch returns the ports, made if need be. The caller holds the lock.
func (r *row) touch() *ports {
	if r.ports == nil {
		r.ports = new(ports)
		r.ports.setSpans(r.spans)
	}
	return r.ports
}

// setSpans replaces what may be chosen.
func (r *row) setSpans(spans []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = spans
	if r.ports != nil {
		r.ports.setSpans(spans)
	}
	if r.lots != nil {
		r.lots.sortAll(r.ports, spans)
	}
	r.announce()
}

// place gives the row its place in the set of a new view.
func (r *row) place(open openSet, at int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.at = open, at
	r.announce()
}

// usage returns the row's spans, and the ports used and held down in each.
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

// free returns how many of the row's ports, all of them in number, may be chosen now for a new client.
func (r *row) free(all int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports == nil {
		return all
	}
	left := r.ports.left(anyPort, either)
	if r.lots != nil {
		left = min(left, r.lots.nfree*r.lots.size)
	}
	return left
}

// unused reports whether a row that is no longer in the pool may be forgotten.
func (r *row) unused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.empty()
}
