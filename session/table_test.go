package session_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/table"
)

func TestStateNames(t *testing.T) {
	t.Parallel()
	want := []string{"CLOSED", "ACTIVE", "V4_INIT", "V6_INIT", "ESTABLISHED", "V4_FIN_RCV", "V6_FIN_RCV", "V4_FIN_V6_FIN_RCV", "TRANS"}
	for i, name := range want {
		if got := session.State(i).String(); got != name {
			t.Errorf("state %d is called %s, want %s", i, got, name)
		}
	}
}

// TestReconnectStartsOver reuses a 5-tuple in the two states in which the old connection is over.
func TestReconnectStartsOver(t *testing.T) {
	t.Parallel()
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80)
	for name, ending := range map[string][2]packet.TCPEvent{
		"both FIN": {packet.FIN, packet.FIN},
		"TRANS":    {packet.RST, packet.RST},
	} {
		g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
		at, _ := g.from6(packet.TCP, client, server, packet.SYN, 0)
		g.from4(packet.TCP, server, at, packet.SYN, 1)
		g.from6(packet.TCP, client, server, ending[0], 2)
		g.from4(packet.TCP, server, at, ending[1], 3)
		now := seconds(239)
		if again, r := g.from6(packet.TCP, client, server, packet.SYN, now); r != drop.None || again != at {
			t.Fatalf("%s: the new SYN leaves from %v, %v, want %v", name, again, r, at)
		}
		if s := g.list(now)[0]; s.State != session.V6Init || s.Remaining != 240*time.Second {
			t.Errorf("%s: after a new SYN in state %v with %v left", name, s.State, s.Remaining)
		}
	}
}

// TestLastPrefixWins: the prefix number belongs to the session, not to its key.
func TestLastPrefixWins(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 53)
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	for _, pref := range []uint8{3, 255, 0, 7} {
		at, _ := g.send6(packet.UDP, &client, server, pref, packet.Other, 5)
		if _, got, _ := g.send4(packet.UDP, server, at, packet.Other, 5); got != pref {
			t.Errorf("the answer comes with prefix %d, want %d", got, pref)
		}
	}
	at, _ := g.bindings.Lookup6(packet.UDP, client)
	if _, got, r := g.send4(packet.UDP, endpoint4("198.51.100.2", 53), at, packet.Other, 5); got != 0 || r != drop.None {
		t.Errorf("a stranger's packet comes with prefix %d, %v", got, r)
	}
}

// TestExpiredSessionIsAbsent: a packet after the end of a lifetime meets no session, whether or not a sweep came by.
func TestExpiredSessionIsAbsent(t *testing.T) {
	t.Parallel()
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80)
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
	at, _ := g.from6(packet.TCP, client, server, packet.SYN, 0)
	g.from4(packet.TCP, server, at, packet.SYN, 0)
	idle := seconds(7200 + 240)
	g.from6(packet.TCP, client, server, packet.RST, idle) // in TRANS a RST changes nothing
	if s := g.list(idle); len(s) != 1 || s[0].State != session.Trans || s[0].Remaining != 0 {
		t.Errorf("at the end of TCP_EST and TCP_TRANS: %+v", s)
	}
	g.from6(packet.TCP, client, server, packet.Other, idle+1)
	if s := g.list(idle + 1); len(s) != 0 {
		t.Errorf("afterwards, a packet revived %+v", s)
	}
	g.from6(packet.TCP, client, server, packet.SYN, idle+1)
	if s := g.list(idle + 1); len(s) != 1 || s[0].State != session.V6Init {
		t.Errorf("a SYN afterwards: %+v", s)
	}
}

// TestKnown: a session is known by its own pair of transport addresses, for as long as it is in the table.
func TestKnown(t *testing.T) {
	t.Parallel()
	server, stranger := endpoint4("198.51.100.1", 80), endpoint4("198.51.100.2", 80)
	for p := range packet.Protos {
		g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
		known := func(mapped, remote packet.Endpoint4) bool {
			g.epochs.Enter(0)
			defer g.epochs.Leave(0)
			return g.sessions.Known(session.Flow{Proto: p, Mapped: mapped, Remote: remote})
		}
		at, _ := g.from6(p, endpoint6("2001:db8::1", 5000), server, packet.SYN, 0)
		unbound, elsewhere := at, server
		unbound.Port++
		elsewhere.Port++
		if !known(at, server) || known(at, stranger) || known(unbound, server) {
			t.Errorf("%v: known are %v, a stranger %v, another port of pool4 %v", p, known(at, server), known(at, stranger), known(unbound, server))
		}
		if got := known(at, elsewhere); got != (p == packet.ICMP) {
			t.Errorf("%v: known from another port: %v", p, got)
		}
		if g.sweep(seconds(301)); known(at, server) {
			t.Errorf("%v: known after its end", p)
		}
	}
}

// TestNewTimeoutsHoldForOldSessions shortens a timeout, and lengthens it again.
func TestNewTimeoutsHoldForOldSessions(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
	g.from6(packet.UDP, endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80), packet.Other, seconds(10))
	c := defaults
	for _, s := range []int{120, 3600} {
		c.Timeouts.UDP = time.Duration(s) * time.Second
		g.sessions.Configure(c)
		if left := g.list(seconds(30))[0].Remaining; left != c.Timeouts.UDP-20*time.Second {
			t.Errorf("with %d s, %v are left after 20 s", s, left)
		}
	}
}

// TestClocksOfWorkersMayDiffer: a worker whose batch began earlier does not shorten a lifetime.
func TestClocksOfWorkersMayDiffer(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
	for _, now := range []table.Time{100, 99, 98} {
		g.from6(packet.UDP, endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80), packet.Other, now)
	}
	if left := g.list(100)[0].Remaining; left != 300*time.Second {
		t.Errorf("%v are left", left)
	}
}

// pool4 and then the table are filled: existing sessions remain (RFC 6888 REQ-11).
func TestExhaustionEvictsNoSession(t *testing.T) {
	t.Parallel()
	server := endpoint4("198.51.100.1", 53)
	for _, c := range []struct {
		limit, fit int
		want       drop.Reason
	}{{1000, 50, drop.PoolExhausted}, {20, 20, drop.SessionLimit}} {
		g := newGateway(t, 1, c.limit, defaults, "192.0.2.1", "7000-7049")
		at := make(map[uint16]packet.Endpoint4)
		for x := range uint16(60) {
			e, r := g.from6(packet.UDP, endpoint6("2001:db8::1", x), server, packet.Other, 0)
			if want := map[bool]drop.Reason{true: drop.None, false: c.want}[int(x) < c.fit]; r != want {
				t.Fatalf("flow %d: reason %v, want %v", x, r, want)
			} else if r == drop.None {
				at[x] = e
			}
		}
		for x, e := range at {
			if got, r := g.from6(packet.UDP, endpoint6("2001:db8::1", x), server, packet.Other, 1); r != drop.None || got != e {
				t.Errorf("flow %d: %v, %v, want %v", x, got, r, e)
			}
		}
		g.sweep(seconds(302))
		if s, b := g.sizes(); s != 0 || b != 0 {
			t.Errorf("%d sessions and %d bindings after the timeout", s, b)
		}
		if _, r := g.from6(packet.UDP, endpoint6("2001:db8::1", 59), server, packet.Other, seconds(302)); r != drop.None {
			t.Errorf("after the timeout: %v", r)
		}
	}
}

// TestPurgeAfterRemoval takes half of pool4 away: just its bindings and sessions go.
func TestPurgeAfterRemoval(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 1000, defaults, "192.0.2.1", "7000-7099")
	for x := range uint16(100) {
		for z := range uint16(3) {
			g.from6(packet.UDP, endpoint6("2001:db8::1", x), endpoint4("198.51.100.1", z), packet.Other, 0)
		}
	}
	gone, err := pool4.ParseRange("192.0.2.1", "7000-7039")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.pool.Remove(gone); err != nil {
		t.Fatal(err)
	}
	orphan := func(b bib.Binding) bool { return !g.pool.Contains(b.Proto, b.Mapped) }
	if b, s := g.sessions.Purge(orphan); b != 40 || s != 120 {
		t.Errorf("purged %d bindings and %d sessions", b, s)
	}
	if b, s := g.sessions.Purge(orphan); b != 0 || s != 0 {
		t.Errorf("purged %d bindings and %d sessions once more", b, s)
	}
	if all := g.listBindings(); len(all) != 60 || slices.ContainsFunc(all, orphan) {
		t.Errorf("left are %v", all)
	}
	if s, b := g.sizes(); s != 180 || b != 60 || len(g.list(0)) != 180 {
		t.Errorf("left are %d sessions of %d bindings", s, b)
	}
}

// PurgeSessions ends just the sessions that match, and the bindings that lose their last session.
func TestPurgeSessions(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 1000, defaults, "192.0.2.1", "7000-7099")
	for x := range uint16(100) {
		for z := range uint16(3) {
			g.from6(packet.UDP, endpoint6("2001:db8::1", x), endpoint4("198.51.100.1", z), packet.Other, seconds(float64(z)))
		}
	}
	peer := func(port uint16) func(*session.Session) bool {
		return func(s *session.Session) bool { return s.Remote.Port == port }
	}
	if n := g.sessions.PurgeSessions(seconds(10), peer(1)); n != 100 {
		t.Errorf("ended %d sessions of one peer", n)
	}
	if s, b := g.sizes(); s != 200 || b != 100 {
		t.Errorf("left are %d sessions of %d bindings", s, b)
	}
	idle := func(s *session.Session) bool { return s.Idle >= 9*time.Second && s.Client.Port < 50 }
	if n := g.sessions.PurgeSessions(seconds(10), idle); n != 50 {
		t.Errorf("ended %d idle sessions", n)
	}
	if n := g.sessions.PurgeSessions(seconds(10), func(s *session.Session) bool { return s.Client.Port == 7 }); n != 1 {
		t.Errorf("ended %d sessions of a port", n)
	}
	if s, b := g.sizes(); s != 149 || b != 99 {
		t.Errorf("left are %d sessions of %d bindings", s, b)
	}
	if n := g.sessions.PurgeSessions(seconds(1000), func(*session.Session) bool { return true }); n != 0 {
		t.Errorf("ended %d sessions that have expired", n)
	}
}

// TestConcurrentUse hammers a few flows from both sides, with a clock so fast that sessions expire all the time,
// while others sweep, list and purge. Flows of static bindings, which the purge spares, must never leave by another
// address nor lead to another client; what else happens, the tables are empty in the end.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const (
		workers = 4
		rounds  = 15_000
	)
	g := newGateway(t, workers, 1000, defaults, "192.0.2.1", "2000-2039")
	owner := make(map[flow]packet.Endpoint4)
	for p := range packet.Protos {
		f := flow{p, endpoint6("2001:db8::1", 2000)}
		owner[f] = endpoint4("192.0.2.1", 2001)
		if err := g.bindings.AddStatic(p, f.client, owner[f]); err != nil {
			t.Fatal(err)
		}
	}
	clock := fastClock()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				f := flow{packet.Proto(i % 3), endpoint6("2001:db8::1", uint16(2000+i*7%50))}
				g.hammer(t, w, f, endpoint4("198.51.100.1", uint16(i%4)), packet.TCPEvent((i+w)%4), owner[f], clock)
			}
		})
	}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { g.disturb(stop, clock) })
	wg.Wait()
	close(stop)
	watch.Wait()
	g.sweep(clock() + seconds(8000)) // ESTABLISHED for two hours, TRANS for four minutes
	if b, _ := g.sessions.Purge(func(b bib.Binding) bool { return b.Static }); b != len(owner) {
		t.Errorf("%d static bindings have ended, want %d", b, len(owner))
	}
	if s, b := g.sizes(); s != 0 || b != 0 {
		t.Errorf("%d sessions and %d bindings are left", s, b)
	}
	for _, u := range g.pool.Usage() {
		if u.Used != 0 {
			t.Errorf("%v: %d ports are still in use", u.Entry, u.Used)
		}
	}
}

type flow struct {
	proto  packet.Proto
	client packet.Endpoint6
}

// fastClock returns a clock that advances by a second at each reading.
func fastClock() func() table.Time {
	var ticks atomic.Uint32
	return func() table.Time { return table.Time(ticks.Add(16)) }
}

// hammer sends a packet and its answer in a batch of worker w. static is the flow's transport address, if it has one.
func (g *gateway) hammer(t *testing.T, w int, f flow, remote packet.Endpoint4, ev packet.TCPEvent, static packet.Endpoint4, clock func() table.Time) {
	g.epochs.Enter(w)
	defer g.epochs.Leave(w)
	at, r := g.send6(f.proto, &f.client, remote, 0, ev, clock())
	if r != drop.None {
		return
	}
	if !g.pool.Contains(f.proto, at) {
		t.Errorf("%v leaves from %v", f, at)
	}
	back, _, r := g.send4(f.proto, remote, at, packet.Other, clock())
	if static.Port != 0 && (at != static || r != drop.None || back != f.client) {
		t.Errorf("%v leaves from %v, which leads back to %v, %v; want %v", f, at, back, r, static)
	}
	if r == drop.None && (back.Addr != f.client.Addr || back.Port < 2000 || back.Port >= 2050) {
		t.Errorf("%v leads back to a client that never was: %v", at, back)
	}
}

// disturb does all that is not a packet, until stop is closed.
func (g *gateway) disturb(stop chan struct{}, clock func() table.Time) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		g.sweep(clock())
		g.list(clock())
		g.listBindings()
		g.sessions.Purge(func(b bib.Binding) bool { return !b.Static && int(b.Mapped.Port)%40 == i%40 })
	}
}

func TestExistingFlowsDoNotAllocate(t *testing.T) {
	g := newGateway(t, 1, 1000, defaults, "192.0.2.1", "")
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80)
	at, _ := g.from6(packet.TCP, client, server, packet.SYN, 0)
	now := table.Time(0)
	if n := testing.AllocsPerRun(1000, func() {
		now++
		g.send6(packet.TCP, &client, server, 0, packet.Other, now)
		g.send4(packet.TCP, server, at, packet.SYN, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNewFlowsDoNotAllocate holds for a table that has been as full before.
func TestNewFlowsDoNotAllocate(t *testing.T) {
	g := newGateway(t, 1, 1000, defaults, "192.0.2.1", "7000-7999")
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80)
	now := table.Time(0)
	churn := func() {
		for range 500 {
			client.Port++
			g.from6(packet.UDP, client, server, packet.Other, now)
		}
		now += seconds(301)
		g.sweep(now)
	}
	for range 100 {
		churn()
	}
	if n := testing.AllocsPerRun(10, churn); n > 5 { // growth of a shard that was never as full: a few in 500 flows
		t.Errorf("%v allocations in 500 flows", n)
	}
}
