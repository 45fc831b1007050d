package pool4

import "math/bits"

const (
	chunkWords = 16
	chunkPorts = chunkWords * 64 // 1024: chunk 0 is just the range of well-known ports
	chunks     = 65536 / chunkPorts
)

// parity selects the ports with the parity of another port, or all.
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

// class is a run of chunks: RFC 6146 section 3.5.1.1 keeps well-known source ports apart from the others.
type class struct{ first, end int }

var (
	wellKnown = class{0, 1}
	dynamic   = class{1, chunks}
	anyPort   = class{0, chunks}
)

// ports records which of the 65536 ports of one address and protocol are in the pool, in use or held down, and finds
// the n-th free one in constant time: it reads at most 64 counts and 16 words, also in a full pool. A chunk exists
// where a port has been used; elsewhere the spans suffice.
type ports struct {
	chunks [chunks]*chunk
	free   [chunks][2]uint16 // ports that may be chosen, even and odd
	total  [2][2]int         // sums of free: well-known and dynamic, even and odd
}

type chunk struct {
	allowed [chunkWords]uint64 // in the pool
	used    [chunkWords]uint64 // bound; also ports that are not in the pool, by static bindings or from before their removal
	held    [chunkWords]uint64 // held down (RFC 6888 REQ-8); a static binding may have a held port
}

// free returns the ports of a word that are in the pool and neither used nor held down.
func (b *chunk) free(w int) uint64 { return b.allowed[w] &^ (b.used[w] | b.held[w]) }

// setSpans replaces the spans of the pool. Ports in use or held down stay so.
func (p *ports) setSpans(spans []span) {
	p.total = [2][2]int{}
	for i := range p.chunks {
		b := &chunk{}
		if p.chunks[i] != nil {
			b = p.chunks[i]
		}
		b.allowed = allowedIn(spans, i)
		p.free[i] = [2]uint16{}
		for w := range chunkWords {
			for par := even; par <= odd; par++ {
				n := bits.OnesCount64(b.free(w) & par.mask())
				p.free[i][par] += uint16(n)
				p.total[min(i, 1)][par] += n
			}
		}
	}
}

// allowedIn returns the bits of chunk i that spans cover.
func allowedIn(spans []span, i int) (allowed [chunkWords]uint64) {
	for _, s := range spans {
		for w := range allowed {
			base := i*chunkPorts + w*64
			lo, hi := max(int(s.lo)-base, 0), min(int(s.hi)-base, 63)
			if lo <= hi {
				allowed[w] |= ^uint64(0) << lo & (^uint64(0) >> (63 - hi))
			}
		}
	}
	return allowed
}

// left returns the number of free ports of a class and parity.
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

// nth returns the n-th free port, from 0, of a class and parity, which have more than n. It makes the chunk of the port
// if need be.
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
	b := p.chunk(i, spans)
	for w := 0; ; w++ {
		free := b.free(w) & par.mask()
		if k := bits.OnesCount64(free); n >= k {
			n -= k
			continue
		}
		return uint16(i*chunkPorts + w*64 + nthBit(free, n))
	}
}

// countIn returns the number of free ports of a span and parity. Their chunks exist.
func (p *ports) countIn(s span, par parity) (n int) {
	for w := int(s.lo) / 64; w <= int(s.hi)/64; w++ {
		n += bits.OnesCount64(p.freeIn(s, w, par))
	}
	return n
}

// nthIn returns the n-th of them, from 0; there are more than n.
func (p *ports) nthIn(s span, par parity, n int) uint16 {
	for w := int(s.lo) / 64; ; w++ {
		free := p.freeIn(s, w, par)
		if k := bits.OnesCount64(free); n >= k {
			n -= k
			continue
		}
		return uint16(w*64 + nthBit(free, n))
	}
}

// freeIn returns the free ports of a span and a parity in word w of all ports.
func (p *ports) freeIn(s span, w int, par parity) uint64 {
	free := p.chunks[w/chunkWords].free(w%chunkWords) & par.mask()
	if d := int(s.lo) - w*64; d > 0 {
		free &= ^uint64(0) << d
	}
	if d := int(s.hi) - w*64; d < 63 {
		free &= 1<<(d+1) - 1
	}
	return free
}

// idle reports whether a port of an existing chunk is neither used nor held down.
func (p *ports) idle(port uint16) bool {
	b, w, bit := p.at(port)
	return (b.used[w]|b.held[w])&bit == 0
}

// chunk returns chunk i, which it makes on the first call.
func (p *ports) chunk(i int, spans []span) *chunk {
	if p.chunks[i] == nil {
		p.chunks[i] = &chunk{allowed: allowedIn(spans, i)}
	}
	return p.chunks[i]
}

// mark marks a port of an existing chunk used or free, and reports whether that is a change.
func (p *ports) mark(port uint16, used bool) bool {
	b, w, bit := p.at(port)
	if b.used[w]&bit != 0 == used {
		return false
	}
	p.recount(port, func() { b.used[w] ^= bit })
	return true
}

// holdDown marks a used port of an existing chunk held down. It reports false if the port was held down already: a static
// binding can take such a port.
func (p *ports) holdDown(port uint16) bool {
	b, w, bit := p.at(port)
	held := b.held[w]&bit != 0
	b.used[w] &^= bit
	b.held[w] |= bit
	return !held
}

// endHoldDown ends the hold-down of a port.
func (p *ports) endHoldDown(port uint16) {
	b, w, bit := p.at(port)
	p.recount(port, func() { b.held[w] &^= bit })
}

// at returns the bit of a port in its chunk.
func (p *ports) at(port uint16) (b *chunk, w int, bit uint64) {
	return p.chunks[port/chunkPorts], int(port % chunkPorts / 64), uint64(1) << (port % 64)
}

// recount calls change, which changes a port, and updates the counts.
func (p *ports) recount(port uint16, change func()) {
	b, w, bit := p.at(port)
	before := b.free(w) & bit
	change()
	n := 0
	switch after := b.free(w) & bit; {
	case before < after:
		n = 1
	case before > after:
		n = -1
	}
	p.free[port/chunkPorts][port&1] += uint16(n)
	p.total[min(port/chunkPorts, 1)][port&1] += n
}

// count counts the ports of a span that are used, and those that are only held down.
func (p *ports) count(s span) (used, held int) {
	for i, b := range p.chunks {
		if b == nil {
			continue
		}
		for w, in := range allowedIn([]span{s}, i) {
			used += bits.OnesCount64(b.used[w] & in)
			held += bits.OnesCount64(b.held[w] &^ b.used[w] & in)
		}
	}
	return used, held
}
