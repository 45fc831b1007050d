package gateway

import (
	"context"
	"time"

	"nat64d/drop"
	"nat64d/table"
)

// Our own choices: how often expired sessions are swept, how many in one step, and how often a full pool is logged.
const (
	sweepEvery  = 100 * time.Millisecond
	sweepBudget = 4096
	logEvery    = time.Minute
)

// maintain frees what has expired and says once a minute what an operator has to know.
func (g *Gateway) maintain(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var full complaint
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := g.clock()
		for g.Sessions.Sweep(table.Time(now/table.Tick), sweepBudget, g.probes.put) && ctx.Err() == nil {
		}
		for g.Sessions.SweepSYNs(table.Time(now/table.Tick), sweepBudget, g.syns.put) && ctx.Err() == nil {
		}
		full.check(g, now)
	}
}

// complaint is the log line about packets that no port of pool4 was left for.
type complaint struct {
	counted uint64
	at      time.Duration
}

func (c *complaint) check(g *Gateway, now time.Duration) {
	n := g.Counters.Drops(drop.PoolExhausted)
	if n == c.counted || c.at != 0 && now-c.at < logEvery {
		return
	}
	g.log.Warn("no free port is left in pool4: new flows are refused; add ports or addresses, or shorten timeouts",
		"refused", n-c.counted)
	c.counted, c.at = n, now
}
