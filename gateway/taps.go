package gateway

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Bounds of the taps: our own choices. A tap takes tapSlots verdicts of about 500 bytes and, if it captures, tapBytes of packets,
// which its workers share. Its reader has to be as fast as the packets that it selects; what has no room is counted.
const (
	maxTaps  = 4
	tapSlots = 4096
	tapBytes = 8 << 20
	minSlots = 256
	// MaxSnap is the largest number of bytes of a packet that a Tap captures.
	MaxSnap = 1 << 16
	minRing = 4 * (MaxSnap + recordLen) // bytes of a worker: a packet of the maximum size, and what leaves for it
)

// ErrTaps is returned when there are too many taps.
var ErrTaps = errors.New("4 traces and captures are running, which is the maximum")

// TapOptions are the parameters of a Tap.
type TapOptions struct {
	Filter Filter
	Snap   int // bytes to capture of each packet, at most MaxSnap; 0: the packets are not captured
}

// Tap delivers what becomes of packets, to one goroutine. A packet never waits for it.
type Tap struct {
	g     *Gateway
	match *matcher
	snap  int
	rings []*ring // by the number of the worker
	wake  chan struct{}
	start time.Time // when the gateway's clock was 0
	told  uint64    // lost verdicts that Read has returned
}

// Record is a packet that a Tap has selected.
type Record struct {
	Verdict
	Time    time.Time
	Packets []Packet // as it arrived and, behind that, what left for it; none if the Tap does not capture
}

// tapSet is all taps, and the tracers of the workers for them.
type tapSet struct {
	taps    []*Tap
	tracers []*tracer // by the number of the worker
}

// Tap begins to record packets. The caller closes the Tap.
func (g *Gateway) Tap(o TapOptions) (*Tap, error) {
	n := len(g.workers)
	t := &Tap{g: g, match: newMatcher(&o.Filter), snap: min(max(o.Snap, 0), MaxSnap), wake: make(chan struct{}, 1), start: time.Now().Add(-g.clock())}
	bytes := 0
	if t.snap > 0 {
		bytes = max(tapBytes/n, minRing)
	}
	for range n {
		t.rings = append(t.rings, newRing(max(tapSlots/n, minSlots), bytes))
	}
	g.settings.admin.Lock()
	defer g.settings.admin.Unlock()
	taps := g.tapsLocked()
	if len(taps) >= maxTaps {
		return nil, ErrTaps
	}
	g.setTapsLocked(append(slices.Clone(taps), t))
	return t, nil
}

// tapsLocked returns the taps. The caller holds settings.admin.
func (g *Gateway) tapsLocked() []*Tap {
	if s := g.settings.taps.Load(); s != nil {
		return s.taps
	}
	return nil
}

// setTapsLocked replaces the taps, from the next batch of each worker on. The caller holds settings.admin.
func (g *Gateway) setTapsLocked(taps []*Tap) {
	if len(taps) == 0 {
		g.settings.taps.Store(nil)
		return
	}
	s := &tapSet{taps: taps}
	for i := range g.workers {
		var list []tapped
		for _, t := range taps {
			list = append(list, tapped{match: t.match, ring: t.rings[i], snap: t.snap, wake: t.wake})
		}
		s.tracers = append(s.tracers, newTracer(list))
	}
	g.settings.taps.Store(s)
}

// Close ends the tap. It may be called more than once.
func (t *Tap) Close() {
	t.g.settings.admin.Lock()
	defer t.g.settings.admin.Unlock()
	taps := slices.Clone(t.g.tapsLocked())
	t.g.setTapsLocked(slices.DeleteFunc(taps, func(o *Tap) bool { return o == t }))
}

// Read waits until packets have been recorded or ctx is done, and returns them in the order of their batches, with the number of
// those that were left out since the last call because the reader was too slow.
func (t *Tap) Read(ctx context.Context) (list []Record, lost uint64, err error) {
	select {
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	case <-t.wake:
	}
	all := uint64(0)
	for _, r := range t.rings {
		all += r.lost.Load()
		r.pop(func(v *Verdict, b []byte) {
			rec := Record{Verdict: *v, Time: t.start.Add(v.At)}
			for b = slices.Clone(b); len(b) > 0; {
				var p Packet
				b = p.next(b)
				rec.Packets = append(rec.Packets, p)
			}
			list = append(list, rec)
		})
	}
	slices.SortStableFunc(list, func(a, b Record) int { return cmp.Compare(a.At, b.At) })
	lost, t.told = all-t.told, all
	return list, lost, nil
}
