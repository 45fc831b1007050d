//go:build linux

package daemon

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// listingNice is the nice value of threads that list tables, the lowest priority: where packets need all of a processor, such a thread
// gets 1.5 % of it. With SCHED_IDLE, or with a short slice, each packet that wakes a packet thread would change threads, which costs more.
const listingNice = 19

// unhurried calls f on a thread of low priority, so that packets come first. f must not take locks that packets need, because a
// thread that is not on a processor would keep them. A panic of f is one of the caller.
func unhurried(f func() error) (err error) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				panicked = fmt.Sprintf("%v\n%s", value, debug.Stack())
			}
		}()
		runtime.LockOSThread()                                  // for ever: the thread ends with the goroutine, since its priority cannot be raised again
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, listingNice) // of this thread; a listing without it only costs more
		err = f()
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
	return err
}
