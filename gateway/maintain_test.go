package gateway

import (
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// idleGateway is a gateway whose clock stands still and can be set.
func idleGateway(t *testing.T, max int) (g *Gateway, m *maintenance, now *time.Duration) {
	now = new(time.Duration)
	g = stillWith(t, func(o *Options) { o.Clock, o.Max = func() time.Duration { return *now }, max })
	return g, &maintenance{Gateway: g, slots: sweepSlots}, now
}

// Without traffic the maintenance rests until the first session expires, and then ends it at once.
func TestMaintenanceRestsUntilSessionExpires(t *testing.T) {
	t.Parallel()
	g, m, now := idleGateway(t, 1<<12)
	ended := time.Duration(0)
	g.Sessions.Observe(session.KindsOf(session.SessionEnded), func([]session.Event, uint64) { ended = *now })
	g.workers[packet.V6].batch(clients(3))
	for ended == 0 && *now < time.Hour {
		m.run(t.Context(), *now)
		g.Sessions.Deliver()
		*now += m.pause(*now)
	}
	const lifetime = time.Minute
	if ended < lifetime || ended > lifetime+sweepEvery+table.Tick {
		t.Errorf("sessions of %v ended at %v", lifetime, ended)
	}
	if n, _ := g.useOfSessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// A run sweeps a bounded number of slots, and the sessions that expire together are freed in as many runs as their slots need.
func TestSweepKeepsBudgetOfSlots(t *testing.T) {
	t.Parallel()
	const n, budget = 15_000, sweepBudget
	g, m, now := idleGateway(t, n)
	m.slots = budget
	g.epochs.Enter(0)
	for i := range n {
		f := session.Flow{Proto: packet.UDP, Remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, byte(i >> 8), byte(i)}, Port: 53}}
		if r := g.Sessions.From6(&f, &session.Packet{}); r != drop.None {
			t.Fatal(r)
		}
	}
	g.epochs.Leave(0)
	*now = 2 * time.Minute // all have expired
	before, _ := g.useOfSessions()
	runs := 0
	for ; before > 0 && runs < n; runs++ {
		m.run(t.Context(), *now)
		if pause := m.pause(*now); m.passing && pause != sweepEvery {
			t.Fatalf("in the middle of a pass the maintenance pauses %v", pause)
		}
		after, _ := g.useOfSessions()
		if freed := before - after; freed > budget {
			t.Fatalf("run %d freed %d sessions, want %d at most", runs, freed, budget)
		}
		before = after
	}
	if most := g.Sessions.Slots()/budget + 1; runs > most {
		t.Errorf("%d runs, want %d at most", runs, most)
	}
}

// An event after a quiet time is delivered without a poll, and events in quick succession wake up the deliverer once.
func TestEventsWakeDeliverer(t *testing.T) {
	t.Parallel()
	g := still(t)
	delivered := make(chan int, 16)
	g.Sessions.Observe(session.KindsOf(session.SessionMade), func(batch []session.Event, _ uint64) { delivered <- len(batch) })
	stop := g.deliver()
	defer stop()
	for i := range 3 {
		g.workers[packet.V6].batch(frames([][]byte{udp6(uint16(i + 1))}))
		if n := <-delivered; n != 1 {
			t.Fatalf("%d events", n)
		}
	}
}
