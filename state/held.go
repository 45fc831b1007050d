//go:build linux

package state

import (
	"nat64d/pool4"
	"nat64d/table"
)

// heldPiece is the memory of a pool4.Pieces.
type heldPiece [pool4.PieceLen]byte

// heldPieces implements pool4.Pieces. The pool calls it under a lock.
type heldPieces struct {
	memory *table.Pieces[heldPiece]
	most   int
	made   int   // pieces so far
	free   []int // numbers of those that were given back
	number map[*byte]int
}

// HeldPieces returns memory for n pieces of ports in hold-down.
func (d *Dir) HeldPieces(n int) pool4.Pieces {
	return &heldPieces{memory: table.NewPieces[heldPiece](n, d, held), most: n, number: make(map[*byte]int)}
}

// Piece implements pool4.Pieces.
func (h *heldPieces) Piece() []byte {
	i := h.made
	switch last := len(h.free) - 1; {
	case last >= 0:
		i, h.free = h.free[last], h.free[:last]
	case i == h.most:
		return nil
	default:
		h.made++
	}
	b := h.memory.Piece(i)[:]
	h.number[&b[0]] = i
	return b
}

// Free implements pool4.Pieces.
func (h *heldPieces) Free(b []byte) {
	clear(b)
	h.free = append(h.free, h.number[&b[0]])
}
