package fragment

import "bytes"

// Memory is allocated in blocks of one size, so that it does not fragment, from pages that are made when needed and
// then kept. A block holds a fragment of a 1,500-byte MTU, headers included; a jumbo frame takes several blocks. The IP
// headers are always in the first block: View.Extensions6 accepts no Fragment header after the first 552 bytes.
const (
	blockLen   = 2048
	pageBlocks = 64
)

// piece is one stored fragment. Its number is that of its first block.
type piece struct {
	offset, size uint16 // in bytes of the datagram's payload
	head         uint16 // bytes of headers before them; only the first fragment has them
	next         uint32 // the next piece of the datagram, or 0
	more         uint32 // the next block of the piece, or of the free list, or 0
}

func (p *piece) end() int { return int(p.offset) + int(p.size) }

// memory is the blocks and the pieces in them. Block 0 is never allocated.
type memory struct {
	pages  [][]byte
	pieces []piece // by block
	free   uint32  // the first free block; more links the next
}

// blocksFor returns the number of blocks that n bytes take.
func blocksFor(n int) int { return (n + blockLen - 1) / blockLen }

func (m *memory) at(block uint32) []byte {
	return m.pages[block/pageBlocks][block%pageBlocks*blockLen:][:blockLen]
}

// take returns a free block.
func (m *memory) take() uint32 {
	if m.free == 0 {
		m.grow()
	}
	b := m.free
	m.free = m.pieces[b].more
	m.pieces[b] = piece{}
	return b
}

func (m *memory) grow() {
	first := uint32(len(m.pieces))
	m.pages = append(m.pages, make([]byte, pageBlocks*blockLen))
	m.pieces = append(m.pieces, make([]piece, pageBlocks)...)
	for b := first + pageBlocks - 1; b >= max(first, 1); b-- {
		m.pieces[b].more, m.free = m.free, b
	}
}

// store copies head and data into a new piece and returns its number.
func (m *memory) store(head, data []byte) uint32 {
	first := m.take()
	p := &m.pieces[first]
	p.size, p.head = uint16(len(data)), uint16(len(head))
	at := copy(m.at(first), head)
	for b := first; ; at = 0 {
		data = data[copy(m.at(b)[at:], data):]
		if len(data) == 0 {
			return first
		}
		more := m.take()
		m.pieces[b].more, b = more, more
	}
}

// load appends head and data of a piece to dst.
func (m *memory) load(dst []byte, n uint32) []byte {
	left := int(m.pieces[n].head) + int(m.pieces[n].size)
	for ; left > 0; n = m.pieces[n].more {
		b := m.at(n)[:min(left, blockLen)]
		dst = append(dst, b...)
		left -= len(b)
	}
	return dst
}

// holds reports whether the data of a piece equal data.
func (m *memory) holds(n uint32, data []byte) bool {
	p := &m.pieces[n]
	if int(p.size) != len(data) {
		return false
	}
	for at := int(p.head); len(data) > 0; n, at = m.pieces[n].more, 0 {
		b := m.at(n)[at:]
		b = b[:min(len(b), len(data))]
		if !bytes.Equal(b, data[:len(b)]) {
			return false
		}
		data = data[len(b):]
	}
	return true
}

// drop frees a piece and returns the number of its blocks.
func (m *memory) drop(n uint32) (blocks int) {
	for n != 0 {
		more := m.pieces[n].more
		m.pieces[n].more, m.free = m.free, n
		n = more
		blocks++
	}
	return blocks
}
