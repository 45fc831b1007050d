package table

import (
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
	raw := mapping(max(n, 1) * int(unsafe.Sizeof(t)))
	if raw == nil {
		return make([]T, n)
	}
	runtime.AddCleanup(owner, unmap, raw.all)
	return unsafe.Slice((*T)(unsafe.Pointer(&raw.used[0])), n)
}

// region is memory from the kernel: all of it, and the part that is used, which begins with a huge page.
type region struct{ all, used []byte }
