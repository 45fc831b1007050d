//go:build linux

package nexthop

import (
	"fmt"
	"runtime/debug"
)

// relayed is a panic of a goroutine that serves Run. Run panics with it, so that its caller can recover it.
type relayed struct {
	value any
	stack []byte
}

// String returns the value and the stack of the goroutine.
func (r *relayed) String() string { return fmt.Sprintf("%v\n%s", r.value, r.stack) }

// relay, when deferred, recovers a panic and hands it to f.
func relay(f func(*relayed)) {
	if value := recover(); value != nil {
		f(&relayed{value, debug.Stack()})
	}
}
