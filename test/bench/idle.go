package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// interruption is the maximum gap between two clock reads without an interruption.
const interruption = 400 * time.Nanosecond

// idleOrder contains the duration.
type idleOrder struct{ Length time.Duration }

// idleResult is the time that others used the processor.
type idleResult struct{ Busy, Took time.Duration }

// share returns the share of the processor that others used.
func (r idleResult) share() float64 { return r.Busy.Seconds() / r.Took.Seconds() }

// idle spins at idle priority and sums the gaps in which this processor did something else. This includes soft
// interrupts, which tick-based accounting misses or charges to the interrupted program.
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
