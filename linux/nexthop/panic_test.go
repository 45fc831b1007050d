//go:build linux

package nexthop

import (
	"strings"
	"testing"
	"time"
)

// A panic of the goroutine that reads from the kernel becomes one of Run, with the stack of that goroutine.
func TestReaderPanicIsRelayed(t *testing.T) {
	t.Parallel()
	c := make(chan batch)
	go receive(nil, c) // dereferences nil
	f := &follower{proxy: &proxy{timer: time.NewTimer(idle)}, timer: time.NewTimer(idle), t: &Table{}}
	defer func() {
		r, ok := recover().(*relayed)
		if !ok || !strings.Contains(r.String(), "nil pointer") || !strings.Contains(r.String(), "nexthop.receive(") {
			t.Errorf("run panicked with %v", r)
		}
		if _, open := <-c; open {
			t.Error("the reader continues")
		}
	}()
	err := f.run(t.Context(), c, nil)
	t.Errorf("run returned %v", err)
}
