//go:build linux

package daemon

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/ops/metrics"
	"nat64d/packet"
)

// busyOver is the shortest time over which the share of a processor is taken: our own choice.
const busyOver = time.Second

// busy remembers the processor time of workers.
type busy struct {
	mu    sync.Mutex
	since time.Time // of used
	used  map[string]time.Duration
	ratio map[string]float64
}

// look takes the processor time of each worker by its name. It returns the share of a processor that each has used since the
// last call that was busyOver earlier or more, or since start.
func (b *busy) look(now, start time.Time, used map[string]time.Duration) map[string]float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		b.since = start
	}
	if wall := now.Sub(b.since); b.ratio == nil || wall >= busyOver {
		b.ratio = map[string]float64{}
		for name, total := range used {
			more := max(total-b.used[name], 0) // a worker that has begun again counts from 0
			b.ratio[name] = min(more.Seconds()/max(wall.Seconds(), 1e-9), 1)
		}
		b.since, b.used = now, used
	}
	return b.ratio
}

// workerSamples are those of the threads of the data path.
func (d *Daemon) workerSamples() (list []metrics.Sample) {
	used := d.processors.used()
	ratio := d.readings.busy.look(time.Now(), d.started, used)
	for _, name := range slices.Sorted(maps.Keys(used)) {
		list = append(list, metrics.WorkerBusySeconds.Of(used[name].Seconds(), name), metrics.WorkerBusy.Of(ratio[name], name))
	}
	return list
}

// used returns the processor time of the thread of each worker. The kernel counts it anyway, so the packet path reads no clock for
// it.
func (p *processors) used() map[string]time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]time.Duration{}
	for s := range packet.Family(len(p.workers)) {
		for i, tid := range p.workers[s] {
			if t, err := threadTime(tid); err == nil { // else the thread has ended
				all[fmt.Sprintf("%v/%d", s, i)] = t
			}
		}
	}
	return all
}

// threadTime returns the processor time of a thread of this process, in user space and in the kernel.
func threadTime(tid int) (time.Duration, error) {
	const perThread, sched = 4, 2 // CPUCLOCK_PERTHREAD_MASK and CPUCLOCK_SCHED of the kernel's clock numbers
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|perThread|sched), &t); err != nil {
		return 0, fmt.Errorf("processor time of thread %d: %w", tid, err)
	}
	return time.Duration(t.Nano()), nil
}
