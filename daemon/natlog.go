package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"nat64d/config"
	"nat64d/packet"
	"nat64d/session"
)

// natKinds are the events of the tables that nat_log.events asks for.
var natKinds = map[config.NATEvents]session.Kinds{
	config.NATEventsBindings: session.KindsOf(session.BindingMade, session.BindingEnded),
	config.NATEventsSessions: session.KindsOf(session.BindingMade, session.BindingEnded, session.SessionMade, session.SessionEnded),
	config.NATEventsBlocks:   session.KindsOf(session.BlockMade, session.BlockEnded),
}

// observe has the events that the configuration asks for written to the log.
func (d *Daemon) observe(c *config.Config) {
	d.log.observer = d.gateway.Sessions.Observe(natKinds[c.NATEvents], func(batch []session.Event, lost uint64) {
		d.log.events(batch, lost, d.gateway.TimeOf(0))
	})
}

// events writes who had which IPv4 transport address and when (RFC 6888 section 4), and how many events are missing. The
// tables count their time from start.
func (l *logs) events(batch []session.Event, lost uint64, start time.Time) {
	if lost > 0 {
		l.nat.Warn("events of nat_log were lost: more happened than the log could take", "events", lost)
	}
	for i := range batch {
		e := &batch[i]
		r := slog.NewRecord(start.Add(e.At.Duration()), slog.LevelInfo, e.Kind.String(), 0)
		r.AddAttrs(slog.String("protocol", e.Proto.String()))
		if e.Kind == session.BlockMade || e.Kind == session.BlockEnded {
			r.AddAttrs(slog.Any("client", netip.AddrFrom16(e.Client.Addr)), slog.Any("mapped", netip.AddrFrom4(e.Mapped.Addr)),
				slog.String("ports", fmt.Sprintf("%d-%d", e.Mapped.Port, e.LastPort)))
		} else {
			r.AddAttrs(endpoint("client", addrPort6(e.Client))...)
			r.AddAttrs(endpoint("mapped", addrPort4(e.Mapped))...)
			if e.Remote != (packet.Endpoint4{}) {
				r.AddAttrs(endpoint("peer", addrPort4(e.Remote))...)
			}
		}
		_ = l.nat.Handler().Handle(context.Background(), r) // it writes into a queue
	}
}

// endpoint returns a transport address as two values, so that a reader of the log need not take it apart.
func endpoint(name string, a netip.AddrPort) []slog.Attr {
	return []slog.Attr{slog.Any(name, a.Addr()), slog.Int(name+"_port", int(a.Port()))}
}

// natEventsLost returns how many events of nat_log were lost on their way to the log.
func (d *Daemon) natEventsLost() uint64 {
	return d.gateway.Sessions.Lost(natKinds[config.NATEventsSessions] | natKinds[config.NATEventsBlocks])
}
