package main

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"nat64d/bib"
	"nat64d/config"
	"nat64d/packet"
	"nat64d/pool4"
)

// config returns the configuration in use.
func (p *parts) config() *config.Config { return p.conf.Load() }

// change makes next the configuration in use, packets flowing and sessions going on. What cannot be done is found out
// first, so that an error means that nothing has changed. Ranges and static rows that were added at run time stay, unless
// next takes away what they are part of. The caller holds p.admin.
func (p *parts) change(next *config.Config) error {
	old := p.config()
	if err := p.checkPool6(next); err != nil {
		return err
	}
	gone, come := without(old.Pool4, next.Pool4), without(next.Pool4, old.Pool4)
	if err := p.guard.refuse(come, next.Host.Force); err != nil {
		return err
	}
	added, _, err := p.pool.Add(come)
	if err != nil {
		return err
	}
	if err := p.bind(without(next.Bindings, old.Bindings)); err != nil {
		_, _ = p.pool.Remove(added) // they are there: nobody else changes pool4
		return err
	}
	p.conf.Store(next)
	p.level.Set(levelOf(next.Log))
	p.gateway.Configure(p.gatewayConfig(next))
	p.unbind(without(old.Bindings, next.Bindings))
	p.shrink(gone)
	return p.pool4Changed()
}

// without returns the elements of list that are not in other.
func without[T comparable](list, other []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(e T) bool { return slices.Contains(other, e) })
}

// shrink takes ranges away from pool4, as far as they are there, and ends the bindings that have lost their transport
// address.
func (p *parts) shrink(entries []pool4.Entry) (bindings, sessions int) {
	for _, e := range entries {
		for _, have := range p.pool.Entries() {
			if have.Addr == e.Addr && have.Proto == e.Proto && have.Lo <= e.Hi && e.Lo <= have.Hi {
				part := have.Entry
				part.Lo, part.Hi = max(have.Lo, e.Lo), min(have.Hi, e.Hi)
				_, _ = p.pool.Remove([]pool4.Entry{part}) // it is there: nobody else changes pool4
			}
		}
	}
	return p.gateway.Sessions.Purge(p.gateway.Bindings.Orphan)
}

// bind adds static rows, all of them or none.
func (p *parts) bind(rows []config.Binding) error {
	for i, b := range rows {
		m := b.Mapped
		client := packet.Endpoint6{Addr: b.Client.Addr().As16(), Port: b.Client.Port()}
		if err := p.gateway.Sessions.AddStatic(m.Proto, client, endpoint4(m), ports(m)); err != nil {
			p.unbind(rows[:i])
			return err
		}
		for n := range ports(m) {
			p.static[single(m, n)] = netip.AddrPortFrom(b.Client.Addr(), b.Client.Port()+uint16(n))
		}
	}
	return nil
}

// unbind ends static rows, as far as they are there, and their sessions.
func (p *parts) unbind(rows []config.Binding) {
	var entries []pool4.Entry
	for _, b := range rows {
		for n := range ports(b.Mapped) {
			if _, ok := p.static[single(b.Mapped, n)]; ok {
				entries = append(entries, single(b.Mapped, n))
			}
		}
	}
	p.loosen(entries)
}

// loosen ends the static rows of transport addresses and their sessions.
func (p *parts) loosen(entries []pool4.Entry) (bindings, sessions int) {
	if len(entries) == 0 {
		return 0, 0
	}
	ends := make(map[packet.Proto]map[packet.Endpoint4]bool)
	for _, e := range entries {
		if ends[e.Proto] == nil {
			ends[e.Proto] = make(map[packet.Endpoint4]bool)
		}
		ends[e.Proto][endpoint4(e)] = true
		delete(p.static, e)
	}
	return p.gateway.Sessions.Purge(func(b bib.Binding) bool { return ends[b.Proto][b.Mapped] })
}

// single returns the n-th transport address of a range.
func single(e pool4.Entry, n int) pool4.Entry {
	e.Lo += uint16(n)
	e.Hi = e.Lo
	return e
}

func endpoint4(e pool4.Entry) packet.Endpoint4 {
	return packet.Endpoint4{Addr: e.Addr.As4(), Port: e.Lo}
}

// taken returns the transport addresses that are ours and not the host's: pool4 and static rows, merged.
func (p *parts) taken() []pool4.Entry {
	all := pool4.New([16]byte{}) // it knows how to merge
	_, _, _ = all.Add(p.ranges())
	_, _, _ = all.Add(slices.Collect(maps.Keys(p.static)))
	us := all.Entries()
	es := make([]pool4.Entry, len(us))
	for i := range us {
		es[i] = us[i].Entry
	}
	return es
}

// reload reads the configuration again, as at the start, and makes what differs effective.
func (p *parts) reload() ([]config.Change, error) {
	next, err := p.load()
	if err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	p.admin.Lock()
	defer p.admin.Unlock()
	changes := config.Diff(p.config(), next)
	for _, c := range changes {
		if !c.Live {
			return nil, fmt.Errorf("the configuration stays as it is: %s changed from %s to %s, which needs a restart", c.Name, c.Old, c.New)
		}
	}
	if err := p.change(next); err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	for _, c := range changes {
		p.log.Info("configuration changed", "key", c.Name, "old", c.Old, "new", c.New)
	}
	return changes, nil
}

func levelOf(c config.Log) (l slog.Level) {
	_ = l.UnmarshalText([]byte(c.Level)) // config has checked it
	return l
}
