//go:build !amd64 && !arm64

package table

import "unsafe"

// prefetch does nothing: here a look-up waits for memory when it comes to that.
func prefetch(unsafe.Pointer) {}
