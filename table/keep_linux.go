package table

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

var pageSize = os.Getpagesize()

// keepStep is the number of values that a file gets room for at a time. It fills whole pages with values of 4 bytes.
var keepStep = uint32(max(runLen, pageSize/4))

// keptMapping reserves size bytes that begin at a huge page.
func keptMapping(size int) (*region, error) {
	all, err := unix.Mmap(-1, 0, size+keptAlign, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	from := -int(uintptr(unsafe.Pointer(&all[0]))) & (keptAlign - 1)
	return &region{all: all, used: all[from : from+size : from+size]}, nil
}

func unmapKept(all []byte) { _ = unix.Munmap(all) }

// back makes the file back the bytes from from to to, which no one uses yet, if the file has room for them. Both are
// multiples of the page size, or the end. With huge it asks for huge pages, which a tmpfs mounted with huge=advise
// gives only to accesses, not to fallocate.
func (k *kept) back(from, to int, huge bool) bool {
	to = min((to+pageSize-1)&^(pageSize-1), len(k.memory))
	if from >= to {
		return true
	}
	if k.extend(from, to, !huge) != nil {
		return false
	}
	b := k.memory[from:to]
	if err := mapOver(b, unix.MAP_SHARED, k.file, from); err != nil {
		k.leave(from, to)
		return false
	}
	if !huge {
		return true
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	err := unix.Madvise(b, unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.14
		err = k.extend(from, to, true)
	}
	if err != nil {
		k.leave(from, to)
		return false
	}
	return true
}

// extend makes the file long enough, and with room it takes the memory for the bytes.
func (k *kept) extend(from, to int, room bool) error {
	if room {
		return unix.Fallocate(k.file, 0, int64(from), int64(to-from))
	}
	return unix.Ftruncate(k.file, int64(to)) // the bytes after it are not in use
}

// leave makes the bytes from from to to anonymous zeros, and gives their place in the file back. A late reader finds
// zeros there.
func (k *kept) leave(from, to int) {
	to = min((to+pageSize-1)&^(pageSize-1), len(k.memory))
	if from < to && mapOver(k.memory[from:to], unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE, -1, 0) == nil {
		_ = unix.Fallocate(k.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(from), int64(to-from))
	}
}

// mapOver replaces the mapping of b.
func mapOver(b []byte, flags, file, offset int) error {
	_, err := unix.MmapPtr(file, int64(offset), unsafe.Pointer(&b[0]), uintptr(len(b)), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED)
	return err
}
