//go:build !race

package table

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page of x86-64, and of arm64 with pages of 4 KiB. Where they have another size, only
// the alignment is wrong.
const hugePage = 2 << 20

// mapping returns size bytes of the kernel's memory, or nil if it gives none, or for so few bytes is not asked.
func mapping(size int) *region {
	if size < hugePage {
		return nil
	}
	all, err := unix.Mmap(-1, 0, size+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	from := -int(uintptr(unsafe.Pointer(&all[0]))) & (hugePage - 1)
	r := &region{all: all, used: all[from : from+size : from+size]}
	_ = unix.Madvise(r.used[hugePage:], unix.MADV_HUGEPAGE) // a kernel without them is only slower
	return r
}

func unmap(all []byte) { _ = unix.Munmap(all) }

// release gives the memory of values that are of no use any more back to the kernel. Who reads them still finds zeros.
func release[T any](values []T) {
	if len(values) == 0 {
		return
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
	page := unix.Getpagesize()
	from := -int(uintptr(unsafe.Pointer(&b[0]))) & (page - 1)
	if from < len(b) {
		b = b[from:]
		_ = unix.Madvise(b[:len(b)&^(page-1)], unix.MADV_DONTNEED)
	}
}
