//go:build linux

package afpacket

import (
	"sync/atomic"
	"time"

	"nat64d/packet"
)

// AdaptivePoll is the value of Options.BusyPoll with which a port adapts to the traffic: after packets it polls for at
// most 200 µs, and only as long as polling gains something.
const AdaptivePoll time.Duration = -1

// Processors is what the ports of a process know of each other, by processor. A worker that polls keeps its processor
// from sleeping, so it also shortens the way of the next packet of another worker there: that of the reply. So the
// last one that had a packet polls, and stops when another one gets one. The zero value is ready for use, by any number
// of ports concurrently.
type Processors struct {
	slots [256]processor // by the number of the processor; those that share a slot only poll less
}

type processor struct {
	last atomic.Pointer[busyPoller] // the port that was the last to end a lull, or to poll
	when atomic.Int64               // when it did after another port, in nanoseconds since the epoch
	_    [48]byte                   // the rest of a cache line
}

// epoch is the zero of the times of pollers.
var epoch = time.Now()

// busyPoller polls for one port with AdaptivePoll. It reads the clock only when there is no packet.
type busyPoller struct {
	control    pollControl
	processors *Processors

	packets int           // received since the last one was missing
	missing time.Duration // when it was
	learned time.Duration // when the last lull ended
	at      *processor    // where the current lull began; nil: there is none, or it is not observed
	current lull
}

// received counts packets, which end a lull if there is one.
func (p *busyPoller) received(n int) {
	p.packets += n
	if p.at == nil || n == 0 {
		return
	}
	now := time.Since(epoch)
	l := &p.current
	l.gap, l.elapsed = now-p.missing, now-p.learned
	if other := time.Duration(p.at.when.Load()) - p.missing; p.at.last.Load() != p && other > 0 {
		l.gap = min(l.gap, other)
	}
	p.control.learn(*l)
	p.learned, p.at = now, nil
	if here := p.processors.current(); here.last.Load() != p {
		here.when.Store(int64(now))
		here.last.Store(p)
	}
}

// poll begins a lull if packets have arrived since the last one, and polls as long as control allows. It yields the
// processor to other threads, and ends early if one of them is another worker. It takes at most the time wait.
func (p *busyPoller) poll(rx receiver, fs []packet.Frame, wait time.Duration) (n int, err error) {
	if p.packets == 0 {
		return 0, nil
	}
	now := time.Since(epoch)
	dense := p.control.dense(p.packets, now-p.missing)
	p.packets, p.missing, p.current = 0, now, lull{}
	if dense {
		return 0, nil
	}
	p.at = p.processors.current()
	p.at.last.Store(p)
	for start, length := now, min(p.control.next(), wait); n == 0 && err == nil && now-start < length && p.at.last.Load() == p; {
		before := now
		schedYield()
		n, err = rx.take(fs)
		now = time.Since(epoch)
		p.current.polled = now - start
		p.current.wanted = p.current.wanted || now-before > late
	}
	p.current.found = n > 0 || p.current.polled > 0 && p.at.last.Load() != p
	return n, err
}

// late is the duration of a system call that shows that another thread ran.
const late = 20 * time.Microsecond

// current returns the slot of the processor that the calling thread runs on.
func (p *Processors) current() *processor {
	return &p.slots[currentCPU()%uint32(len(p.slots))]
}
