//go:build linux

package daemon

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// natRules are warnings about NAT rules of the host.
type natRules struct {
	stale    atomic.Bool // the rules or pool4 have changed since the last read
	next     time.Time   // time of the next permitted read
	warnings []string
}

// natShare limits the time for reading NAT rules that change continuously: at most 1/natShare of the time.
const natShare = 50

// readNAT looks for NAT rules of the host that may use ports of pool4, if something has changed since the last call,
// and returns new warnings. Reading a large ruleset takes long, so it does not hold the guard's lock. It is not safe
// for concurrent use.
func (g *hostGuard) readNAT() (fresh []string) {
	began := time.Now()
	if g.g == nil || began.Before(g.nat.next) || !g.nat.stale.Swap(false) {
		return nil
	}
	found, err := g.g.Masqueraded(g.pool.Entries())
	g.nat.next = time.Now().Add(natShare * time.Since(began))
	if err != nil {
		return []string{"cannot read the host's NAT rules, which may use ports of pool4: " + err.Error()}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.nat.warnings
	g.nat.warnings = found
	return slices.DeleteFunc(slices.Clone(found), func(w string) bool { return slices.Contains(old, w) })
}

// watchNAT warns of NAT rules that take ports of pool4 until ctx is done.
func (g *hostGuard) watchNAT(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for _, w := range g.readNAT() {
				g.log.Warn(w)
			}
		}
	}
}
