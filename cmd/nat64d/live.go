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
	come := minus(next.Pool4, old.Pool4)
	if err := p.guard.refuse(come, next.Host.Force); err != nil {
		return err
	}
	added, _, err := p.pool.Add(come)
	if err != nil {
		return err
	}
	if err := p.rebind(expand(old.Bindings), expand(next.Bindings)); err != nil {
		_, _ = p.pool.Remove(added) // they are there: nobody else changes pool4
		return err
	}
	p.conf.Store(next)
	p.level.Set(levelOf(next.Log))
	p.gateway.Configure(p.gatewayConfig(next))
	cutOut(p.pool, minus(old.Pool4, next.Pool4))
	p.gateway.Sessions.Purge(p.gateway.Bindings.Orphan)
	return p.pool4Changed()
}

// minus returns the transport addresses of a that are not in b.
func minus(a, b []pool4.Entry) []pool4.Entry {
	rest := pool4.New([16]byte{}) // it knows how to merge and to cut
	_, _, _ = rest.Add(a)
	cutOut(rest, b)
	return entries(rest)
}

// cutOut takes transport addresses out of a pool, as far as they are there.
func cutOut(pool *pool4.Pool, es []pool4.Entry) {
	type row struct {
		addr  netip.Addr
		proto packet.Proto
	}
	byRow := make(map[row][]pool4.Entry)
	for _, e := range es {
		byRow[row{e.Addr, e.Proto}] = append(byRow[row{e.Addr, e.Proto}], e)
	}
	var gone []pool4.Entry
	for _, have := range entries(pool) {
		for _, e := range byRow[row{have.Addr, have.Proto}] {
			if have.Lo <= e.Hi && e.Lo <= have.Hi {
				gone = append(gone, pool4.Entry{Addr: e.Addr, Proto: e.Proto, Lo: max(have.Lo, e.Lo), Hi: min(have.Hi, e.Hi)})
			}
		}
	}
	_, _ = pool.Remove(gone) // all of it is there: whoever holds admin alone changes pool4
}

// entries returns the ranges of a pool without their usage.
func entries(pool *pool4.Pool) []pool4.Entry {
	us := pool.Entries()
	es := make([]pool4.Entry, len(us))
	for i := range us {
		es[i] = us[i].Entry
	}
	return es
}

// rows are static bindings: single transport addresses to clients.
type rows map[pool4.Entry]netip.AddrPort

func expand(ranges []config.Binding) rows {
	rs := make(rows)
	for _, b := range ranges {
		for n := range uint16(ports(b.Mapped)) {
			e := b.Mapped
			e.Lo += n
			e.Hi = e.Lo
			rs[e] = netip.AddrPortFrom(b.Client.Addr(), b.Client.Port()+n)
		}
	}
	return rs
}

// minus returns the rows of rs that other has not.
func (rs rows) minus(other rows) rows {
	rest := maps.Clone(rs)
	maps.DeleteFunc(rest, func(e pool4.Entry, client netip.AddrPort) bool { return other[e] == client })
	return rest
}

// rebind replaces static rows, all of them or none.
func (p *parts) rebind(old, next rows) error {
	gone := old.minus(next)
	p.unbind(gone)
	if err := p.bind(next.minus(old)); err != nil {
		_ = p.bind(gone) // they fitted before
		return err
	}
	return nil
}

// bind adds static rows, all of them or none.
func (p *parts) bind(rs rows) error {
	if err := p.guard.refuse(slices.Collect(maps.Keys(rs)), p.config().Host.Force); err != nil {
		return err
	}
	done := make(rows)
	for e, client := range rs {
		if err := p.gateway.Sessions.AddStatic(e.Proto, endpoint6(client), endpoint4(e), 1); err != nil {
			p.unbind(done)
			return err
		}
		done[e], p.static[e] = client, client
	}
	return nil
}

// unbind ends static rows, as far as they are there, and their sessions.
func (p *parts) unbind(rs rows) {
	type mapped struct {
		proto packet.Proto
		packet.Endpoint4
	}
	ends := make(map[mapped]bool)
	for e, client := range rs {
		if p.static[e] == client {
			ends[mapped{e.Proto, endpoint4(e)}] = true
			delete(p.static, e)
		}
	}
	if len(ends) > 0 {
		p.gateway.Sessions.Purge(func(b bib.Binding) bool { return ends[mapped{b.Proto, b.Mapped}] })
	}
}

func endpoint4(e pool4.Entry) packet.Endpoint4 {
	return packet.Endpoint4{Addr: e.Addr.As4(), Port: e.Lo}
}

// taken returns the transport addresses that are ours and not the host's: pool4 and static rows, merged.
func (p *parts) taken() []pool4.Entry {
	all := pool4.New([16]byte{})
	_, _, _ = all.Add(entries(p.pool))
	_, _, _ = all.Add(slices.Collect(maps.Keys(p.static)))
	return entries(all)
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
