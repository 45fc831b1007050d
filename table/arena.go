package table

import (
	"fmt"
	"runtime"
	"unsafe"
)

// reserve returns n zero values that belong to owner, a pointer to the object that the result is kept in: when the owner
// is garbage, the memory is gone. T holds no pointers.
//
// The memory is not the garbage collector's: a reservation is as large as the table may ever be, so it would let the
// collector wait until as much garbage has come together. It costs nothing until it is touched, by the small page. In a
// large table, visited at random, much of an access would be spent on finding its page: so its owner prepares it, in
// huge pages, ahead of those who would otherwise wait for the kernel to find one.
func reserve[O, T any](owner *O, n int) []T {
	var t T
	size := max(n, 1) * int(unsafe.Sizeof(t))
	raw, err := mapping(size)
	switch {
	case err != nil:
		panic(&NoMemory{Bytes: size, Err: err}) // Go's own memory would end in a trace of the runtime
	case raw == nil:
		return make([]T, n)
	}
	runtime.AddCleanup(owner, unmap, raw.all)
	return unsafe.Slice((*T)(unsafe.Pointer(&raw.used[0])), n)
}

// NoMemory is what the constructors of this package panic with when the kernel refuses the memory of a table, as it does
// with a limit of address space or with strict overcommit, or would leave too little to the rest of the process. The caller
// that chooses the size of the tables recovers from it.
type NoMemory struct {
	Bytes int
	Err   error
}

// Error returns how much was refused, and why.
func (e *NoMemory) Error() string {
	return fmt.Sprintf("the kernel refuses %d MiB of memory: %v", (e.Bytes+1<<20-1)>>20, e.Err)
}

// Unwrap returns the kernel's error.
func (e *NoMemory) Unwrap() error { return e.Err }

// Reserved calls reserve, which makes tables, and returns the *NoMemory that it panics with, or nil.
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

// Room returns a *NoMemory if the kernel would refuse so many bytes.
func Room(size int) error {
	if err := refuses(size); err != nil {
		return &NoMemory{Bytes: size, Err: err}
	}
	return nil
}

// region is memory from the kernel: all of it, and the part that is used, which begins with a huge page.
type region struct{ all, used []byte }
