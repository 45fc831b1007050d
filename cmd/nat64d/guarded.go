package main

import (
	"errors"
	"net"
	"sync"

	"nat64d/guard"
	"nat64d/pool4"
)

// guarded keeps the guard, ARP answers and the policy for private addresses in step with pool4. Its methods may be
// called by any goroutine.
type guarded struct {
	p  *parts
	mu sync.Mutex
	g  *guard.Guard // nil: switched off
	// judge says what harms the host. It is asked about new ranges only: those that are there stay, whatever the host
	// has done since.
	judge *guard.Guard
	lock  net.Listener // held while this process has the guard of its network namespace
}

func newGuarded(p *parts) *guarded {
	c := p.config()
	if !c.Host.Guard {
		return &guarded{p: p}
	}
	o := guard.Options{V6: c.Interfaces.V6.Name, V4: c.Interfaces.V4.Name, ReservePorts: c.Host.ReservePorts}
	judge := guard.New(o)
	o.Force = true
	return &guarded{p: p, g: guard.New(o), judge: judge}
}

// refuse says why ranges cannot be taken from the host.
func (g *guarded) refuse(entries []pool4.Entry, force bool) error {
	if g.g == nil || force {
		return nil
	}
	return g.judge.Refuse(entries)
}

// ownName is an abstract socket, which exists once in a network namespace and goes with its process: like the guard's
// table, of which there is one.
const ownName = "@nat64d/guard"

// own makes sure that no other nat64d guards this network namespace: the two would undo each other's rules.
func (g *guarded) own() (err error) {
	if g.g == nil {
		return nil
	}
	if g.lock, err = net.Listen("unix", ownName); err != nil {
		return errors.New("another nat64d has its guard in this network namespace: stop it first, run this one in a namespace of its own, or set host.guard: false")
	}
	return nil
}

// apply puts the guard over pool4 and pool6 as they are now.
func (g *guarded) apply() error {
	if g.g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.g.Apply(g.p.taken(), g.p.config().Pool6)
}

func (g *guarded) check() error {
	if g.g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.g.Check()
}

func (g *guarded) remove() error {
	if g.g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.lock.Close()
	return g.g.Remove()
}

// pool4Changed draws all conclusions of a change of pool4.
func (p *parts) pool4Changed() error {
	p.gateway.Pool4Changed()
	p.routes.SetProxied(p.proxied())
	return p.guard.apply()
}
