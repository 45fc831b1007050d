package main

import (
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
}

func newGuarded(p *parts) *guarded {
	c := p.conf
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

// apply puts the guard over pool4 and pool6 as they are now.
func (g *guarded) apply() error {
	if g.g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.g.Apply(g.p.ranges(), g.p.conf.Pool6)
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
	return g.g.Remove()
}

// ranges returns pool4 without its usage.
func (p *parts) ranges() []pool4.Entry {
	us := p.pool.Entries()
	es := make([]pool4.Entry, len(us))
	for i := range us {
		es[i] = us[i].Entry
	}
	return es
}

// pool4Changed draws all conclusions of a change of pool4.
func (p *parts) pool4Changed() error {
	p.gateway.Pool4Changed()
	p.routes.SetProxied(p.proxied())
	return p.guard.apply()
}
