//go:build linux

package daemon

import (
	"context"
	"slices"
	"time"
)

// natRules are warnings about NAT rules of the host.
type natRules struct {
	stale    event     // the rules or pool4 have changed since the last read
	next     time.Time // time of the next permitted read
	warnings []string
}

// natWait is the delay of a read after a change: our own choice.
const natWait = time.Second

// natShare limits the time for reading NAT rules that change continuously: at most 1/natShare of the time.
const natShare = 50

// readNAT looks for NAT rules of the host that may use ports of pool4 and returns new warnings. Reading a large ruleset
// takes long, so it does not hold the guard's lock. It is not safe for concurrent use.
func (g *hostGuard) readNAT() (fresh []string) {
	if g.g == nil {
		return nil
	}
	began := time.Now()
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.nat.stale:
		}
		select { // until all changes of a transaction, and of a moment, have been made, and the next read is permitted
		case <-ctx.Done():
			return nil
		case <-time.After(max(natWait, time.Until(g.nat.next))):
		}
		for _, w := range g.readNAT() {
			g.log.Warn(w)
		}
	}
}
