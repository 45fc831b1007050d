package pool4

import "math/bits"

const (
	blockWords = 16
	blockPorts = blockWords * 64 // 1024: block 0 is just the range of well-known ports
	blocks     = 65536 / blockPorts
)

// parity says which ports are wanted: those with the parity of another port, or all.
type parity int

const (
	even parity = iota
	odd
	either
)

// mask returns the ports of a word that have the parity.
func (p parity) mask() uint64 {
	return [...]uint64{even: 0x5555555555555555, odd: 0xaaaaaaaaaaaaaaaa, either: ^uint64(0)}[p]
}

// class is a run of blocks: RFC 6146 section 3.5.1.1 keeps well-known source ports apart from the others.
type class struct{ first, end int }

var (
	wellKnown = class{0, 1}
	dynamic   = class{1, blocks}
	anyPort   = class{0, blocks}
)

// ports says which of the 65536 ports of one address and protocol may be chosen and which are in use, and finds the
// n-th one that is free with constant work: at most 64 counts and 16 words are looked at, however full the pool.
// Blocks exist where a port has been used; elsewhere the spans say it all.
type ports struct {
	blocks [blocks]*block
	free   [blocks][2]uint16 // ports that may be chosen, even and odd
	total  [2][2]int         // sums of free: well-known and dynamic, even and odd
}

type block struct {
	allowed [blockWords]uint64 // in the pool
	used    [blockWords]uint64 // bound; a port outside the pool may be, by a static binding or since before its removal
}

// setSpans makes spans the ports that may be chosen. Ports in use stay so.
func (p *ports) setSpans(spans []span) {
	p.total = [2][2]int{}
	for i := range p.blocks {
		var used [blockWords]uint64
		allowed := allowedIn(spans, i)
		if b := p.blocks[i]; b != nil {
			b.allowed, used = allowed, b.used
		}
		p.free[i] = [2]uint16{}
		for w := range allowed {
			for par := even; par <= odd; par++ {
				n := bits.OnesCount64(allowed[w] &^ used[w] & par.mask())
				p.free[i][par] += uint16(n)
				p.total[min(i, 1)][par] += n
			}
		}
	}
}

// allowedIn returns the bits of block i that spans cover.
func allowedIn(spans []span, i int) (allowed [blockWords]uint64) {
	for _, s := range spans {
		for w := range allowed {
			base := i*blockPorts + w*64
			lo, hi := max(int(s.lo)-base, 0), min(int(s.hi)-base, 63)
			if lo <= hi {
				allowed[w] |= ^uint64(0) << lo & (^uint64(0) >> (63 - hi))
			}
		}
	}
	return allowed
}

// left returns how many ports of a class and parity are free.
func (p *ports) left(c class, par parity) (n int) {
	for i := min(c.first, 1); i <= min(c.end-1, 1); i++ {
		if par == either {
			n += p.total[i][even] + p.total[i][odd]
		} else {
			n += p.total[i][par]
		}
	}
	return n
}

// nth returns the n-th free port, from 0, of a class and parity; there are more than n. Its block exists afterwards.
func (p *ports) nth(c class, par parity, n int, spans []span) uint16 {
	i := c.first
	for ; ; i++ {
		k := int(p.free[i][even]) + int(p.free[i][odd])
		if par != either {
			k = int(p.free[i][par])
		}
		if n < k {
			break
		}
		n -= k
	}
	b := p.block(i, spans)
	for w := 0; ; w++ {
		free := b.allowed[w] &^ b.used[w] & par.mask()
		if k := bits.OnesCount64(free); n >= k {
			n -= k
			continue
		}
		for ; n > 0; n-- {
			free &= free - 1
		}
		return uint16(i*blockPorts + w*64 + bits.TrailingZeros64(free))
	}
}

// block returns block i, made if need be.
func (p *ports) block(i int, spans []span) *block {
	if p.blocks[i] == nil {
		p.blocks[i] = &block{allowed: allowedIn(spans, i)}
	}
	return p.blocks[i]
}

// mark notes that a port of an existing block is used, or no longer; it reports whether that is a change.
func (p *ports) mark(port uint16, used bool) bool {
	i, w, bit := port/blockPorts, port%blockPorts/64, uint64(1)<<(port%64)
	b := p.blocks[i]
	if b.used[w]&bit != 0 == used {
		return false
	}
	b.used[w] ^= bit
	if b.allowed[w]&bit != 0 {
		change := 1
		if used {
			change = -1
		}
		p.free[i][port&1] += uint16(change)
		p.total[min(i, 1)][port&1] += change
	}
	return true
}

// used counts the ports of a span that are in use.
func (p *ports) used(s span) (n int) {
	for i, b := range p.blocks {
		if b == nil {
			continue
		}
		for w, in := range allowedIn([]span{s}, i) {
			n += bits.OnesCount64(b.used[w] & in)
		}
	}
	return n
}
