package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"nat64d/guard"
	"nat64d/pool4"
	"nat64d/pool6"
)

// guarded keeps the guard, ARP answers and the policy for private addresses in step with pool4. Its methods may be
// called by any goroutine.
type guarded struct {
	p     *parts
	mu    sync.Mutex
	g     *guard.Guard // nil: switched off
	lock  net.Listener // held while this process has the guard of its network namespace
	wrong error        // why the guard is not what it should be; nil: it is
	gone  bool         // it has been removed: the daemon is stopping
}

func newGuarded(p *parts) *guarded {
	c := p.config()
	if !c.Host.Guard {
		return &guarded{p: p}
	}
	o := guard.Options{V6: c.Interfaces.V6.Name, V4: c.Interfaces.V4.Name, ReservePorts: c.Host.ReservePorts}
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
func (g *guarded) cover(more []pool4.Entry, prefixes []pool6.Prefix, bypass []netip.Prefix) error {
	return g.do(func() error {
		err := g.g.Apply(merged(append(g.p.taken(), more...)), merge(g.p.config().Pool6, prefixes), bypass)
		if err != nil {
			g.wrong = g.g.Apply(g.p.taken(), g.p.config().Pool6, g.p.near.bypass)
		}
		return err
	})
}

// settle puts the guard over pool4, static rows and pool6 as they are now. An error is kept for the status: what is
// translated has changed already.
func (g *guarded) settle() error {
	return g.do(func() error {
		g.wrong = g.g.Apply(g.p.taken(), g.p.config().Pool6, g.p.near.bypass)
		return g.wrong
	})
}

// check puts the guard back if something has happened to it.
func (g *guarded) check() error {
	return g.do(func() error {
		g.wrong = g.g.Check()
		return g.wrong
	})
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
func (p *parts) settled() error {
	p.gateway.Pool4Changed()
	p.routes.SetProxied(p.proxied())
	p.names.follow(p.basis())
	notify(p.overlaps.look)()
	return p.guard.settle()
}
