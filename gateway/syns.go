package gateway

import (
	"time"

	"nat64d/packet"
	"nat64d/session"
)

// sweepSYNs passes the stored SYNs whose lifetime is over to the worker that answers them, and reports whether there may be more. A
// SYN whose connection has been opened by a second SYN needs no answer.
func (g *Gateway) sweepSYNs(now time.Duration) (more bool) {
	all := g.SYNs.Expire(now, sweepBudget)
	for _, s := range all {
		known := false
		g.epochs.Read(func() { known = g.Sessions.Known(session.Flow{Proto: packet.TCP, Mapped: s.Dst, Remote: s.Src}) })
		if !known {
			g.mail.syns.put(s)
		}
	}
	return len(all) == sweepBudget
}

// StoredSYNs returns the stored SYNs in the terms of RFC 6146 section 3.5.2.2: as sessions in state V4_INIT without a
// client.
func (g *Gateway) StoredSYNs() (all []session.Session) {
	for _, s := range g.SYNs.List(g.clock()) {
		all = append(all, session.Session{
			Proto: packet.TCP, Mapped: s.Dst, Remote: s.Src, State: session.V4Init, Remaining: s.Remaining,
		})
	}
	return all
}
