//go:build linux

package daemon

import (
	"maps"
	"net/netip"
	"slices"

	"nat64d/bib"
	"nat64d/config"
	"nat64d/packet"
	"nat64d/pool4"
)

// rows are static bindings from single transport addresses to clients.
type rows map[pool4.Entry]netip.AddrPort

func expand(ranges []config.Binding) rows {
	rs := make(rows)
	for _, b := range ranges {
		for n := range uint16(portCount(b.Mapped)) {
			e := b.Mapped
			e.Lo += n
			e.Hi = e.Lo
			rs[e] = netip.AddrPortFrom(b.Client.Addr(), b.Client.Port()+n)
		}
	}
	return rs
}

// minus returns the rows of rs that are not in other.
func (rs rows) minus(other rows) rows {
	rest := maps.Clone(rs)
	maps.DeleteFunc(rest, func(e pool4.Entry, client netip.AddrPort) bool { return other[e] == client })
	return rest
}

// on reports whether a row has the address a.
func (rs rows) on(a netip.Addr) bool {
	for e := range rs {
		if e.Addr == a {
			return true
		}
	}
	return false
}

// mapped returns the transport addresses of rows.
func mapped(rs rows) []pool4.Entry { return slices.Collect(maps.Keys(rs)) }

func endpoint4(e pool4.Entry) packet.Endpoint4 {
	return packet.Endpoint4{Addr: e.Addr.As4(), Port: e.Lo}
}

// rebindLocked replaces static rows, all or none. The caller holds d.admin.
func (d *Daemon) rebindLocked(old, next rows) error {
	gone := old.minus(next)
	d.unbindLocked(gone)
	if err := d.bindLocked(next.minus(old), d.config().Host.Force); err != nil {
		_ = d.bindLocked(gone, true) // they were valid before
		return err
	}
	return nil
}

// bindLocked adds static rows, all or none; force permits ports that the host needs. The caller holds d.admin, unless
// nothing runs yet.
func (d *Daemon) bindLocked(rs rows, force bool) error {
	if err := d.guard.refuse(merged(mapped(rs)), force); err != nil {
		return err
	}
	done := make(rows)
	for e, client := range rs {
		if err := d.gateway.Sessions.AddStatic(e.Proto, endpoint6(client), endpoint4(e)); err != nil {
			d.unbindLocked(done)
			return err
		}
		done[e], d.admin.static[e] = client, client
	}
	return nil
}

// unbindLocked removes those static rows that exist, and their sessions. The caller holds d.admin, unless nothing runs
// yet.
func (d *Daemon) unbindLocked(rs rows) {
	type key struct {
		proto packet.Proto
		packet.Endpoint4
	}
	ends := make(map[key]bool)
	for e, client := range rs {
		if d.admin.static[e] == client {
			ends[key{e.Proto, endpoint4(e)}] = true
			delete(d.admin.static, e)
		}
	}
	if len(ends) > 0 {
		d.gateway.Sessions.Purge(func(b bib.Binding) bool { return ends[key{b.Proto, b.Mapped}] })
	}
}
