//go:build amd64 || arm64

package table

import "unsafe"

// prefetch has the processor fetch the cache line at p. It is an instruction, and not a load whose result nobody uses,
// because a load occupies its place among the instructions under way until the line has come, and with that only two or
// three packets would wait for memory at a time.
//
//go:noescape
func prefetch(p unsafe.Pointer)
