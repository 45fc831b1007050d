package pool4

import (
	"encoding/binary"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// HeldPort is a transport address in hold-down.
type HeldPort struct {
	Proto     packet.Proto
	At        packet.Endpoint4
	Remaining time.Duration // until it may be chosen again
	Owned     bool          // it lies in a port block
	Owner     packet.Addr6  // of that block
}

// takeExact takes Request.Exact. The reason is drop.NotPool4 if the pool does not contain it,
// and drop.PoolExhausted if it is in use, held down, or in the port block of another client.
func (a *addresses) takeExact(q *Request, owner *blockOwner) (packet.Endpoint4, drop.Reason) {
	i, ok := a.find(binary.BigEndian.Uint32(q.Exact.Addr[:]))
	if !ok || !covers(a.spans[i], span{q.Exact.Port, q.Exact.Port}) {
		return packet.Endpoint4{}, drop.NotPool4
	}
	owner.addr = a.addrs[i]
	if !a.row(i).claim(q.Exact.Port, owner) {
		return packet.Endpoint4{}, drop.PoolExhausted
	}
	return q.Exact, drop.None
}

// HoldDown holds down a transport address that no dynamic binding has. It reports false if the pool does not contain
// the address, if it is held down already, or if it is in the port block of another client. The hold-down can last
// longer than h.Remaining if other ports were given back before, but never shorter.
func (p *Pool) HoldDown(h *HeldPort, now time.Duration) bool {
	c := p.conf.Load()
	if h.Proto == packet.TCP || !p.Contains(h.Proto, h.At) {
		return false
	}
	n := binary.BigEndian.Uint32(h.At.Addr[:])
	owner := blockOwner{client: h.Owner, blockSize: c.BlockSize, proto: h.Proto, addr: n, log: &p.log}
	kept := heldPort{addr: n, port: h.At.Port, proto: h.Proto}
	if h.Owned && c.BlockSize != 0 {
		kept.owner = h.Owner
	}
	since := now - c.HoldDown + min(h.Remaining, c.HoldDown)
	return p.row(h.Proto, n).restoreHeld(h.At.Port, h.Owned && c.BlockSize != 0, &owner, func() uint32 { return p.held.restore(kept, since) })
}

// restoreHeld marks a port held down, in a block of its owner if it is owned. push puts it into the queue.
func (r *row) restoreHeld(port uint16, owned bool, owner *blockOwner, push func() (seq uint32)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.makePortsLocked()
	p.chunk(int(port/chunkPorts), r.spans)
	b, w, bit := p.at(port)
	if b.held[w]&bit != 0 {
		return false
	}
	if owned {
		l := r.makeBlocksLocked(owner)
		if !l.assignedTo(l.index(port), owner.client) {
			return false
		}
		l.markAllocated(port)
	}
	p.recount(port, func() { b.held[w] |= bit })
	r.held++
	r.portChangedLocked(port)
	r.resting.add(restingPort{push(), port})
	return true
}

// restore adds a port that has been held since a time, or since the time of the port before it if that is later, and
// returns the number of its place.
func (q *queue) restore(h heldPort, since time.Duration) (seq uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	pending := q.sinceLastPop > 0 // ports before it have no time yet
	seq = q.addLocked(h)
	if pending {
		return seq
	}
	if n := len(q.batches); n > 0 {
		since = max(since, q.batches[n-1].since)
	}
	q.closeBatchLocked(since)
	return seq
}

// HeldPorts copies the transport addresses in hold-down into buf, in the order in which they were given back, from a
// cursor on that is 0 at first. It returns their number and the next cursor, which is 0 at the end. A listing contains
// each address that is held down throughout it once.
func (p *Pool) HeldPorts(cursor uint64, buf []HeldPort, now time.Duration) (n int, next uint64) {
	hold := p.conf.Load().HoldDown
	n, next = p.held.list(cursor, buf, now, hold)
	for i := range buf[:n] {
		h := &buf[i]
		h.Owner, h.Owned = p.BlockOwner(h.Proto, h.At)
	}
	return n, next
}

// list copies ports from number from on, counted from the first port that was ever added.
func (q *queue) list(from uint64, buf []HeldPort, now, hold time.Duration) (n int, next uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	skip := int(max(from, q.popped) - q.popped)
	b, inBatch, i := 0, 0, 0
	for ; i < q.n && n < len(buf); i++ {
		for b < len(q.batches) && inBatch == q.batches[b].n {
			b, inBatch = b+1, 0
		}
		inBatch++
		if i < skip || q.entryLocked(i).isFree() {
			continue
		}
		h, left := q.entryLocked(i).port(), hold
		if b < len(q.batches) {
			left = max(0, hold-(now-q.batches[b].since))
		}
		buf[n] = HeldPort{Proto: h.proto, At: packet.Endpoint4{Addr: addr4Of(h.addr), Port: h.port}, Remaining: left}
		n++
	}
	if i < q.n {
		return n, q.popped + uint64(i)
	}
	return n, 0
}

// BlockOwner returns the client that has the port block of a transport address.
func (p *Pool) BlockOwner(proto packet.Proto, e packet.Endpoint4) (owner packet.Addr6, ok bool) {
	r := p.row(proto, binary.BigEndian.Uint32(e.Addr[:]))
	if r == nil {
		return owner, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.portBlocks == nil {
		return owner, false
	}
	b := &r.portBlocks.blocks[r.portBlocks.index(e.Port)]
	return b.owner, b.owned
}

// Blocks copies the port blocks that have an owner into buf, from a cursor on that is 0 at first, and returns their
// number and the next cursor, which is 0 at the end. A listing contains each block that has its owner throughout it
// once.
func (p *Pool) Blocks(cursor uint64, buf []Block) (n int, next uint64) {
	v := p.view.Load()
	for proto := packet.Proto(cursor >> 49); proto < packet.Protos; proto++ {
		a := &v[proto]
		first, _ := a.find(uint32(cursor >> 17))
		for i := first; i < len(a.rows); i++ {
			from := 0
			if a.addrs[i] == uint32(cursor>>17) {
				from = int(cursor & (1<<17 - 1))
			}
			for from >= 0 {
				if n == len(buf) {
					return n, uint64(proto)<<49 | uint64(a.addrs[i])<<17 | uint64(from)
				}
				if from = a.rows[i].nextBlock(from, &buf[n]); from > 0 {
					n++
				}
			}
		}
		cursor = 0
	}
	return n, 0
}

// nextBlock copies the first block with an owner, from number from on, and returns the number after it, or -1.
func (r *row) nextBlock(from int, to *Block) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.portBlocks == nil {
		return -1
	}
	l := r.portBlocks
	for i := from; i < len(l.blocks); i++ {
		if b := &l.blocks[i]; b.owned {
			s := l.span(uint16(i))
			*to = Block{Proto: l.proto, Client: b.owner, Addr: addrOf(l.addr), Lo: s.lo, Hi: s.hi}
			return i + 1
		}
	}
	return -1
}
