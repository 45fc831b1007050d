//go:build linux

package daemon

import (
	"io"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/config"
	"nat64d/linux/cpus"
	"nat64d/packet"
)

// Workers are bound when they start, when the plan changes, and when the kernel has undone it. GOMAXPROCS exceeds the
// threads that block, whatever the number of processors.
func TestWorkersFollowThePlan(t *testing.T) {
	allowed, err := cpus.Allowed()
	if err != nil {
		t.Fatal(err)
	}
	one := cpus.Of(0)
	for c := range 1024 {
		if allowed.Has(c) {
			one = cpus.Of(c)
		}
	}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	queue := NewLogQueue(io.Discard)
	defer queue.Close(time.Second)
	c := &config.Interfaces{Workers: 1}
	p := &processors{log: newLogs(config.Log{}, queue), conf: func() *config.Interfaces { return c }}
	side := func(workers cpus.Set) [2]cpus.Side {
		return [2]cpus.Side{{Workers: []cpus.Set{workers}}, {Workers: []cpus.Set{workers}}}
	}
	p.follow(one, side(one))
	tid, done := make(chan int), make(chan struct{})
	defer close(done)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread is bound
		p.prepareThread(packet.V4, 0)
		tid <- unix.Gettid()
		<-done
	}()
	worker := <-tid
	expect := func(when string, want cpus.Set) {
		t.Helper()
		if set, err := cpus.Bound(worker); err != nil || set != want {
			t.Errorf("%s: the worker may run on %v (%v), want %v", when, set, err, want)
		}
	}
	expect("started", one)
	runtime.GOMAXPROCS(1)
	p.follow(allowed, side(allowed))
	expect("more processors", allowed)
	if n := runtime.GOMAXPROCS(0); n < ioThreads+2 {
		t.Errorf("GOMAXPROCS is %d, must exceed the threads that block", n)
	}
	if err := one.Bind(worker); err != nil {
		t.Fatal(err)
	}
	p.follow(allowed, side(allowed))
	expect("bound by others", allowed)
	if w := p.status(packet.V4); len(w) != 1 || w[0].Processors != allowed.String() {
		t.Errorf("the status has %v", w)
	}
}
