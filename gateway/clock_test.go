package gateway

import (
	"testing"
	"time"

	"nat64d/packet"
)

// Sessions live by the injected clock, which is monotonic in service. Even if it jumps, packets are translated, sessions keep
// their transport addresses while they live, and all end in time.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const n, lifetime = 20, time.Minute
	g, m, now := idleGateway(t, 1<<12)
	w := g.workers[packet.V6]
	translate := func(when string, sessions int) {
		t.Helper()
		before := g.translated()
		w.batch(clients(n))
		if got := g.translated() - before; got != n {
			t.Errorf("%s: %d of %d packets were translated", when, got, n)
		}
		if got, _ := g.useOfSessions(); got != sessions {
			t.Errorf("%s: %d sessions, want %d", when, got, sessions)
		}
	}
	sweep := func() {
		for until := *now + 5*time.Second; *now < until; *now += m.pause(*now) {
			m.run(t.Context(), *now)
		}
	}
	*now = 2 * time.Hour
	translate("at first", n)
	*now += lifetime / 2
	translate("within the lifetime", n)
	*now += time.Hour
	sweep()
	if got, _ := g.useOfSessions(); got != 0 {
		t.Errorf("an hour later: %d sessions of %v are left", got, lifetime)
	}
	translate("an hour later", n)
	*now -= time.Hour
	sweep()
	translate("an hour back", n)
	*now += time.Hour + 2*lifetime
	sweep()
	if got, _ := g.useOfSessions(); got != 0 {
		t.Errorf("in the end: %d sessions are left", got)
	}
}
