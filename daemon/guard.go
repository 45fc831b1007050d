//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"nat64d/config"
	"nat64d/linux/guard"
	"nat64d/pool4"
)

// hostGuard owns the guard of the network namespace and reports damage by other programs. It is safe for concurrent
// use.
type hostGuard struct {
	log  *slog.Logger
	pool *pool4.Pool
	nat  natRules

	mu    sync.Mutex
	g     *guard.Guard // nil: disabled
	lock  net.Listener // held while this process owns the guard of its network namespace
	now   guard.Covered
	wrong error // why the guard is not in the wanted state; nil: it is
	gone  bool  // removed, because the daemon is stopping
	damage

	notified atomic.Bool // nftables reports changes of the table
	others   event       // signals that any table has changed
}

// damage records damage to the guard by other programs.
type damage struct {
	repairs uint64    // number of repairs
	last    time.Time // time of the last one
	logged  time.Time // time of the last log message
}

func newHostGuard(c *config.Config, pool *pool4.Pool, others event, log *slog.Logger) *hostGuard {
	h := &hostGuard{log: log, pool: pool, others: others, nat: natRules{stale: newEvent()}}
	if c.Host.Guard {
		v6, v4 := &c.Interfaces.V6, &c.Interfaces.V4
		h.g = guard.New(guard.Options{
			V6: v6.NIC(), All6: v6.Attach == config.AttachHost, V4: v4.NIC(), All4: v4.Attach == config.AttachHost,
			ReservePorts: c.Host.ReservePorts, Program: true,
		})
	}
	return h
}

// refuse returns an error if ranges would harm the host. It only checks new ranges; existing ones stay, whatever the
// host has done since.
func (g *hostGuard) refuse(entries []pool4.Entry, force bool) error {
	if g.g == nil || force {
		return nil
	}
	return g.g.Refuse(entries)
}

// own ensures that no other nat64d guards this network namespace: both would revert each other's rules.
func (g *hostGuard) lockNamespace() (err error) {
	if g.g == nil {
		return nil
	}
	g.lock, err = claim("guard")
	var other *inUse
	switch {
	case !errors.As(err, &other):
		return err
	case !other.nat64d:
		g.log.Warn("an unprivileged program holds the lock against a second guard, ignoring it", "pid", other.pid)
		return nil
	}
	return fmt.Errorf("%w has its guard in this network namespace: stop it first, run this one in a namespace of its own, or set host.guard: false", err)
}

// cover extends the guard to more, so that the host ignores packets before they are translated. It leaves only bypass
// of the prefixes to the host. If it fails, nothing has changed.
func (g *hostGuard) cover(c guard.Covered) error {
	return g.do(func() error {
		err := g.g.Apply(c)
		if err != nil {
			g.wrong = g.g.Apply(g.now)
		}
		return err
	})
}

// move makes the guard cover the interfaces of a configuration.
func (g *hostGuard) move(c *config.Config) {
	_ = g.do(func() error {
		g.g.Move(c.Interfaces.V6.NIC(), c.Interfaces.V4.NIC())
		_, g.wrong = g.g.Check()
		return nil
	})
}

// settle makes the guard cover c. The status reports an error.
func (g *hostGuard) settle(c guard.Covered) error {
	g.nat.stale.signal()
	return g.do(func() error {
		g.now = c
		g.wrong = g.g.Apply(c)
		return g.wrong
	})
}

// precede installs the guard on a new interface before the gateway receives packets from it. The status reports a
// failure, and watch retries.
func (g *hostGuard) coverNICs() {
	_ = g.do(func() error {
		if !g.g.Covers() {
			_, g.wrong = g.g.Check()
		}
		return nil
	})
}

// mostRepairs is the maximum number of repairs per second, in case two programs alternately change the table.
const mostRepairs = 100

// watch repairs the guard whenever another program changes its table, until ctx is done.
func (g *hostGuard) watch(ctx context.Context) error {
	if g.g == nil {
		return nil
	}
	w, err := guard.Watch()
	if err != nil {
		g.log.Warn("cannot subscribe to nftables, checking the guard periodically", "every", checkGuardEvery, "error", err)
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = w.Close() })()
	defer w.Close()
	g.notified.Store(true)
	defer g.notified.Store(false)
	g.check() // for changes before the subscription
	began, n := time.Now(), 0
	for {
		own, err := w.Wait()
		if err != nil {
			break
		}
		g.others.signal()
		if !own {
			g.nat.stale.signal()
			continue
		}
		if g.check(); time.Since(began) > time.Second {
			began, n = time.Now(), 0
		}
		if n++; n > mostRepairs {
			time.Sleep(time.Until(began.Add(time.Second)))
		}
	}
	if ctx.Err() == nil {
		g.log.Warn("notifications of nftables have ended, checking the guard periodically", "every", checkGuardEvery)
	}
	return nil
}

// doubtful reports whether the guard may be damaged without a notification, or could not be repaired.
func (g *hostGuard) doubtful() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wrong != nil || !g.notified.Load()
}

// check repairs the guard if necessary.
func (g *hostGuard) check() {
	_ = g.do(func() error {
		damage, err := g.g.Check()
		g.wrong = err
		if err != nil {
			g.log.Error("cannot install the guard, the host may answer for pool4 and pool6", "error", err)
		}
		if damage == "" {
			return nil
		}
		g.repairs++
		g.last = time.Now()
		if g.last.Sub(g.logged) > time.Second {
			g.logged = g.last
			g.log.Warn("another program changed or deleted the guard's nftables table: restored", "table", "netdev nat64d", "differed", damage,
				"repairs", g.repairs)
		}
		return nil
	})
}

// repaired returns the number of repairs.
func (g *hostGuard) repaired() (n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.repairs
}

// tellHarm is how long the status reports a repair.
const tellHarm = time.Hour

// warnings returns problems of an installed guard.
func (g *hostGuard) warnings() (ws []string) {
	if g.g == nil {
		return []string{"host.guard is off: the host answers for pool4 addresses that it owns, and resets connections"}
	}
	_ = g.do(func() error {
		ws = g.g.Warnings()
		if g.repairs > 0 && time.Since(g.last) < tellHarm {
			ws = append(ws, fmt.Sprintf("something changes or deletes the nftables table of the guard (netdev nat64d): restored %d times, last at %s",
				g.repairs, g.last.Format(time.DateTime)))
		}
		return nil
	})
	return ws
}

// natWarnings returns warnings about NAT rules of the host.
func (g *hostGuard) natWarnings() (ws []string) {
	_ = g.do(func() error {
		ws = g.nat.warnings
		return nil
	})
	return ws
}

// keep stores notes on the interfaces in the guard, for the next start if this process is killed. Without a guard it
// does nothing.
func (g *hostGuard) keep(notes map[int]string) error {
	return g.do(func() error { return g.g.Keep(notes) })
}

// kept returns the notes of the previous process.
func (g *hostGuard) kept() (notes map[int]string, err error) {
	err = g.do(func() error { notes, err = g.g.Kept(); return err })
	return notes, err
}

// notReady returns why the guard is not in the wanted state.
func (g *hostGuard) notReady() (why []string) {
	_ = g.do(func() error {
		switch {
		case !g.g.Covers():
			why = []string{"the host may answer for pool4 and pool6, because the guard is not attached to an interface yet"}
		case g.wrong != nil:
			why = []string{"the host may answer for pool4 and pool6, because the guard is not in place: " + g.wrong.Error()}
		}
		return nil
	})
	return why
}

// do calls f with the guard locked. It does nothing without a guard.
func (g *hostGuard) do(f func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.g == nil || g.gone {
		return nil
	}
	return f()
}

// end removes the guard permanently, or leaves it to the next process for a time.
func (g *hostGuard) end(handover time.Duration) error {
	return g.do(func() error {
		g.gone = true
		if g.lock != nil {
			defer g.lock.Close()
		}
		return g.g.Leave(handover)
	})
}
