//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nat64d/linux/guard"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
)

// guarded keeps the guard, ARP answers and the policy for private addresses in step with pool4. Its methods may be
// called by any goroutine.
type guarded struct {
	p     *Daemon
	mu    sync.Mutex
	g     *guard.Guard // nil: switched off
	lock  net.Listener // held while this process has the guard of its network namespace
	wrong error        // why the guard is not what it should be; nil: it is
	gone  bool         // it has been removed: the daemon is stopping
	harm
	nat natRules
}

// natRules are warnings about NAT rules of the host.
type natRules struct {
	stale    atomic.Bool // the rules, or pool4, have changed since they were read
	next     time.Time   // they are not read before
	warnings []string
}

// natShare is the part of the time, 1 in so many, that reading NAT rules may take where they change all the time.
const natShare = 50

// harm is what others have done to the guard.
type harm struct {
	repairs uint64    // how often it was repaired
	last    time.Time // the last time
	logged  time.Time // the last time that the log told it
}

func newGuarded(p *Daemon) *guarded {
	c := p.config()
	if !c.Host.Guard {
		return &guarded{p: p}
	}
	o := guard.Options{V6: c.Interfaces.V6.Name, V4: c.Interfaces.V4.Name, ReservePorts: c.Host.ReservePorts, Program: true}
	return &guarded{p: p, g: guard.New(o)}
}

// refuse says why ranges cannot be taken from the host. It is asked about new ones only: those that are there stay,
// whatever the host has done since.
func (g *guarded) refuse(entries []pool4.Entry, force bool) error {
	if g.g == nil || force {
		return nil
	}
	return g.g.Refuse(entries)
}

// own makes sure that no other nat64d guards this network namespace: the two would undo each other's rules.
func (g *guarded) own() (err error) {
	if g.g == nil {
		return nil
	}
	g.lock, err = claim("guard")
	var other *inUse
	switch {
	case !errors.As(err, &other):
		return err
	case !other.nat64d:
		g.p.log.Warn("a program without privileges has the name by which a second guard would be noticed", "pid", other.pid)
		return nil
	}
	return fmt.Errorf("%w has its guard in this network namespace: stop it first, run this one in a namespace of its own, or set host.guard: false", err)
}

// cover puts the guard over what it covers and over more, so that the host is blind before a packet is translated. Of the
// prefixes only bypass stays the host's. With an error nothing has changed.
func (g *guarded) cover(more []pool4.Entry, bound rows, prefixes []pool6.Prefix, bypass []netip.Prefix) error {
	return g.do(func() error {
		err := g.g.Apply(g.p.covered(more, bound, prefixes, bypass))
		if err != nil {
			g.wrong = g.g.Apply(g.p.covered(nil, nil, nil, g.p.near.bypass))
		}
		return err
	})
}

// settle puts the guard over pool4, static rows and pool6 as they are now. An error is kept for the status: what is
// translated has changed already.
func (g *guarded) settle() error {
	g.nat.stale.Store(true)
	return g.do(func() error {
		g.wrong = g.g.Apply(g.p.covered(nil, nil, nil, g.p.near.bypass))
		return g.wrong
	})
}

// precede puts the guard on an interface that has come since, before packets are taken from it. The status tells if it
// cannot, and watch tries again.
func (g *guarded) precede() {
	_ = g.do(func() error {
		if !g.g.Covers() {
			_, g.wrong = g.g.Check()
		}
		return nil
	})
}

// covered returns what the guard has to cover now, and more.
func (p *Daemon) covered(more []pool4.Entry, bound rows, prefixes []pool6.Prefix, bypass []netip.Prefix) guard.Covered {
	static := maps.Clone(p.static)
	maps.Copy(static, bound)
	c := guard.Covered{
		Pool4:  merged(slices.Concat(p.pool.Entries(), mapped(static), more)),
		Pool6:  merge(p.config().Pool6, prefixes),
		Bypass: bypass,
	}
	for e := range static {
		if e.Proto == packet.ICMP {
			c.Echo = append(c.Echo, e)
		}
	}
	return c
}

// mostRepairs is how often in a second the guard is repaired, should two programs fight for its table.
const mostRepairs = 100

// watch repairs the guard whenever somebody else changes its table, until ctx is done.
func (g *guarded) watch(ctx context.Context) error {
	if g.g == nil {
		return nil
	}
	w, err := guard.Watch()
	if err != nil {
		g.p.log.Warn("damage to the guard is noticed late", "every", checkGuardEvery, "error", err)
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
		g.p.log.Warn("damage to the guard is noticed late: notifications of nftables have ended", "every", checkGuardEvery)
	}
	return nil
}

// check puts the guard back if something has happened to it.
func (g *guarded) check() {
	_ = g.do(func() error {
		damage, err := g.g.Check()
		g.wrong = err
		if err != nil {
			g.p.log.Error("the host may answer for pool4 and pool6: the guard is not in place", "error", err)
		}
		if damage == "" {
			return nil
		}
		g.repairs++
		g.last = time.Now()
		if g.last.Sub(g.logged) > time.Second {
			g.logged = g.last
			g.p.log.Warn("somebody changed or deleted the nftables table of the guard: restored", "table", "netdev nat64d", "differed", damage,
				"repairs", g.repairs)
		}
		return nil
	})
}

// readNAT looks for NAT rules of the host that take ports of pool4, if something has changed since the last time, and returns
// warnings about those that are new. Reading a large ruleset takes long, so that the guard is not held meanwhile. One goroutine
// at a time may call it.
func (g *guarded) readNAT() (fresh []string) {
	began := time.Now()
	if g.g == nil || began.Before(g.nat.next) || !g.nat.stale.Swap(false) {
		return nil
	}
	found, err := g.g.Masqueraded(g.p.pool.Entries())
	g.nat.next = time.Now().Add(natShare * time.Since(began))
	if err != nil {
		return []string{"the host's NAT rules cannot be read, and may take ports of pool4: " + err.Error()}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.nat.warnings
	g.nat.warnings = found
	return slices.DeleteFunc(slices.Clone(found), func(w string) bool { return slices.Contains(old, w) })
}

// repaired returns how often the guard was repaired.
func (g *guarded) repaired() (n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.repairs
}

// tellHarm is how long the status tells of a repair.
const tellHarm = time.Hour

// warnings returns what is wrong with the guard, although it is in place.
func (g *guarded) warnings() (ws []string) {
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
func (g *guarded) keep(notes map[int]string) error {
	return g.do(func() error { return g.g.Keep(notes) })
}

// kept returns such notes of the process before this one.
func (g *guarded) kept() (notes map[int]string, err error) {
	err = g.do(func() error { notes, err = g.g.Kept(); return err })
	return notes, err
}

// state returns why the guard is not what it should be, nil if it is.
func (g *guarded) state() (err error) {
	_ = g.do(func() error { err = g.wrong; return nil })
	return err
}

// do runs f with the guard to itself, unless there is none.
func (g *guarded) do(f func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.g == nil || g.gone {
		return nil
	}
	return f()
}

// merge returns the prefixes of both lists, each once.
func merge(a, b []pool6.Prefix) []pool6.Prefix {
	all := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// remove takes the guard away for good.
func (g *guarded) remove() error {
	return g.do(func() error {
		g.gone = true
		if g.lock != nil {
			defer g.lock.Close()
		}
		return g.g.Remove()
	})
}

// settled draws all conclusions of a change of pool4, static rows or pool6 that has been made. Its error is a warning.
func (p *Daemon) settled() error {
	p.gateway.Pool4Changed()
	p.routes.SetProxied(p.proxied())
	p.names.follow(p.basis())
	notify(p.overlaps.look)()
	return p.guard.settle()
}
