package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// ingress is the receiving part of a worker.
type ingress struct {
	link
	frames   []packet.Frame
	asked    time.Duration // when the port's drop counters were last read
	said     packet.Drops  // its answer
	judged   time.Duration // when it was last checked whether the port has stalled
	before   uint64        // packets lost then because the ring was full
	received bool          // the port has delivered packets since
	last     time.Duration // when packets arrived last
	beat     atomic.Int64  // when the worker last went round, at most dropsEvery or a wait for packets ago
	reported time.Duration // when load was last reported
	dense    bool          // packets arrive so fast that waiting for more pays
	look     chan struct{} // ends the wait for a NIC
}

// lose closes a port that has failed.
func (w *worker) lose(err error) {
	w.g.outages[w.side].lost(err)
	w.in.close()
}

// reopen tries to open the port again. After a failure it waits a little, or until wake.
func (w *worker) reopen(ctx context.Context) bool {
	w.in.beat.Store(int64(w.g.clock()))
	if err := w.in.again(); err != nil {
		select {
		case <-ctx.Done():
		case <-w.in.look:
		case <-time.After(retry):
		}
		return false
	}
	if w.g.outages[w.side].found() {
		w.count.Happened(metrics.Reopened)
	}
	return true
}

// stallAfter is how long a port loses packets and delivers none until it counts as stalled.
const stallAfter = time.Second

// account adds what the port reports as lost to the counters. It closes a port that has lost packets and delivered none for
// stallAfter, so that it is opened again: such a port does not recover by itself.
func (w *worker) account(lost packet.Drops) {
	w.count.RingDrops(lost.Room)
	offload, large := lost.Offload-w.in.said.Offload, lost.Large-w.in.said.Large
	w.count.ArrivedMore(offload + large)
	w.count.Dropped(drop.Offload, offload)
	w.count.Dropped(drop.Large, large)
	w.in.said = lost
	if w.now-w.in.judged < stallAfter {
		return
	}
	stalled := lost.Room > w.in.before && !w.in.received
	w.in.judged, w.in.before, w.in.received = w.now, lost.Room, false
	if stalled && w.in.port != nil {
		w.count.Happened(metrics.Stalled)
		w.g.outages[w.side].stalled()
		w.in.close()
	}
}
