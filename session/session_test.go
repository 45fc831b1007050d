package session_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
)

// defaults are the timeouts of RFC 6146 section 4, and our defaults except hold-down.
var defaults = session.Config{
	Timeouts: session.Timeouts{
		UDP:            300 * time.Second,
		ICMP:           60 * time.Second,
		TCPEstablished: 7200 * time.Second,
		TCPOpening:     240 * time.Second,
		TCPTransitory:  240 * time.Second,
	},
	AllowInboundTCP: true,
	InboundRefresh:  true,
	RSTDuringFIN:    true,

	StoreSYNs:  true,
	HashFields: pool4.AllFields,
}

// synLimits bound the stored SYNs of newGateway.
var synLimits = synstore.Limits{Total: 100, PerSource: 10, Lifetime: 6 * time.Second}

// gateway is the tables of a gateway with one worker, number 0.
type gateway struct {
	pool     *pool4.Pool
	epochs   *table.Epochs
	bindings *bib.Table
	sessions *session.Table
	syns     synstore.Store
	tries    rapid.TB // fails if a trial of a packet has another result than the packet; nil: no packet is tried
}

func newGateway(t testing.TB, workers, limit int, c session.Config, ranges ...string) *gateway {
	t.Helper()
	g := &gateway{pool: pool4.New([16]byte{1}), epochs: table.NewEpochs(workers)}
	g.bindings = bib.New(g.pool, g.epochs, limit, [16]byte{2}, keepIn)
	g.syns.Configure(synLimits)
	g.sessions = session.New(g.bindings, g.epochs, limit, &g.syns, c, keepIn)
	for i := 0; i+1 < len(ranges); i += 2 {
		entries, err := pool4.ParseRange(ranges[i], ranges[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.pool.Add(entries); err != nil {
			t.Fatal(err)
		}
	}
	if workers == 1 && limit < 1000 {
		g.tries = t
	}
	return g
}

// from6 is a packet from IPv6 in a batch of its own.
func (g *gateway) from6(p packet.Proto, src packet.Endpoint6, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (packet.Endpoint4, drop.Reason) {
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	return g.send6(p, &src, dst, 0, ev, now)
}

// from4 is a packet from IPv4 in a batch of its own, kept if the tables ask for that.
func (g *gateway) from4(p packet.Proto, src, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (packet.Endpoint6, drop.Reason) {
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	client, _, r := g.send4(p, src, dst, ev, now)
	if r == drop.StoredSYN {
		r = g.syns.Add(src, dst, []byte("SYN"), now.Duration())
	}
	return client, r
}

// send6 and send4 are packets in a batch of the caller's, hinted6 and hinted4 such with a hint, tcp6 and tcp4 segments.
func (g *gateway) send6(p packet.Proto, src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, ev packet.TCPEvent, now table.Time) (packet.Endpoint4, drop.Reason) {
	return g.hinted6(nil, p, src, dst, pref, ev, now)
}

func (g *gateway) hinted6(h *session.Hint, p packet.Proto, src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, ev packet.TCPEvent, now table.Time) (packet.Endpoint4, drop.Reason) {
	f := session.Flow{Proto: p, Client: *src, Remote: dst, Prefix: pref}
	r := g.through6(&f, &session.Packet{Event: ev, Now: now, Hint: h})
	return f.Mapped, r
}

func (g *gateway) tcp6(src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, s *session.Segment, now table.Time) (packet.Endpoint4, drop.Reason) {
	f := session.Flow{Proto: packet.TCP, Client: *src, Remote: dst, Prefix: pref}
	r := g.through6(&f, &session.Packet{Event: s.Event, Now: now, Segment: s})
	return f.Mapped, r
}

func (g *gateway) send4(p packet.Proto, src, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (packet.Endpoint6, uint8, drop.Reason) {
	return g.hinted4(nil, p, src, dst, ev, now)
}

func (g *gateway) hinted4(h *session.Hint, p packet.Proto, src, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (packet.Endpoint6, uint8, drop.Reason) {
	f := session.Flow{Proto: p, Mapped: dst, Remote: src}
	r := g.through4(&f, &session.Packet{Event: ev, Now: now, Hint: h})
	return f.Client, f.Prefix, r
}

func (g *gateway) tcp4(src, dst packet.Endpoint4, s *session.Segment, now table.Time) (packet.Endpoint6, uint8, drop.Reason) {
	f := session.Flow{Proto: packet.TCP, Mapped: dst, Remote: src}
	r := g.through4(&f, &session.Packet{Event: s.Event, Now: now, Segment: s})
	return f.Client, f.Prefix, r
}

// sweepSYNs returns the SYNs whose lifetime is over and that have not become a connection.
func (g *gateway) sweepSYNs(now table.Time) (all []synstore.SYN) {
	g.epochs.Read(func() {
		for _, s := range g.syns.Expire(now.Duration(), 1000) {
			if !g.sessions.Known(session.Flow{Proto: packet.TCP, Mapped: s.Dst, Remote: s.Src}) {
				all = append(all, s)
			}
		}
	})
	return all
}

// sweep sweeps once through everything, at one go, and returns the number of probes.
func (g *gateway) sweep(now table.Time) (probes int) {
	for g.sessions.Sweep(now, 1<<20, func(session.Probe) { probes++ }) {
	}
	return probes
}

// list returns all sessions that live.
func (g *gateway) list(now table.Time) (all []session.Session) {
	buf := make([]session.Session, 100)
	for cursor := uint32(0); ; {
		var n int
		n, cursor = g.sessions.List(cursor, buf, now)
		all = append(all, buf[:n]...)
		if cursor == 0 {
			return all
		}
	}
}

// listBindings returns all bindings.
func (g *gateway) listBindings() (all []bib.Binding) {
	buf := make([]bib.Binding, 100)
	for cursor := uint32(0); ; {
		var n int
		n, cursor = g.bindings.List(cursor, buf)
		all = append(all, buf[:n]...)
		if cursor == 0 {
			return all
		}
	}
}

func (g *gateway) sizes() (sessions, bindings int) {
	for p := range packet.Protos {
		sessions += g.sessions.Len(p)
		bindings += g.bindings.Len(p)
	}
	return sessions, bindings
}

func endpoint6(addr string, port uint16) packet.Endpoint6 {
	return packet.Endpoint6{Addr: netip.MustParseAddr(addr).As16(), Port: port}
}

func endpoint4(addr string, port uint16) packet.Endpoint4 {
	return packet.Endpoint4{Addr: netip.MustParseAddr(addr).As4(), Port: port}
}

func seconds(s float64) table.Time {
	return table.TimeOf(time.Duration(s * float64(time.Second)))
}
