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
	free   []int // numbers of those that were given back, with their memory
	gone   []int // the same, without memory
	number map[*byte]int
}

// sparePieces is the number of free pieces that keep their memory, 2 MiB, so that few are made and given back in turn.
const sparePieces = 64

// HeldPieces returns memory for n pieces of ports in hold-down.
func (d *Dir) HeldPieces(n int) pool4.Pieces {
	return &heldPieces{memory: table.NewPieces[heldPiece](n, d, held), most: n, number: make(map[*byte]int)}
}

// Piece implements pool4.Pieces.
func (h *heldPieces) Piece() []byte {
	i := h.made
	switch free, gone := len(h.free), len(h.gone); {
	case free > 0:
		i, h.free = h.free[free-1], h.free[:free-1]
	case gone > 0:
		i, h.gone = h.gone[gone-1], h.gone[:gone-1]
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
	i := h.number[&b[0]]
	delete(h.number, &b[0])
	if len(h.free) < sparePieces {
		clear(b)
		h.free = append(h.free, i)
		return
	}
	h.memory.Leave(i)
	h.gone = append(h.gone, i)
}
