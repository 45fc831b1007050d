package session_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/table"
)

// through6 and through4 pass a packet through the tables. They try it first: the trial has the same result.
func (g *gateway) through6(f *session.Flow, p *session.Packet) drop.Reason {
	if g.tries == nil {
		return g.sessions.From6(f, p)
	}
	tried, would, does := *f, session.Outcome{}, session.Outcome{}
	p.Outcome = &would
	want := g.sessions.Try6(&tried, p, g.sessions.Trial())
	p.Outcome = &does
	r := g.sessions.From6(f, p)
	g.compareTrial(&tried, f, want, r)
	g.compareOutcomes(would, does)
	return r
}

func (g *gateway) through4(f *session.Flow, p *session.Packet) drop.Reason {
	if g.tries == nil {
		return g.sessions.From4(f, p)
	}
	tried, would, does := *f, session.Outcome{}, session.Outcome{}
	p.Outcome = &would
	want := g.sessions.Try4(&tried, p, g.sessions.Trial())
	p.Outcome = &does
	r := g.sessions.From4(f, p)
	g.compareTrial(&tried, f, want, r)
	g.compareOutcomes(would, does)
	return r
}

// compareTrial compares the flow and the reason of a trial with those of the packet. Only a session that the packet has made has no
// name in the trial.
func (g *gateway) compareTrial(tried, f *session.Flow, want, r drop.Reason) {
	g.tries.Helper()
	same := tried.Client == f.Client && tried.Mapped == f.Mapped && tried.Remote == f.Remote && tried.Prefix == f.Prefix
	switch {
	case want != r, r == drop.None && !same, tried.Slot() != 0 && *tried != *f:
		g.tries.Fatalf("a trial had the result %+v, %v; the packet has %+v, %v", *tried, want, *f, r)
	}
}

func (g *gateway) compareOutcomes(would, does session.Outcome) {
	g.tries.Helper()
	if would != does {
		g.tries.Fatalf("a trial had the outcome %+v, the packet %+v", would, does)
	}
}

// snapshot describes all that the tables contain.
func (g *gateway) snapshot(now table.Time) string {
	held, blocks := make([]pool4.HeldPort, 1000), make([]pool4.Block, 1000)
	n, _ := g.pool.HeldPorts(0, held, now.Duration())
	k, _ := g.pool.Blocks(0, blocks)
	sessions, bindings := g.sizes()
	return fmt.Sprint(g.list(now), g.listBindings(), g.pool.Usage(), held[:n], blocks[:k], g.syns.List(now.Duration()),
		sessions, bindings, g.sessions.InboundLen(), g.sessions.Evicted(), g.sessions.Reclaimed(), g.pool.RestedShort())
}

// TestTrialsChangeNothing tries packets in a small gateway whose limits are reached all the time, and sends some of them. A trial
// names the port that the packet gets.
func TestTrialsChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := defaults
		c.Reclaim, c.Timeouts.UDPDNS = true, 10*time.Second
		c.ClientPrefixLen = 64
		c.PortBlockSize = rapid.SampledFrom([]int{0, 0, 16}).Draw(rt, "port block")
		c.PortRest = rapid.SampledFrom([]time.Duration{0, 2 * time.Second}).Draw(rt, "rest")
		c.PortHoldDown = rapid.SampledFrom([]time.Duration{0, 120 * time.Second}).Draw(rt, "hold-down")
		c.MaxHeldPorts = rapid.SampledFrom([]int{0, 3}).Draw(rt, "held ports")
		c.MaxPerClient = rapid.SampledFrom([]int{0, 6}).Draw(rt, "sessions of a client")
		c.MaxBindingsPerClient = rapid.SampledFrom([]int{0, 4}).Draw(rt, "bindings of a client")
		c.FairShare = rapid.Bool().Draw(rt, "fair share")
		c.MaxPerBinding = rapid.SampledFrom([]int{0, 3}).Draw(rt, "sessions of a binding")
		c.MaxInbound = rapid.SampledFrom([]int{0, 3}).Draw(rt, "inbound")
		c.AddressDependent = rapid.Bool().Draw(rt, "address-dependent")
		c.CheckSequence = rapid.Bool().Draw(rt, "sequence")
		g := newGateway(t, 1, 30, c, "192.0.2.1-192.0.2.2", rapid.SampledFrom([]string{"1020-1027", "1024-1055", "2000-2001", "2000"}).Draw(rt, "ports"))
		g.tries = rt
		now := table.Time(0)
		rt.Repeat(map[string]func(*rapid.T){
			"packets": func(rt *rapid.T) {
				for range rapid.IntRange(1, 6).Draw(rt, "packets") {
					f, p, from6 := drawPacket(rt, g)
					p.Now = now
					g.tryAndPass(rt, f, p, from6)
				}
			},
			"time": func(rt *rapid.T) {
				now += table.TimeOf(rapid.SampledFrom([]time.Duration{table.Tick, time.Second, 3 * time.Second, 130 * time.Second}).Draw(rt, "wait"))
			},
			"sweep": func(*rapid.T) {
				g.sweep(now)
				for g.pool.Expire(now.Duration(), 100) {
				}
				g.sessions.Deliver()
			},
		})
	})
}

// tryAndPass tries a packet, compares the tables with those before, and lets the packet pass.
func (g *gateway) tryAndPass(rt *rapid.T, f session.Flow, p session.Packet, from6 bool) {
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	before, tried := g.snapshot(p.Now), f
	if from6 {
		g.sessions.Try6(&tried, &p, g.sessions.Trial())
	} else {
		g.sessions.Try4(&tried, &p, g.sessions.Trial())
	}
	if after := g.snapshot(p.Now); after != before {
		rt.Fatalf("a trial of %+v has changed\n%s\nto\n%s", f, before, after)
	}
	if from6 {
		g.through6(&f, &p)
	} else if g.through4(&f, &p) == drop.StoredSYN {
		g.syns.Add(f.Remote, f.Mapped, []byte("SYN"), p.Now.Duration())
	}
}

// drawPacket draws a packet, often one of a flow that exists.
func drawPacket(t *rapid.T, g *gateway) (f session.Flow, p session.Packet, from6 bool) {
	f.Proto = packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto"))
	addr := rapid.SampledFrom([]string{"2001:db8::1", "2001:db8::2", "2001:db8:1::1", "2001:db8:2::1"}).Draw(t, "client")
	f.Client = endpoint6(addr, rapid.Uint16Range(1021, 1029).Draw(t, "port"))
	remote := rapid.SampledFrom([]string{"198.51.100.1", "198.51.100.2"}).Draw(t, "remote")
	f.Remote = endpoint4(remote, rapid.SampledFrom([]uint16{53, 80}).Draw(t, "remote port"))
	from6 = rapid.IntRange(0, 2).Draw(t, "from IPv6") > 0
	if bound := g.listBindings(); !from6 && len(bound) > 0 {
		b := bound[rapid.IntRange(0, len(bound)-1).Draw(t, "binding")]
		f.Proto, f.Mapped = b.Proto, b.Mapped
	} else if !from6 {
		f.Mapped = endpoint4("192.0.2.1", rapid.Uint16Range(1019, 1029).Draw(t, "mapped"))
	}
	p.Event = rapid.SampledFrom([]packet.TCPEvent{packet.SYN, packet.SYN, packet.RST, packet.FIN, packet.Other}).Draw(t, "event")
	if f.Proto == packet.TCP && rapid.Bool().Draw(t, "sequence numbers") {
		p.Segment = &session.Segment{Event: p.Event, Seq: rapid.Uint32Range(0, 1e6).Draw(t, "seq"), Window: 1000, HasAck: p.Event != packet.SYN}
	}
	return f, p, from6
}

// BenchmarkTrial tries a packet that makes a session and a binding.
func BenchmarkTrial(b *testing.B) {
	g := fill(b, 100_000)
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	for b.Loop() {
		f := session.Flow{Proto: packet.TCP, Client: endpoint6("2001:db8:9::1", 5000), Remote: server}
		if r := g.sessions.Try6(&f, &session.Packet{Event: packet.SYN, Now: 1}, g.sessions.Trial()); r != drop.None {
			b.Fatal(r)
		}
	}
}
