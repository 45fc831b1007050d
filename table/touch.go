package table

import (
	"sync/atomic"
	"unsafe"
)

// Touch has the processor fetch a word that is soon to be read, and does not wait for it.
func Touch(word *atomic.Uint32) { prefetch(unsafe.Pointer(word)) }
