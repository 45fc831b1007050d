package gateway

import (
	"context"
	"time"

	"nat64d/table"
)

// Our own choices: the interval of maintenance while packets arrive or entries expire, and otherwise; the number of slots
// that are swept in an interval, and in one step. A pass takes an interval up to a million slots, and a second for ten million,
// so that the sweep takes at most 2 to 3 % of a processor for slots without work.
const (
	sweepEvery  = 100 * time.Millisecond
	restEvery   = time.Second
	sweepSlots  = 1 << 20
	sweepBudget = 4096
)

// maintenance frees expired entries and logs when limits are approached or reached. Only its goroutine uses it.
type maintenance struct {
	*Gateway
	slots   int // to sweep in a run
	limits  watches
	ring    loss
	passing bool   // a pass of the sweep is under way
	giving  bool   // the tables have more memory to give back
	packets uint64 // translated before the last run
}

func (g *Gateway) maintain(ctx context.Context) error {
	m := maintenance{Gateway: g, slots: sweepSlots}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		now := g.clock()
		if err := m.guarded(ctx, now); err != nil {
			return err
		}
		timer.Reset(m.pause(now))
	}
}

// guarded is run. Its error is that of a panic that ends the gateway.
func (m *maintenance) guarded(ctx context.Context, now time.Duration) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = m.upkeep.panics.inPath("maintenance", value, panicking(), nil, now)
		}
	}()
	m.run(ctx, now)
	return nil
}

// run does what is due.
func (m *maintenance) run(ctx context.Context, now time.Duration) {
	m.upkeep.beat.Store(int64(now))
	if m.hooks.alive != nil {
		m.hooks.alive()
	}
	m.sweep(ctx, now)
	if m.hooks.scarce != nil {
		m.Sessions.Confine(m.hooks.scarce())
	}
	for m.Pool4.Expire(now, sweepBudget) && ctx.Err() == nil {
	}
	for m.sweepSYNs(now) && ctx.Err() == nil {
	}
	for _, w := range m.workers {
		if w.hasProbes() || w.hasSYNs() {
			w.wake()
		}
	}
	m.giving = m.Sessions.Maintain()
	m.limits.check(m.Gateway, now)
	m.ring.check(m.Gateway, now)
}

// sweep continues a pass, or begins one when that may free something.
func (m *maintenance) sweep(ctx context.Context, now time.Duration) {
	ticks := table.Time(now / table.Tick)
	if !m.passing && ticks < m.Sessions.SweepDue() {
		return
	}
	m.passing = true
	for n := 0; n < m.slots && m.passing && ctx.Err() == nil; n += sweepBudget {
		m.passing = m.Sessions.Sweep(ticks, sweepBudget, m.mail.probes.put)
	}
}

// pause returns the time until the next run. While nothing happens, the runs are at full seconds, like other checks of the daemon,
// so that one wake-up serves all.
func (m *maintenance) pause(now time.Duration) time.Duration {
	before := m.packets
	m.packets = m.translated()
	if m.passing || m.giving || m.packets != before || m.SYNs.Len() > 0 {
		return sweepEvery
	}
	at := time.Now()
	second := at.Truncate(restEvery).Add(restEvery).Sub(at)
	due := m.Sessions.SweepDue().Duration() - now
	return max(min(second, due), sweepEvery)
}
