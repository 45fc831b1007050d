package table

import (
	"sync/atomic"
	"unsafe"
)

// MaxLines is the number of cache lines that Lines has room for.
const MaxLines = 128

// Lines collects the addresses of cache lines that will soon be read, to prefetch them together. The zero value is
// empty. It belongs to one goroutine.
type Lines struct {
	n  int
	at [MaxLines]uintptr
}

// Add adds an address that a Line method has returned. It ignores addresses beyond MaxLines: prefetching only saves time.
func (l *Lines) Add(line uintptr) {
	if l.n < len(l.at) {
		l.at[l.n] = line
		l.n++
	}
}

// Fetch prefetches all lines at once, without waiting for them, and empties l.
func (l *Lines) Fetch() {
	fetch(&l.at[0], l.n)
	l.n = 0
}

// Line returns the address of a word, for Lines.
func Line(word *atomic.Uint32) uintptr { return uintptr(unsafe.Pointer(word)) }
