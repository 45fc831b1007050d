package session_test

import (
	"testing"

	"nat64d/packet"
	"nat64d/session"
)

// Sessions are counted by protocol and state, and when they begin and end.
func TestPopulation(t *testing.T) {
	t.Parallel()
	g := large(t, 10)
	for i := range 3 {
		g.establish(t, i)
	}
	g.from6(packet.TCP, flowOf(7), server, packet.SYN, 0)
	g.from6(packet.UDP, flowOf(7), server, packet.Other, 0)
	n := g.sessions.Population(1)
	for _, c := range []struct {
		proto packet.Proto
		state session.State
		want  int
	}{{packet.TCP, session.Established, 3}, {packet.TCP, session.V6Init, 1}, {packet.TCP, session.Trans, 0}, {packet.UDP, session.Active, 1}, {packet.ICMP, session.Active, 0}} {
		if got := n[c.proto][c.state]; got != c.want {
			t.Errorf("%d sessions of %v in state %v, want %d", got, c.proto, c.state, c.want)
		}
	}
	if of := n.Of(packet.UDP); len(of) != 1 || of[0] != session.Active || len(n.Of(packet.TCP)) != 7 {
		t.Errorf("the states are %v for UDP, %v for TCP", of, n.Of(packet.TCP))
	}
	g.sessions.PurgePrefix(0)
	if begun, ended := g.sessions.Begun(packet.TCP), g.sessions.Ended(session.Purged); begun != 4 || ended != 5 {
		t.Errorf("%d sessions have begun and %d were purged, want 4 and 5", begun, ended)
	}
	if n := *g.sessions.Population(1); n != (session.Population{}) {
		t.Errorf("%v sessions are left", n)
	}
}

func BenchmarkPopulation(b *testing.B) {
	for _, s := range scales {
		b.Run(s.name, func(b *testing.B) {
			g := fill(b, s.n)
			for b.Loop() {
				g.sessions.Population(1)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*s.n), "ns/session")
		})
	}
}
