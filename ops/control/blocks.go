package control

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// blocks reads the blocks of a pcapng file in little-endian byte order, so that a capture that ends at any time ends behind a block.
type blocks struct {
	in      *bufio.Reader
	buf     []byte
	packets int
	missed  uint64 // as the last block with statistics says
}

// Types and options of blocks (draft-ietf-opsawg-pcapng section 11).
const (
	blockHead     = 8 // type and length
	maxBlock      = 1 << 20
	statistics    = 5
	packetBlock   = 6
	statsHead     = 20 // type, length, interface, time
	droppedOption = 5  // isb_ifdrop
)

// next returns the next block, valid until the next call. io.EOF means that the file is complete.
func (b *blocks) next() ([]byte, error) {
	head, err := b.in.Peek(blockHead)
	if err != nil {
		if len(head) == 0 && errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, io.ErrUnexpectedEOF
	}
	kind, size := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
	if size < blockHead+4 || size > maxBlock || size%4 != 0 {
		return nil, errors.New("control: not a pcapng block")
	}
	if cap(b.buf) < int(size) {
		b.buf = make([]byte, size)
	}
	block := b.buf[:size]
	if _, err := io.ReadFull(b.in, block); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	switch kind {
	case packetBlock:
		b.packets++
	case statistics:
		b.missed = dropped(block, b.missed)
	}
	return block, nil
}

// dropped returns the number of packets that a block with statistics has as dropped, or otherwise if it has none.
func dropped(block []byte, otherwise uint64) uint64 {
	if len(block) < statsHead+4 {
		return otherwise
	}
	for o := block[statsHead : len(block)-4]; len(o) >= 4; {
		code, n := binary.LittleEndian.Uint16(o), int(binary.LittleEndian.Uint16(o[2:]))
		if o = o[4:]; n > len(o) {
			break
		}
		if code == droppedOption && n == 8 {
			return binary.LittleEndian.Uint64(o)
		}
		o = o[min((n+3)&^3, len(o)):]
	}
	return otherwise
}
