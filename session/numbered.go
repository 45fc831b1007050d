package session

import "math/bits"

// numbered stores values by number, which is never 0. Values never move. It grows and shrinks by chunks, so that both take a
// short time. The zero value is empty; its user serializes the calls.
type numbered[T any] struct {
	chunks []*chunk[T] // nil: all its values are free
	room   []uint64    // a bit for each chunk that has a free value
}

// chunk is the values of consecutive numbers.
type chunk[T any] struct {
	values [chunkLen]T
	free   [chunkLen / 64]uint64 // a bit for each value
	used   int
}

const chunkLen = 1024

func (p *numbered[T]) at(n uint32) *T { return &p.chunks[n/chunkLen].values[n%chunkLen] }

// take returns the lowest free number, whose value is zero.
func (p *numbered[T]) take() uint32 {
	i := p.withRoom()
	c := p.chunks[i]
	if c == nil {
		c = newChunk[T](i)
		p.chunks[i] = c
	}
	w := 0
	for c.free[w] == 0 {
		w++
	}
	n := w*64 + bits.TrailingZeros64(c.free[w])
	c.free[w] &= c.free[w] - 1
	if c.used++; c.used == chunkLen {
		p.room[i/64] &^= 1 << (i % 64)
	}
	return uint32(i*chunkLen + n)
}

// withRoom returns the number of the first chunk with a free value.
func (p *numbered[T]) withRoom() int {
	for w, room := range p.room {
		if room != 0 {
			return w*64 + bits.TrailingZeros64(room)
		}
	}
	i := len(p.chunks)
	p.chunks = append(p.chunks, nil)
	if i/64 == len(p.room) {
		p.room = append(p.room, 0)
	}
	p.room[i/64] |= 1 << (i % 64)
	return i
}

// newChunk returns a chunk without values in use. In the first one, number 0 is never free.
func newChunk[T any](i int) *chunk[T] {
	c := new(chunk[T])
	for w := range c.free {
		c.free[w] = ^uint64(0)
	}
	if i == 0 {
		c.free[0]--
		c.used = 1
	}
	return c
}

// give frees a number. The last one of a chunk frees its memory.
func (p *numbered[T]) give(n uint32) {
	i, v := n/chunkLen, n%chunkLen
	c := p.chunks[i]
	c.values[v] = *new(T)
	c.free[v/64] |= 1 << (v % 64)
	p.room[i/64] |= 1 << (i % 64)
	if c.used--; c.used == 0 {
		p.chunks[i] = nil
	}
}

// shrink returns m or, if it has become much smaller than *peak, a copy, since a map never gives memory back. It keeps the
// largest length in *peak.
func shrink[K comparable, V any](m map[K]V, peak *int) map[K]V {
	const least = 1 << 12
	*peak = max(*peak, len(m))
	if *peak < least || len(m) > *peak/64 {
		return m
	}
	*peak = len(m)
	c := make(map[K]V, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
