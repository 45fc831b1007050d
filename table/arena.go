package table

import (
	"fmt"
	"runtime"
	"unsafe"
)

// reserve returns n zero values of memory that the kernel maps. The memory is unmapped when owner, the object that
// holds the result, is garbage. T holds no pointers.
//
// The garbage collector does not manage the memory: a reservation has the maximum size of the table, and the collector
// would wait for as much garbage before it runs. The kernel allocates a small page at the first access to it. Random
// accesses to a large table would spend much of their time on page table walks, so the owner prepares the memory in
// huge pages before it is used; otherwise an access would wait for the kernel to find a huge page.
func reserve[O, T any](owner *O, n int) []T {
	var t T
	size := max(n, 1) * int(unsafe.Sizeof(t))
	raw, err := mapping(size)
	switch {
	case err != nil:
		panic(&NoMemory{Bytes: size, Err: err}) // make would end the process instead
	case raw == nil:
		return make([]T, n)
	}
	runtime.AddCleanup(owner, unmap, raw.all)
	return unsafe.Slice((*T)(unsafe.Pointer(&raw.used[0])), n)
}

// NoMemory is the value with which the constructors of this package panic when the kernel refuses the memory of a
// table, because of a limit on address space or strict overcommit, or when too little would be left for the rest of the
// process. The caller that chooses the size of the tables recovers from it.
type NoMemory struct {
	Bytes int
	Err   error
}

// Error returns the size that was refused and the kernel's reason.
func (e *NoMemory) Error() string {
	return fmt.Sprintf("the kernel refuses %d MiB of memory: %v", (e.Bytes+1<<20-1)>>20, e.Err)
}

// Unwrap returns the kernel's error.
func (e *NoMemory) Unwrap() error { return e.Err }

// Reserved calls reserve, which makes tables, and returns the *NoMemory with which it panics, or nil.
func Reserved(reserve func()) (err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *NoMemory:
			err = e
		default:
			panic(e)
		}
	}()
	reserve()
	return nil
}

// Room returns a *NoMemory if the kernel would refuse size bytes.
func Room(size int) error {
	if err := refuses(size); err != nil {
		return &NoMemory{Bytes: size, Err: err}
	}
	return nil
}

// region is a mapping: all of its memory, and the part that is used, which begins at a huge page.
type region struct{ all, used []byte }
