package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// interruption is the longest time between two looks at the clock in which nothing else has run.
const interruption = 400 * time.Nanosecond

// idleOrder says for how long to look.
type idleOrder struct{ Length time.Duration }

// idleResult says for how long somebody else used the processor.
type idleResult struct{ Busy, Took time.Duration }

// share is the part of the processor that others used.
func (r idleResult) share() float64 { return r.Busy.Seconds() / r.Took.Seconds() }

// idle spins at idle priority and adds up the gaps in which this processor did something else. So it sees soft interrupts,
// too, which the kernel's accounting by ticks misses or charges to whom they interrupt.
func idle(o idleOrder) (idleResult, error) {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
		return idleResult{}, os.NewSyscallError("sched_setattr", err)
	}
	var busy, last time.Duration
	for start := time.Now(); last < o.Length; {
		now := time.Since(start)
		if now-last > interruption {
			busy += now - last
		}
		last = now
	}
	return idleResult{busy, last}, nil
}
