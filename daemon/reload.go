//go:build linux

package daemon

import (
	"errors"
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
func (p *Daemon) config() *config.Config { return p.conf.Load() }

// change makes next the configuration in use, packets flowing and sessions going on. With an error nothing has changed,
// but that static rows which next moves to other clients have lost their sessions. Ranges and static rows that were
// added at run time stay, unless next takes away what they are part of. The caller holds p.admin.
func (p *Daemon) change(next *config.Config) error {
	old := p.config()
	if err := errors.Join(p.checkPool6(next), checkZones(old, next)); err != nil {
		return err
	}
	come := minus(next.Pool4, old.Pool4)
	if err := p.guard.refuse(come, next.Host.Force); err != nil {
		return err
	}
	if err := p.afford(next); err != nil {
		return err
	}
	near := p.surroundings(next)
	if err := p.guard.cover(come, expand(next.Bindings), next.Pool6, p.near.kept(&near)); err != nil {
		return err
	}
	added, _, err := p.pool.Add(come)
	if err == nil {
		if err = p.rebind(expand(old.Bindings), expand(next.Bindings)); err != nil {
			_, _ = p.pool.Remove(added) // they are there: nobody else changes pool4
		}
	}
	if err != nil {
		_ = p.afford(old)    // gives up what was reserved for next
		_ = p.guard.settle() // back to what it was; the status tells if it cannot be
		return err
	}
	p.conf.Store(next)
	p.near = near
	p.log.level.Set(levelOf(next.Log))
	p.gateway.Configure(p.gatewayConfig(next))
	cutOut(p.pool, minus(old.Pool4, next.Pool4))
	p.purge()
	if err := p.settled(); err != nil {
		p.log.Error("the host may answer for pool4 and pool6: the guard is not what it should be", "error", err)
	}
	return nil
}

// purge ends the bindings whose transport address pool4 has no longer, and their sessions.
func (p *Daemon) purge() (bindings, sessions int) {
	maps.DeleteFunc(p.static, func(e pool4.Entry, _ netip.AddrPort) bool { return !p.pool.Has(e.Addr.As4()) })
	return p.gateway.Sessions.Purge(p.gateway.Bindings.Orphan)
}

// minus returns the transport addresses of a that are not in b.
func minus(a, b []pool4.Entry) []pool4.Entry {
	rest := pool4.New([16]byte{}) // it knows how to merge and to cut
	_, _, _ = rest.Add(a)
	cutOut(rest, b)
	return rest.Entries()
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
	for _, have := range pool.Entries() {
		for _, e := range byRow[row{have.Addr, have.Proto}] {
			if have.Lo <= e.Hi && e.Lo <= have.Hi {
				gone = append(gone, pool4.Entry{Addr: e.Addr, Proto: e.Proto, Lo: max(have.Lo, e.Lo), Hi: min(have.Hi, e.Hi)})
			}
		}
	}
	_, _ = pool.Remove(gone) // all of it is there: whoever holds admin alone changes pool4
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

// on reports whether a row has an address.
func (rs rows) on(a netip.Addr) bool {
	for e := range rs {
		if e.Addr == a {
			return true
		}
	}
	return false
}

// rebind replaces static rows, all of them or none.
func (p *Daemon) rebind(old, next rows) error {
	gone := old.minus(next)
	p.unbind(gone)
	if err := p.bind(next.minus(old), p.config().Host.Force); err != nil {
		_ = p.bind(gone, true) // they fitted before
		return err
	}
	return nil
}

// bind adds static rows, all of them or none; force takes ports that the host needs.
func (p *Daemon) bind(rs rows, force bool) error {
	if err := p.guard.refuse(merged(mapped(rs)), force); err != nil {
		return err
	}
	done := make(rows)
	for e, client := range rs {
		if err := p.gateway.Sessions.AddStatic(e.Proto, endpoint6(client), endpoint4(e)); err != nil {
			p.unbind(done)
			return err
		}
		done[e], p.static[e] = client, client
	}
	return nil
}

// unbind ends static rows, as far as they are there, and their sessions.
func (p *Daemon) unbind(rs rows) {
	type key struct {
		proto packet.Proto
		packet.Endpoint4
	}
	ends := make(map[key]bool)
	for e, client := range rs {
		if p.static[e] == client {
			ends[key{e.Proto, endpoint4(e)}] = true
			delete(p.static, e)
		}
	}
	if len(ends) > 0 {
		p.gateway.Sessions.Purge(func(b bib.Binding) bool { return ends[key{b.Proto, b.Mapped}] })
	}
}

func endpoint4(e pool4.Entry) packet.Endpoint4 {
	return packet.Endpoint4{Addr: e.Addr.As4(), Port: e.Lo}
}

// mapped returns the transport addresses of rows.
func mapped(rs rows) []pool4.Entry { return slices.Collect(maps.Keys(rs)) }

// merged returns the same transport addresses in as few ranges as possible.
func merged(es []pool4.Entry) []pool4.Entry { return minus(es, nil) }

// taken returns the transport addresses that are ours and not the host's: pool4 and static rows.
func (p *Daemon) taken() []pool4.Entry { return merged(append(p.pool.Entries(), mapped(p.static)...)) }

// reload reads the configuration again, as at the start, and makes what differs effective.
func (p *Daemon) reload() ([]config.Change, error) {
	p.admin.Lock() // first: what is persisted meanwhile must not be undone
	defer p.admin.Unlock()
	next, err := p.options.load()
	if err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	changes := config.Diff(p.config(), next)
	for _, c := range changes {
		if !c.Live {
			return nil, fmt.Errorf("the configuration stays as it is: %s changed from %s to %s, which needs a restart", c.Name, c.Old, c.New)
		}
	}
	if err := p.change(next); err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	logChanges(p.log.Logger, changes)
	return changes, nil
}

func logChanges(log *slog.Logger, changes []config.Change) {
	for _, c := range changes {
		log.Info("configuration changed", "key", c.Name, "old", c.Old, "new", c.New)
	}
}

func levelOf(c config.Log) (l slog.Level) {
	_ = l.UnmarshalText([]byte(c.Level)) // config has checked it
	return l
}
