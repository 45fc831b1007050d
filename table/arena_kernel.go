//go:build linux && !race

package table

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page of x86-64, and of arm64 with pages of 4 KiB. Where they have another size, only
// the alignment is wrong.
const hugePage = 2 << 20

// headroom is what a table has to leave to the rest of the process: Go's runtime ends it with a trace when the kernel refuses
// memory.
const headroom = 128 << 20

// mapping returns size bytes of the kernel's memory, or nil if for so few bytes it is not asked.
func mapping(size int) (*region, error) {
	if size < hugePage {
		return nil, nil
	}
	all, err := unix.Mmap(-1, 0, size+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	if err := refuses(headroom); err != nil {
		unmap(all)
		return nil, err
	}
	from := -int(uintptr(unsafe.Pointer(&all[0]))) & (hugePage - 1)
	return &region{all: all, used: all[from : from+size : from+size]}, nil
}

// refuses returns the kernel's error if it refuses so many bytes more.
func refuses(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		unmap(b)
	}
	return err
}

func unmap(all []byte) { _ = unix.Munmap(all) }

// prepare has the kernel put a huge page under values, those from number first on that fill one, and returns the number
// of the first value behind it. It takes a fraction of a millisecond, or 5 on a virtual machine whose host has to find
// the memory. A kernel that does not do so (before 5.14) or has no huge pages is only slower, and so are values whose size
// does not divide that of a page.
func prepare[T any](values []T, first int) (next int) {
	size := int(unsafe.Sizeof(values[0]))
	next = min(first+hugePage/size, len(values))
	b := bytesOf(values[first:next])
	if from := -int(uintptr(unsafe.Pointer(&b[0]))) & (hugePage - 1); from > 0 {
		return min(first+(from+size-1)/size, len(values)) // up to where the next page begins, which is aligned
	}
	if len(b) == hugePage {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
		_ = unix.Madvise(b, unix.MADV_POPULATE_WRITE)
	}
	return next
}

// release gives the memory of values that are of no use any more back to the kernel. Who reads them still finds zeros.
func release[T any](values []T) {
	if len(values) == 0 {
		return
	}
	b := bytesOf(values)
	page := unix.Getpagesize()
	from := -int(uintptr(unsafe.Pointer(&b[0]))) & (page - 1)
	if from < len(b) {
		b = b[from:]
		_ = unix.Madvise(b[:len(b)&^(page-1)], unix.MADV_DONTNEED)
	}
}

func bytesOf[T any](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}
