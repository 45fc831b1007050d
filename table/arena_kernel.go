//go:build linux && !race

package table

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page on x86-64, and on arm64 with 4 KiB pages. With another size only the alignment is
// wrong.
const hugePage = 2 << 20

// headroom is the memory that a table must leave for the rest of the process: Go's runtime ends the process when the
// kernel refuses memory.
const headroom = 128 << 20

// mapping maps size bytes, or returns nil if size is less than a huge page: Go's heap then serves.
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

// refuses returns the kernel's error if it refuses another size bytes.
func refuses(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		unmap(b)
	}
	return err
}

func unmap(all []byte) { _ = unix.Munmap(all) }

// prepare asks the kernel for a huge page for the values that fill one, from index first on, and returns the index of
// the first value after it. The call takes a fraction of a millisecond, or 5 ms on a virtual machine whose host must
// find the memory. Without MADV_POPULATE_WRITE (Linux before 5.14), without huge pages, or with values whose size does
// not divide that of a page, accesses are only slower.
func prepare[T any](values []T, first int) (next int) {
	size := int(unsafe.Sizeof(values[0]))
	next = min(first+hugePage/size, len(values))
	b := bytesOf(values[first:next])
	if from := -int(uintptr(unsafe.Pointer(&b[0]))) & (hugePage - 1); from > 0 {
		return min(first+(from+size-1)/size, len(values)) // up to the next page, which is aligned
	}
	if len(b) == hugePage {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
		_ = unix.Madvise(b, unix.MADV_POPULATE_WRITE)
	}
	return next
}

// release gives the memory of values that are no longer used back to the kernel. A late reader finds zeros there. The pages that
// the values share with others stay; without MADV_NOHUGEPAGE, khugepaged would soon make huge pages of them.
func release[T any](values []T) {
	if len(values) == 0 {
		return
	}
	b := bytesOf(values)
	page := unix.Getpagesize()
	from := -int(uintptr(unsafe.Pointer(&b[0]))) & (page - 1)
	if from < len(b) {
		b = b[from:]
		b = b[:len(b)&^(page-1)]
		_ = unix.Madvise(b, unix.MADV_DONTNEED)
		_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	}
}

func bytesOf[T any](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}
