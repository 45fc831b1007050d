//go:build amd64 || arm64

package table

// fetch has the processor fetch the cache lines at n addresses. These are instructions of their own, and not loads whose
// result nobody uses, because a load occupies its place among the instructions under way until the line has come. Even
// so an instruction waits until the page has been found; the loop is as short as it can be, so that many of them are
// under way at once.
//
//go:noescape
func fetch(at *uintptr, n int)
