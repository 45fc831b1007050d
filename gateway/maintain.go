package gateway

import (
	"context"
	"time"

	"nat64d/table"
)

// Our own choices: how often expired sessions are swept, and how many in one step.
const (
	sweepEvery  = 100 * time.Millisecond
	sweepBudget = 4096
)

// maintain frees expired entries and logs when limits are approached or reached.
func (g *Gateway) maintain(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var limits watches
	var ring loss
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := g.clock()
		for g.Sessions.Sweep(table.Time(now/table.Tick), sweepBudget, g.mail.probes.put) && ctx.Err() == nil {
		}
		for g.sweepSYNs(now) && ctx.Err() == nil {
		}
		limits.check(g, now)
		ring.check(g, now)
	}
}
