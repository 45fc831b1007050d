//go:build linux

package table

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// folder is Files in a directory.
type folder struct {
	t   *testing.T
	dir string
}

func (f folder) File(name string, _ int) (int, bool) {
	file, err := os.Create(filepath.Join(f.dir, name))
	if err != nil {
		f.t.Error(err)
		return 0, false
	}
	f.t.Cleanup(func() { file.Close() })
	return int(file.Fd()), true
}

// tmpfs mounts a tmpfs of a size in bytes with mount options.
func tmpfs(t *testing.T, size int, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d%s", size, options)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestEntriesAreInTheFile shows that a file has every entry and its seal without a system call after the store.
func TestEntriesAreInTheFile(t *testing.T) {
	for _, options := range []string{"", ",huge=advise", ",huge=within_size"} {
		t.Run("mount"+options, func(t *testing.T) {
			const n = 3 * large
			f := folder{t, tmpfs(t, 64<<20, options)}
			s := NewKeptSlab[[4]uint64](n, NewEpochs(1), f, "entries")
			for i := range n {
				if i%(large/4) == 0 {
					s.Maintain()
				}
				slot := s.Alloc(uint32(i))
				*s.At(slot) = [4]uint64{uint64(slot), 2, 3, 4}
				s.Seal(slot, ^slot)
			}
			entries, seals := content(t, f, "entries"), content(t, f, "entries.seals")
			found := 0
			for slot := range uint32(len(entries) / 32) {
				if binary.NativeEndian.Uint64(entries[slot*32:]) != uint64(slot) || slot == 0 {
					continue
				}
				if found++; binary.NativeEndian.Uint32(seals[slot*4:]) != ^slot {
					t.Fatalf("slot %d: the seal is missing", slot)
				}
			}
			if found != n || s.Unkept() != 0 {
				t.Errorf("the file has %d entries of %d; %d slots have no room", found, n, s.Unkept())
			}
		})
	}
}

func content(t *testing.T, f folder, name string) []byte {
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNoRoomInTheFile fills the file system: the slab continues in anonymous memory, without a SIGBUS, and$
// no entry is lost.
func TestNoRoomInTheFile(t *testing.T) {
	for _, options := range []string{"", ",huge=advise"} {
		t.Run("mount"+options, func(t *testing.T) {
			const n = 2 * large
			f := folder{t, tmpfs(t, 3<<20, options)}
			s := NewKeptSlab[[4]uint64](n, NewEpochs(1), f, "entries")
			check := func(slot uint32) {
				*s.At(slot) = [4]uint64{uint64(slot)}
				s.Seal(slot, slot)
			}
			var slots []uint32
			for i := range n {
				if i%(large/4) == 0 {
					s.Maintain()
				}
				slots = append(slots, s.Alloc(uint32(i)))
				check(slots[i])
			}
			for _, slot := range slots {
				if s.At(slot)[0] != uint64(slot) || s.seals[slot] != slot {
					t.Fatalf("slot %d has lost its entry", slot)
				}
			}
			if unkept := s.Unkept(); unkept == 0 || unkept > n {
				t.Errorf("%d slots have no room in the file", unkept)
			}
		})
	}
}

// TestPiecesAreInTheFile covers pieces with room and without.
func TestPiecesAreInTheFile(t *testing.T) {
	const n, size = 64, 16 << 10
	f := folder{t, tmpfs(t, n*size/2, "")}
	p := NewPieces[[size]byte](n, f, "pieces")
	for i := range n {
		b := p.Piece(n - 1 - i)
		for j := range b {
			b[j] = byte(n - i)
		}
	}
	kept := 0
	for i, b := range content(t, f, "pieces") {
		if b == byte(i/size+1) {
			kept++
		}
	}
	if kept < n*size/4 || kept%size != 0 {
		t.Errorf("the file has %d bytes of %d", kept, n*size)
	}
	for i := range n {
		if b := p.Piece(i); b[0] != byte(i+1) || b[size-1] != byte(i+1) {
			t.Fatalf("piece %d has lost its contents", i)
		}
	}
}

// TestKeptSlabGivesBack shows that the files give back the memory of a flood, and get it again.
func TestKeptSlabGivesBack(t *testing.T) {
	const n = 200_000
	for _, size := range []int{64 << 20, 3 << 20} { // the second has no room for all
		f := folder{t, tmpfs(t, size, "")}
		s := NewKeptSlab[[4]uint64](n, NewEpochs(1), f, "entries")
		testGiving(t, s, n, 1000)
		var st unix.Statfs_t
		if err := unix.Statfs(f.dir, &st); err != nil {
			t.Fatal(err)
		}
		if used := int(st.Blocks-st.Bfree) * int(st.Bsize); used > 3<<20 {
			t.Errorf("the files take %d bytes after the flood", used)
		}
		if unkept := s.Unkept(); unkept > n/4 {
			t.Errorf("%d slots count as not kept after the flood", unkept)
		}
	}
}
