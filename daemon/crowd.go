//go:build linux

package daemon

import (
	"context"
	"sync"
	"time"

	"nat64d/gateway"
)

// A worker whose batches are this full on average has a backlog: packets come as fast as it forwards them, or faster.
const (
	crowdedBatch = gateway.FullBatch * 3 / 4
	crowdOver    = 50 * time.Millisecond // the time that an average covers, at least
)

// A listing that meets a crowd pauses for so many times as long as it has worked since the last pause, and no longer than listingPause.
// The nice value alone does not do that: a thread that finds the processor idle for an instant keeps it for milliseconds.
const (
	pauseFactor  = 25
	listingPause = 250 * time.Millisecond
)

// crowd finds out whether a worker has a backlog of packets.
type crowd struct {
	mu      sync.Mutex
	at      time.Time // of last
	last    []gateway.Batches
	crowded bool
}

// look reports whether a worker has had a backlog lately.
func (c *crowd) look(now time.Time, batches func([]gateway.Batches) []gateway.Batches) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.at) < crowdOver {
		return c.crowded
	}
	all := batches(nil)
	c.crowded = false
	for i := range min(len(all), len(c.last)) {
		frames, n := int64(all[i].Frames-c.last[i].Frames), int64(all[i].Batches-c.last[i].Batches)
		c.crowded = c.crowded || n > 0 && frames >= crowdedBatch*n
	}
	c.at, c.last = now, all
	return c.crowded
}

// pause pauses a listing that has worked since a time.
type pause func(ctx context.Context, since time.Time)

// noPause is the pause of surveys, which are rare.
func noPause(context.Context, time.Time) {}

// giveWay pauses a listing that has worked since a time, if packets wait.
func (d *Daemon) giveWay(ctx context.Context, since time.Time) {
	now := time.Now()
	if !d.crowd.look(now, d.gateway.Batches) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(min(pauseFactor*now.Sub(since), listingPause)):
	}
}
