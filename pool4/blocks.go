package pool4

import (
	"math/bits"
	"net/netip"

	"nat64d/packet"
)

// Block is a run of consecutive ports of one address and protocol that one client has for itself (RFC 6888 REQ-13 and
// REQ-14): who had a port is known from who had its block, so that blocks are all that must be logged.
type Block struct {
	Proto  packet.Proto
	Client packet.Addr6 // what Request.Owner was
	Addr   netip.Addr
	Lo, Hi uint16 // both ends included; ports outside of the pool are in no binding
}

// The bounds of Config.BlockSize.
const (
	MinBlock = 16
	MaxBlock = 4096
)

// lots are the blocks of one row, all of one size, each beginning at a multiple of it. A block without an owner goes
// to the first client that needs one. A client's next port comes from a block of its own that has a free one, which is the
// first of a list; when there is none it gets another block. The block is given back with the last of its ports, those that
// are held down included.
//
// Everything takes constant time: at most 64 words are looked at for the blocks, and as many for the ports of one. The
// row's lock guards all of it. It takes about 50 KB, and 40 bytes for each block.
type lots struct {
	size   int
	blocks []lot
	free   bitset            // blocks without an owner that have a free port
	nfree  int               // how many
	open   map[holder]uint16 // the first of the owner's blocks that have a free port
	lent   bitset            // ports that were chosen for a client and have not been free since

	proto packet.Proto // of the row, for the log
	addr  uint32
	log   *blockLog
}

// lot is one block.
type lot struct {
	owner      packet.Addr6
	owned      bool
	listed     bool   // in the list of its owner
	lent       uint16 // ports
	prev, next uint16 // in that list, which is a ring
}

// holder is a client as the owner of blocks of one class.
type holder struct {
	client packet.Addr6
	class  int
}

// The classes of blocks: those of well-known ports only, and the others.
const (
	lowClass = iota
	highClass
)

// newLots returns blocks without owners.
func newLots(who *lease, p *ports, spans []span) *lots {
	l := &lots{
		size:   who.size,
		blocks: make([]lot, 65536/who.size),
		free:   newBitset(65536 / who.size),
		open:   make(map[holder]uint16),
		lent:   newBitset(65536),
		proto:  who.proto,
		addr:   who.addr,
		log:    who.log,
	}
	l.sortAll(p, spans)
	return l
}

// sortAll sorts all blocks, after the spans of the row have changed.
func (l *lots) sortAll(p *ports, spans []span) {
	for i := range blocks {
		p.block(i, spans)
	}
	for i := range l.blocks {
		l.sort(uint16(i), p)
	}
}

func (l *lots) of(port uint16) uint16 { return port / uint16(l.size) }

func (l *lots) span(i uint16) span {
	lo := i * uint16(l.size)
	return span{lo, lo + uint16(l.size-1)}
}

func (l *lots) class(i uint16) int {
	if l.span(i).hi < blockPorts {
		return lowClass
	}
	return highClass
}

// classes returns the classes of blocks in the order in which they serve source port x.
func classes(proto packet.Proto, x uint16) [2]int {
	if proto != packet.ICMP && x < blockPorts {
		return [2]int{lowClass, highClass}
	}
	return [2]int{highClass, lowClass}
}

// choose returns a block of a client that has a free port, perhaps a new one. n is a random number.
func (l *lots) choose(client packet.Addr6, proto packet.Proto, x uint16, n uint64) (i uint16, ok bool) {
	for _, class := range classes(proto, x) {
		if i, ok = l.open[holder{client, class}]; ok {
			return i, true
		}
		lo, hi := 0, min(blockPorts/l.size, len(l.blocks))
		if class == highClass {
			lo, hi = hi, len(l.blocks)
		}
		if free := l.free.count(lo, hi); free > 0 {
			i = uint16(l.free.nth(lo, hi, int(n%uint64(free))))
			l.own(i, client)
			return i, true
		}
	}
	return 0, false
}

// serves reports whether a client may have a port of block i, which becomes its own if it is nobody's.
func (l *lots) serves(i uint16, client packet.Addr6) bool {
	if !l.blocks[i].owned {
		l.own(i, client)
	}
	return l.blocks[i].owner == client
}

// own makes a client the owner of a block. The caller then lends a port of it.
func (l *lots) own(i uint16, client packet.Addr6) {
	b := &l.blocks[i]
	b.owner, b.owned = client, true
	l.note(i, false)
}

func (l *lots) note(i uint16, ended bool) {
	s := l.span(i)
	l.log.add(Block{Proto: l.proto, Client: l.blocks[i].owner, Addr: addrOf(l.addr), Lo: s.lo, Hi: s.hi}, ended)
}

// lend notes that a port has been chosen for the owner of its block. The caller then marks it used, and sorts.
func (l *lots) lend(port uint16) {
	l.lent.set(int(port), true)
	l.blocks[l.of(port)].lent++
}

// settle draws the conclusions of a change of a port.
func (l *lots) settle(port uint16, p *ports) {
	i := l.of(port)
	if l.lent.has(int(port)) && p.idle(port) {
		l.lent.set(int(port), false)
		l.blocks[i].lent--
	}
	l.sort(i, p)
}

// sort puts a block where it belongs: among those without an owner, in the list of its owner, or nowhere if it is full.
func (l *lots) sort(i uint16, p *ports) {
	b := &l.blocks[i]
	free := p.countIn(l.span(i), either) > 0
	if b.owned && b.lent == 0 {
		l.list(i, false)
		b.owned = false
		l.note(i, true)
	}
	l.list(i, b.owned && free)
	if now := !b.owned && free; now != l.free.has(int(i)) {
		l.free.set(int(i), now)
		l.nfree += map[bool]int{true: 1, false: -1}[now]
	}
}

// list puts a block into the list of its owner, or takes it out.
func (l *lots) list(i uint16, in bool) {
	b := &l.blocks[i]
	if b.listed == in {
		return
	}
	b.listed = in
	h := holder{b.owner, l.class(i)}
	first, any := l.open[h]
	switch {
	case in && !any:
		b.prev, b.next = i, i
		l.open[h] = i
	case in: // at the end: one that has been used for long is filled first, and others become empty
		last := l.blocks[first].prev
		b.prev, b.next = last, first
		l.blocks[last].next, l.blocks[first].prev = i, i
	case b.next == i:
		delete(l.open, h)
	default:
		l.blocks[b.prev].next, l.blocks[b.next].prev = b.next, b.prev
		if first == i {
			l.open[h] = b.next
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
