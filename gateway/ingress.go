package gateway

import (
	"context"
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
	received bool          // the port has delivered packets since
	last     time.Duration // when packets arrived last
	dense    bool          // packets arrive so fast that waiting for more pays
}

// lose closes a port that has failed.
func (w *worker) lose(err error) {
	w.g.outages[w.side].lost(err)
	w.in.close()
}

// reopen tries to open the port again, and waits a little on failure.
func (w *worker) reopen(ctx context.Context) bool {
	if err := w.in.again(); err != nil {
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		return false
	}
	if w.g.outages[w.side].found() {
		w.count.Happened(metrics.Reopened)
	}
	return true
}

// account adds what the port reports as lost to the counters. It closes a port that has lost packets and handed over none, so that
// it is opened again: such a port does not recover by itself.
func (w *worker) account(lost packet.Drops) {
	w.count.RingDrops(lost.Room)
	w.count.Dropped(drop.Offload, lost.Offload-w.in.said.Offload)
	w.count.Dropped(drop.Large, lost.Large-w.in.said.Large)
	stalled := lost.Room > w.in.said.Room && !w.in.received
	w.in.said, w.in.received = lost, false
	if stalled && w.in.port != nil {
		w.count.Happened(metrics.Stalled)
		w.g.outages[w.side].stalled()
		w.in.close()
	}
}
