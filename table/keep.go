package table

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Files provides the files in which slabs and pieces keep their values, so that the values outlive the process.
type Files interface {
	// File returns the descriptor of a new empty file on a tmpfs, in which values of size bytes are kept under a name, or
	// false if they cannot be kept. The descriptor stays open as long as the values are in use.
	File(name string, size int) (fd int, ok bool)
}

// keptAlign is the size of a huge page. Memory that a file backs begins at one, so that the address of a value and its
// place in the file agree on where a huge page begins.
const keptAlign = 2 << 20

// kept is the memory of an array, which a file backs as far as values are in use. The file has room for a value before
// the value is used for the first time: a store into a page for which a tmpfs has no room would end the process
// (SIGBUS). Where the file has no room the memory is anonymous, and the values there end with the process.
type kept struct {
	memory []byte
	size   int // of a value, in bytes
	file   int
}

// reserveKept returns n zero values in a file of f, or nil if the values cannot be kept. The memory is unmapped when
// owner is garbage.
func reserveKept[O, T any](owner *O, n int, f Files, name string) ([]T, *kept) {
	if f == nil {
		return nil, nil
	}
	var t T
	size := int(unsafe.Sizeof(t))
	fd, ok := f.File(name, size)
	if !ok {
		return nil, nil
	}
	raw, err := keptMapping(n * size)
	if err != nil {
		panic(&NoMemory{Bytes: n * size, Err: err})
	}
	runtime.AddCleanup(owner, unmapKept, raw.all)
	return unsafe.Slice((*T)(unsafe.Pointer(&raw.used[0])), n), &kept{memory: raw.used, size: size, file: fd}
}

// keeper backs arrays whose values have the same indexes.
type keeper struct {
	arrays []*kept // none: nothing is kept
	mu     sync.Mutex
	ready  atomic.Uint32 // lower indexes are backed, or stay anonymous; written under mu
	failed atomic.Uint32 // number of those that stay anonymous; written under mu

	unbacked map[uint32]bool // by keepStep: the values that stay anonymous; guarded by mu

}

// need makes the values below an index usable. It is a load, except for the first value of a step.
func (k *keeper) need(to uint32) {
	if len(k.arrays) == 0 || to <= k.ready.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.ready.Load() < to {
		k.extendLocked(k.ready.Load()+keepStep, false)
	}
}

// ahead makes the values below an index usable, with huge pages if the file system has them. A caller of need waits for
// one huge page at most.
func (k *keeper) ahead(to uint32) {
	perPage := uint32(keptAlign / k.arrays[0].size)
	for k.ready.Load()+perPage <= to {
		k.page(perPage)
	}
}

// page extends the usable values to the next multiple of perPage.
func (k *keeper) page(perPage uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.extendLocked((k.ready.Load()/perPage+1)*perPage, true)
}

// extendLocked backs the values up to an index. The caller holds k.mu.
func (k *keeper) extendLocked(to uint32, huge bool) {
	from := k.ready.Load()
	to = min(to, uint32(len(k.arrays[0].memory)/k.arrays[0].size))
	k.backLocked(from, to, huge)
	k.ready.Store(to)
}

// backLocked backs values, in all files or in none. The caller holds k.mu.
func (k *keeper) backLocked(from, to uint32, huge bool) {
	for i, a := range k.arrays {
		if a.back(int(from)*a.size, int(to)*a.size, huge) {
			continue
		}
		for _, b := range k.arrays[:i] {
			b.leave(int(from)*b.size, int(to)*b.size)
		}
		k.failLocked(from, to)
		return
	}
}

// failLocked notes that values stay anonymous. The caller holds k.mu.
func (k *keeper) failLocked(from, to uint32) {
	k.failed.Add(to - from)
	if k.unbacked == nil {
		k.unbacked = map[uint32]bool{}
	}
	for step := from / keepStep; step < to/keepStep; step++ {
		k.unbacked[step] = true
	}
}

// Pieces is zeroed memory for n values of type T, which a file keeps. T holds no pointers. Any goroutine may call the
// methods.
type Pieces[T any] struct {
	values []T
	memory *kept // nil: on Go's heap
	mu     sync.Mutex
	made   []bool // guarded by mu
}

// NewPieces returns n values in a file of f. Without a file, or if the size of T is no multiple of the page size, their
// memory is on Go's heap.
func NewPieces[T any](n int, f Files, name string) *Pieces[T] {
	p := &Pieces[T]{}
	var t T
	if int(unsafe.Sizeof(t))%pageSize == 0 {
		p.values, p.memory = reserveKept[Pieces[T], T](p, n, f, name)
	}
	if p.memory != nil {
		p.made = make([]bool, n)
	}
	return p
}

// Piece returns value i. On Go's heap, each call makes a new one. If the file has no room for the value, it ends with
// the process. The caller keeps p reachable while it uses the value.
func (p *Pieces[T]) Piece(i int) *T {
	if p.memory == nil {
		return new(T)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.made[i] {
		p.memory.back(i*p.memory.size, (i+1)*p.memory.size, false)
		p.made[i] = true
	}
	return &p.values[i]
}

// Leave gives the memory of value i back, and its place in the file. Its user does not use it any more. Piece makes it again.
func (p *Pieces[T]) Leave(i int) {
	if p.memory == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made[i] {
		p.memory.leave(i*p.memory.size, (i+1)*p.memory.size)
		p.made[i] = false
	}
}

// leave gives the memory of values back, and their place in the files.
func (k *keeper) leave(from, to uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leaveLocked(from, to)
}

// retreat gives back the memory of the usable values from an index on.
func (k *keeper) retreat(to uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if from := k.ready.Load(); from > to {
		k.ready.Store(to)
		k.leaveLocked(to, from)
	}
}

// leaveLocked is leave. The caller holds k.mu.
func (k *keeper) leaveLocked(from, to uint32) {
	for step := from / keepStep; step < to/keepStep; step++ {
		if k.unbacked[step] {
			delete(k.unbacked, step)
			k.failed.Add(-keepStep)
		}
	}
	for _, a := range k.arrays {
		a.leave(int(from)*a.size, int(to)*a.size)
	}
}

// back makes values that leave has given back usable again.
func (k *keeper) back(from, to uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.backLocked(from, to, false)
}

// Forget gives the memory of value i back. The caller has no use for it any more; a late reader finds zeros or what was there.
func (p *Pieces[T]) Forget(i int) {
	if p.memory == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory.leave(i*p.memory.size, (i+1)*p.memory.size)
	p.made[i] = false
}
