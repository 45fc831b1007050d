package table

import (
	"sync/atomic"
	"unsafe"
)

// MaxLines is how many lines can be asked for at once.
const MaxLines = 128

// Lines are places in memory that are soon to be read. The zero value is empty. It belongs to one goroutine.
type Lines struct {
	n  int
	at [MaxLines]uintptr
}

// Add asks for what lies where a Line method has said. What is too much is forgotten: Lines only save time.
func (l *Lines) Add(line uintptr) {
	if l.n < len(l.at) {
		l.at[l.n] = line
		l.n++
	}
}

// Fetch has the processor fetch what was asked for, all at the same time, without waiting for it, and empties l.
func (l *Lines) Fetch() {
	fetch(&l.at[0], l.n)
	l.n = 0
}

// Line returns where a word is, for Lines.
func Line(word *atomic.Uint32) uintptr { return uintptr(unsafe.Pointer(word)) }
