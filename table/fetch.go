//go:build amd64 || arm64

package table

// fetch prefetches the cache lines at n addresses. It uses prefetch instructions instead of loads whose result is
// unused, because a load occupies an entry of the reorder buffer until the line has arrived. A prefetch instruction
// still waits for the page table walk; the loop is as short as possible, so that many of them overlap.
//
//go:noescape
func fetch(at *uintptr, n int)
