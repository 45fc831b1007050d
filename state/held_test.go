//go:build linux

package state

import (
	"bytes"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"nat64d/pool4"
)

// Free pieces give their memory back, except for some, and are zeros when they are used again.
func TestHeldPiecesGiveMemoryBack(t *testing.T) {
	const n = 3 * sparePieces
	path := memory(t)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Begin(Header{}); err != nil {
		t.Fatal(err)
	}
	h := d.HeldPieces(n).(*heldPieces)
	for range 2 {
		var all [][]byte
		for range n {
			b := h.Piece()
			if !bytes.Equal(b, make([]byte, pool4.PieceLen)) {
				t.Fatal("a piece is not zero")
			}
			for i := range b {
				b[i] = 0xff
			}
			all = append(all, b)
		}
		if h.Piece() != nil {
			t.Error("there are too many pieces")
		}
		if got := taken(t, path); got != n*pool4.PieceLen {
			t.Errorf("%d pieces take %d bytes", n, got)
		}
		for _, b := range all {
			h.Free(b)
		}
		if got := taken(t, path); got != sparePieces*pool4.PieceLen || len(h.number) != 0 {
			t.Errorf("free pieces take %d bytes, and %d are numbered", got, len(h.number))
		}
	}
}

// taken returns the memory that the file of held ports takes.
func taken(t *testing.T, path string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, "*", held))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(files[0], &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Blocks) * 512
}
