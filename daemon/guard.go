//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"nat64d/config"
	"nat64d/linux/guard"
	"nat64d/pool4"
)

// hostGuard owns the guard of the network namespace and tells of what others do to it. Its methods may be called by any
// goroutine.
type hostGuard struct {
	log  *slog.Logger
	pool *pool4.Pool
	nat  natRules

	mu    sync.Mutex
	g     *guard.Guard // nil: switched off
	lock  net.Listener // held while this process has the guard of its network namespace
	now   guard.Covered
	wrong error // why the guard is not what it should be; nil: it is
	gone  bool  // it has been removed: the daemon is stopping
	damage
}

// damage is what others have done to the guard.
type damage struct {
	repairs uint64    // how often it was repaired
	last    time.Time // the last time
	logged  time.Time // the last time that the log told it
}

func newHostGuard(c *config.Config, pool *pool4.Pool, log *slog.Logger) *hostGuard {
	h := &hostGuard{log: log, pool: pool}
	if c.Host.Guard {
		h.g = guard.New(guard.Options{V6: c.Interfaces.V6.Name, V4: c.Interfaces.V4.Name, ReservePorts: c.Host.ReservePorts, Program: true})
	}
	return h
}

// refuse returns why ranges cannot be taken from the host. It is asked about new ones only: those that are there stay,
// whatever the host has done since.
func (g *hostGuard) refuse(entries []pool4.Entry, force bool) error {
	if g.g == nil || force {
		return nil
	}
	return g.g.Refuse(entries)
}

// lockNamespace makes sure that no other nat64d guards this network namespace: the two would undo each other's rules.
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
		g.log.Warn("a program without privileges has the name by which a second guard would be noticed", "pid", other.pid)
		return nil
	}
	return fmt.Errorf("%w has its guard in this network namespace: stop it first, run this one in a namespace of its own, or set host.guard: false", err)
}

// cover has the guard cover c, to which settle comes back. With an error nothing has changed.
func (g *hostGuard) cover(c guard.Covered) error {
	return g.do(func() error {
		err := g.g.Apply(c)
		if err != nil {
			g.wrong = g.g.Apply(g.now)
		}
		return err
	})
}

// settle has the guard cover c from now on. The status shows its error.
func (g *hostGuard) settle(c guard.Covered) error {
	g.nat.stale.Store(true)
	return g.do(func() error {
		g.now = c
		g.wrong = g.g.Apply(c)
		return g.wrong
	})
}

// coverNICs puts the guard on an interface that has come since, before packets are taken from it. The status tells if it
// cannot, and the task "interfaces" tries again.
func (g *hostGuard) coverNICs() {
	_ = g.do(func() error {
		if !g.g.Covers() {
			_, g.wrong = g.g.Check()
		}
		return nil
	})
}

// mostRepairs is how often in a second the guard is repaired, should two programs fight for its table.
const mostRepairs = 100

// watch repairs the guard whenever somebody else changes its table, until ctx is done.
func (g *hostGuard) watch(ctx context.Context) error {
	if g.g == nil {
		return nil
	}
	w, err := guard.Watch()
	if err != nil {
		g.log.Warn("damage to the guard is noticed late", "every", checkGuardEvery, "error", err)
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = w.Close() })()
	defer w.Close()
	g.check() // nobody has listened until now
	began, n := time.Now(), 0
	for {
		own, err := w.Wait()
		if err != nil {
			break
		}
		if !own {
			g.nat.stale.Store(true)
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
		g.log.Warn("damage to the guard is noticed late: notifications of nftables have ended", "every", checkGuardEvery)
	}
	return nil
}

// check puts the guard back if something has happened to it.
func (g *hostGuard) check() {
	_ = g.do(func() error {
		damage, err := g.g.Check()
		g.wrong = err
		if err != nil {
			g.log.Error("the host may answer for pool4 and pool6: the guard is not in place", "error", err)
		}
		if damage == "" {
			return nil
		}
		g.repairs++
		g.last = time.Now()
		if g.last.Sub(g.logged) > time.Second {
			g.logged = g.last
			g.log.Warn("somebody changed or deleted the nftables table of the guard: restored", "table", "netdev nat64d", "differed", damage,
				"repairs", g.repairs)
		}
		return nil
	})
}

// repaired returns how often the guard was repaired.
func (g *hostGuard) repaired() (n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.repairs
}

// tellHarm is how long the status tells of a repair.
const tellHarm = time.Hour

// warnings returns what is wrong with the guard, although it is in place.
func (g *hostGuard) warnings() (ws []string) {
	if g.g == nil {
		return []string{"host.guard is off: the host answers for pool4 addresses that it owns, and resets connections"}
	}
	_ = g.do(func() error {
		ws = append(g.g.Warnings(), g.nat.warnings...)
		if g.repairs > 0 && time.Since(g.last) < tellHarm {
			ws = append(ws, fmt.Sprintf("something changes or deletes the nftables table of the guard (netdev nat64d): restored %d times, last at %s",
				g.repairs, g.last.Format(time.DateTime)))
		}
		return nil
	})
	return ws
}

// keep has the guard keep notes on the interfaces, for the next start in case this process is killed. Without a guard
// nothing does.
func (g *hostGuard) keep(notes map[int]string) error {
	return g.do(func() error { return g.g.Keep(notes) })
}

// kept returns such notes of the process before this one.
func (g *hostGuard) kept() (notes map[int]string, err error) {
	err = g.do(func() error { notes, err = g.g.Kept(); return err })
	return notes, err
}

// notReady returns why the guard is not what it should be.
func (g *hostGuard) notReady() (why []string) {
	_ = g.do(func() error {
		if g.wrong != nil {
			why = []string{"the host may answer for pool4 and pool6, for the guard is not what it should be: " + g.wrong.Error()}
		}
		return nil
	})
	return why
}

// do runs f with the guard to itself, unless there is none.
func (g *hostGuard) do(f func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.g == nil || g.gone {
		return nil
	}
	return f()
}

// remove takes the guard away for good.
func (g *hostGuard) remove() error {
	return g.do(func() error {
		g.gone = true
		if g.lock != nil {
			defer g.lock.Close()
		}
		return g.g.Remove()
	})
}
