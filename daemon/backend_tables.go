//go:build linux

package daemon

import (
	"context"
	"net/netip"
	"time"

	"nat64d/bib"
	"nat64d/ops/control"
	"nat64d/packet"
	"nat64d/session"
)

// page is the number of rows that a listing copies at a time, so that it does not delay packets.
const page = 1024

// Bindings implements control.Backend.
func (b *backend) Bindings(ctx context.Context, f control.Filter, yield func(control.Binding) error) error {
	return pages(ctx, b.giveWay, b.gateway.Bindings.List, func(row *bib.Binding) error {
		x := control.Binding{
			Protocol: row.Proto.String(), Client: addrPort6(row.Client), Mapped: addrPort4(row.Mapped),
			Static: row.Static, Sessions: row.Sessions,
		}
		if !f.MatchBinding(&x) {
			return nil
		}
		return yield(x)
	})
}

// Sessions implements control.Backend.
func (b *backend) Sessions(ctx context.Context, f control.Filter, yield func(control.Session) error) error {
	list := func(cursor uint32, buf []session.Session) (int, uint32) {
		return b.gateway.Sessions.List(cursor, buf, b.gateway.Now())
	}
	each := func(row *session.Session) error {
		s := b.session(row)
		if !f.MatchSession(&s) {
			return nil
		}
		return yield(s)
	}
	if err := pages(ctx, b.giveWay, list, each); err != nil {
		return err
	}
	for _, row := range b.gateway.StoredSYNs() {
		if err := each(&row); err != nil {
			return err
		}
	}
	return nil
}

// CountSessions implements control.Backend.
func (b *backend) CountSessions(ctx context.Context, f control.Filter) (c control.SessionCount, err error) {
	if !f.ByState() {
		err = b.Sessions(ctx, f, func(s control.Session) error {
			c.Add(s.Protocol, s.State, 1)
			return nil
		})
		return c, err
	}
	all := b.gateway.Sessions.Population(b.gateway.Now())
	all[packet.TCP][session.V4Init] += b.gateway.SYNs.Len()
	for _, proto := range protocols {
		for _, state := range all.Of(proto) {
			s := control.Session{Protocol: proto.String()}
			if proto == packet.TCP {
				s.State = state.String()
			}
			if f.MatchSession(&s) {
				c.Add(s.Protocol, s.State, all[proto][state])
			}
		}
	}
	return c, nil
}

// RemoveSessions implements control.Backend. Stored SYNs stay: they end within seconds.
func (b *backend) RemoveSessions(f control.Filter) (r control.SessionResult, err error) {
	r.Sessions = b.gateway.Sessions.PurgeSessions(b.gateway.Now(), func(row *session.Session) bool {
		s := b.session(row)
		return f.MatchSession(&s)
	})
	return r, nil
}

func (b *backend) session(row *session.Session) control.Session {
	prefix := b.gateway.Prefix(row.Prefix)
	s := control.Session{
		Protocol: row.Proto.String(), Mapped: addrPort4(row.Mapped), Peer: addrPort4(row.Remote),
		Peer6:   netip.AddrPortFrom(netip.AddrFrom16(prefix.Embed(row.Remote.Addr)), row.Remote.Port),
		Expires: control.Seconds(row.Remaining), Idle: control.Seconds(row.Idle),
	}
	if row.Client != (packet.Endpoint6{}) { // otherwise it is a stored SYN
		s.Client = addrPort6(row.Client)
	}
	if row.Proto == packet.TCP {
		s.State = row.State.String()
	}
	return s
}

// pages copies a table page by page and passes on the rows between the pages, with a low priority.
func pages[T any](ctx context.Context, pause pause, list func(cursor uint32, buf []T) (int, uint32), each func(*T) error) error {
	return unhurried(func() error { return eachPage(ctx, pause, list, each) })
}

func eachPage[T any](ctx context.Context, pause pause, list func(cursor uint32, buf []T) (int, uint32), each func(*T) error) error {
	rows := make([]T, page)
	for cursor := uint32(0); ; {
		start := time.Now()
		var n int
		n, cursor = list(cursor, rows)
		for i := range rows[:n] {
			if err := each(&rows[i]); err != nil {
				return err
			}
		}
		if cursor == 0 {
			return nil
		}
		pause(ctx, start)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func addrPort6(e packet.Endpoint6) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.Addr), e.Port)
}

func endpoint6(a netip.AddrPort) packet.Endpoint6 {
	return packet.Endpoint6{Addr: a.Addr().As16(), Port: a.Port()}
}

func addrPort4(e packet.Endpoint4) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port)
}
