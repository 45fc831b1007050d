package pool4

import (
	"math/bits"
	"net/netip"

	"nat64d/packet"
)

// Block is a run of consecutive ports of one address and protocol that one client has for itself (RFC 6888 REQ-13 and
// REQ-14): the owner of a block had all its ports, so that only blocks must be logged.
type Block struct {
	Proto  packet.Proto
	Client packet.Addr6 // Request.Owner
	Addr   netip.Addr
	Lo, Hi uint16 // both ends included; no binding has the ports that are not in the pool
}

// The bounds of Config.BlockSize.
const (
	MinBlock = 16
	MaxBlock = 4096
)

// portBlocks divides the ports of one row into blocks of one size, each beginning at a multiple of it. A block without an
// owner goes to the first client that needs one. A client gets its next port from the first block in its list of blocks
// with free ports, or from a new block if the list is empty. A block loses its owner when the last of its ports is free
// again; a port that is held down is not free.
//
// Every method takes constant time: it reads at most 64 words to find a block, and as many to find a port in it. The row's
// lock guards all fields. The value takes about 50 KB, and 40 bytes for each block.
type portBlocks struct {
	size       int
	blocks     []portBlock
	free       bitset                // blocks without an owner that have a free port
	nfree      int                   // how many
	openBlocks map[ownerClass]uint16 // the first of the owner's blocks that have a free port
	allocated  bitset                // ports that a client got and that have not been free since

	proto packet.Proto // of the row, for the log
	addr  uint32
	log   *blockLog
}

// portBlock is one block.
type portBlock struct {
	owner      packet.Addr6
	owned      bool
	listed     bool   // it is in the list of its owner
	allocated  uint16 // ports
	prev, next uint16 // in that list, a ring
}

// ownerClass is the key of a list of blocks: an owner and a class.
type ownerClass struct {
	client packet.Addr6
	class  int
}

// The classes of blocks: those of well-known ports only, and the others.
const (
	lowClass = iota
	highClass
)

// newPortBlocks returns blocks without owners.
func newPortBlocks(owner *blockOwner, p *ports, spans []span) *portBlocks {
	l := &portBlocks{
		size:       owner.blockSize,
		blocks:     make([]portBlock, 65536/owner.blockSize),
		free:       newBitset(65536 / owner.blockSize),
		openBlocks: make(map[ownerClass]uint16),
		allocated:  newBitset(65536),
		proto:      owner.proto,
		addr:       owner.addr,
		log:        owner.log,
	}
	l.classifyAll(p, spans)
	return l
}

// classifyAll classifies all blocks after the spans of the row have changed.
func (l *portBlocks) classifyAll(p *ports, spans []span) {
	for i := range chunks {
		p.chunk(i, spans)
	}
	for i := range l.blocks {
		l.classify(uint16(i), p)
	}
}

func (l *portBlocks) index(port uint16) uint16 { return port / uint16(l.size) }

// ownerOf returns the owner of the block of a port, or zero.
func (l *portBlocks) ownerOf(port uint16) (owner packet.Addr6) {
	if b := &l.blocks[l.index(port)]; b.owned {
		owner = b.owner
	}
	return owner
}

func (l *portBlocks) span(i uint16) span {
	lo := i * uint16(l.size)
	return span{lo, lo + uint16(l.size-1)}
}

func (l *portBlocks) class(i uint16) int {
	if l.span(i).hi < chunkPorts {
		return lowClass
	}
	return highClass
}

// classes returns the classes of blocks in the order of preference for source port x.
func classes(proto packet.Proto, x uint16) [2]int {
	if proto != packet.ICMP && x < chunkPorts {
		return [2]int{lowClass, highClass}
	}
	return [2]int{highClass, lowClass}
}

// choose returns a block of a client that has a free port, or assigns a new block to it. n is a random number.
func (l *portBlocks) choose(client packet.Addr6, proto packet.Proto, x uint16, n uint64) (i uint16, ok bool) {
	for _, class := range classes(proto, x) {
		if i, ok = l.openBlocks[ownerClass{client, class}]; ok {
			return i, true
		}
		lo, hi := 0, min(chunkPorts/l.size, len(l.blocks))
		if class == highClass {
			lo, hi = hi, len(l.blocks)
		}
		if free := l.free.count(lo, hi); free > 0 {
			i = uint16(l.free.nth(lo, hi, int(n%uint64(free))))
			l.assign(i, client)
			return i, true
		}
	}
	return 0, false
}

// assignedTo reports whether a client may have a port of block i. A block without an owner is assigned to the client.
func (l *portBlocks) assignedTo(i uint16, client packet.Addr6) bool {
	if !l.blocks[i].owned {
		l.assign(i, client)
	}
	return l.blocks[i].owner == client
}

// assign makes a client the owner of a block. The caller then allocates a port of it.
func (l *portBlocks) assign(i uint16, client packet.Addr6) {
	b := &l.blocks[i]
	b.owner, b.owned = client, true
	l.logChange(i, false)
}

func (l *portBlocks) logChange(i uint16, ended bool) {
	s := l.span(i)
	l.log.add(Block{Proto: l.proto, Client: l.blocks[i].owner, Addr: addrOf(l.addr), Lo: s.lo, Hi: s.hi}, ended)
}

// markAllocated records that the owner of its block gets a port. The caller then marks the port used.
func (l *portBlocks) markAllocated(port uint16) {
	l.allocated.set(int(port), true)
	l.blocks[l.index(port)].allocated++
}

// portChanged brings the block of a port up to date after the port was used, freed or held down.
func (l *portBlocks) portChanged(port uint16, p *ports) {
	i := l.index(port)
	if l.allocated.has(int(port)) && p.idle(port) {
		l.allocated.set(int(port), false)
		l.blocks[i].allocated--
	}
	l.classify(i, p)
}

// classify puts a block into the set of free blocks or into the list of its owner, or into neither if it is full.
func (l *portBlocks) classify(i uint16, p *ports) {
	b := &l.blocks[i]
	free := p.countIn(l.span(i), either) > 0
	if b.owned && b.allocated == 0 {
		l.setListed(i, false)
		b.owned = false
		l.logChange(i, true)
	}
	l.setListed(i, b.owned && free)
	if now := !b.owned && free; now != l.free.has(int(i)) {
		l.free.set(int(i), now)
		l.nfree += map[bool]int{true: 1, false: -1}[now]
	}
}

// setListed puts a block into the list of its owner, or takes it out.
func (l *portBlocks) setListed(i uint16, in bool) {
	b := &l.blocks[i]
	if b.listed == in {
		return
	}
	b.listed = in
	h := ownerClass{b.owner, l.class(i)}
	first, any := l.openBlocks[h]
	switch {
	case in && !any:
		b.prev, b.next = i, i
		l.openBlocks[h] = i
	case in: // at the end: the oldest block is filled first, so that others become empty
		last := l.blocks[first].prev
		b.prev, b.next = last, first
		l.blocks[last].next, l.blocks[first].prev = i, i
	case b.next == i:
		delete(l.openBlocks, h)
	default:
		l.blocks[b.prev].next, l.blocks[b.next].prev = b.next, b.prev
		if first == i {
			l.openBlocks[h] = b.next
		}
	}
}

// bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (s bitset) has(i int) bool { return s[i/64]>>(i%64)&1 != 0 }

func (s bitset) set(i int, in bool) {
	if bit := uint64(1) << (i % 64); in {
		s[i/64] |= bit
	} else {
		s[i/64] &^= bit
	}
}

// word returns what is in word w of the numbers from lo to hi, hi not included.
func (s bitset) word(w, lo, hi int) uint64 {
	x := s[w]
	if d := lo - w*64; d > 0 {
		x &= ^uint64(0) << d
	}
	if d := hi - w*64; d < 64 {
		x &= 1<<d - 1
	}
	return x
}

// count returns how many numbers from lo to hi, hi not included, are in the set.
func (s bitset) count(lo, hi int) (n int) {
	for w := lo / 64; w*64 < hi; w++ {
		n += bits.OnesCount64(s.word(w, lo, hi))
	}
	return n
}

// nth returns the n-th of them, from 0; there are more than n.
func (s bitset) nth(lo, hi, n int) int {
	for w := lo / 64; ; w++ {
		x := s.word(w, lo, hi)
		if k := bits.OnesCount64(x); n >= k {
			n -= k
			continue
		}
		return w*64 + nthBit(x, n)
	}
}

// nthBit returns the place of the n-th bit of x, from 0; there are more than n.
func nthBit(x uint64, n int) int {
	for ; n > 0; n-- {
		x &= x - 1
	}
	return bits.TrailingZeros64(x)
}
