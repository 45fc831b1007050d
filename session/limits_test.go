package session_test

import (
	"fmt"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
)

// Each limit of a client, which is a prefix, is exceeded; another client is not affected, and existing sessions
// continue (RFC 6888 REQ-4, REQ-5, REQ-11).
func TestLimitsOfAClient(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		set  func(*session.Config)
		same bool // all sessions through one binding
		want drop.Reason
	}{
		"sessions": {func(c *session.Config) { c.MaxPerClient = 10 }, true, drop.ClientSessions},
		"bindings": {func(c *session.Config) { c.MaxBindingsPerClient = 10 }, false, drop.ClientBindings},
		"rate":     {func(c *session.Config) { c.NewPerSecond = 10 }, false, drop.ClientRate},
	} {
		c := defaults
		x.set(&c)
		c.ClientPrefixLen = 56
		g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
		open := func(client string, i uint16, now float64) drop.Reason {
			src, dst := endpoint6(client, 5000), endpoint4("198.51.100.1", i)
			if !x.same {
				src.Port += i
			}
			_, r := g.from6(packet.UDP, src, dst, packet.Other, seconds(now))
			return r
		}
		hosts := []string{"2001:db8:0:100::1", "2001:db8:0:1ff::9"}
		for i := range uint16(12) {
			want := map[bool]drop.Reason{true: drop.None, false: x.want}[i < 10]
			if r := open(hosts[i%2], i, 0); r != want {
				t.Errorf("%s: session %d: %v, want %v", name, i, r, want)
			}
		}
		if r := open("2001:db8:0:200::1", 1, 0); r != drop.None {
			t.Errorf("%s: another client: %v", name, r)
		}
		if r := open(hosts[0], 0, 0); r != drop.None {
			t.Errorf("%s: a session that exists: %v", name, r)
		}
		if x.want == drop.ClientRate {
			if a, b := open(hosts[0], 20, 0.1), open(hosts[0], 21, 0.1); a != drop.None || b != x.want {
				t.Errorf("a tenth of a second later: %v and %v", a, b)
			}
		}
		g.sweep(seconds(301))
		if r := open(hosts[1], 11, 301); r != drop.None {
			t.Errorf("%s: after the timeout: %v", name, r)
		}
	}
}

// While the tables are confined, a new session needs the place of one that has ended, or of one that an IPv4 host opened and no
// client answered.
func TestConfinedTablesReplaceSessions(t *testing.T) {
	t.Parallel()
	const live = 2000 // more than minRoom
	c := defaults
	c.MaxInbound = live
	g := newGateway(t, 1, 2*live, c, "192.0.2.1", "7000-9999")
	open := func(i uint16, now float64) drop.Reason {
		_, r := g.from6(packet.UDP, endpoint6("2001:db8::1", i), endpoint4("198.51.100.1", 53), packet.Other, seconds(now))
		return r
	}
	check := func(what string, i uint16, now float64, want drop.Reason) {
		t.Helper()
		if r := open(i, now); r != want {
			t.Errorf("%s: %v, want %v", what, r, want)
		}
	}
	for i := range uint16(live) {
		check("before", i, float64(i/1000), drop.None)
	}
	g.sessions.Confine(true)
	g.sessions.Confine(true)
	check("existing", live-1, 2, drop.None)
	check("new", live, 2, drop.MemoryLimit)
	g.sweep(seconds(300.5)) // the first 1000 end
	g.sessions.Confine(true)
	for i := range uint16(1000) {
		check("in the place of another", live+i, 300.5, drop.None)
	}
	check("one more", live+1000, 300.5, drop.MemoryLimit)
	g.sessions.Confine(false)
	check("afterwards", live+1000, 300.5, drop.None)

	g.sweep(seconds(900))
	g.sessions.Confine(true)
	for i := range uint16(1024) {
		check("of the first 1024", i, 900, drop.None)
	}
	check("after these", 1024, 900, drop.MemoryLimit)
}

// The limits of a dynamic and of a static binding are exceeded from both sides; another binding of the client is not
// affected, and existing sessions continue (RFC 6888 REQ-5).
func TestLimitOfABinding(t *testing.T) {
	t.Parallel()
	c := defaults
	c.MaxPerBinding = 3
	g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
	client, static, at := endpoint6("2001:db8::1", 5000), endpoint6("2001:db8::1", 80), endpoint4("192.0.2.1", 80)
	if err := g.sessions.AddStatic(packet.UDP, static, at); err != nil {
		t.Fatal(err)
	}
	for host := range 5 {
		server := endpoint4(fmt.Sprintf("198.51.100.%d", host), 53)
		want := map[bool]drop.Reason{true: drop.None, false: drop.BindingSessions}[host < 3]
		_, out := g.from6(packet.UDP, client, server, packet.Other, 0)
		_, in := g.from4(packet.UDP, server, at, packet.Other, 0)
		g.from6(packet.UDP, static, server, packet.Other, 0) // otherwise it would be evicted for the next one
		if out != want || in != want {
			t.Errorf("session %d: %v from IPv6 and %v from IPv4, want %v", host, out, in, want)
		}
	}
	client.Port++
	if _, r := g.from6(packet.UDP, client, endpoint4("198.51.100.9", 53), packet.Other, 0); r != drop.None {
		t.Errorf("another binding of the client: %v", r)
	}
	if _, r := g.from4(packet.UDP, endpoint4("198.51.100.0", 53), at, packet.Other, 0); r != drop.None {
		t.Errorf("a session that exists: %v", r)
	}
	g.sweep(seconds(301))
	if _, r := g.from4(packet.UDP, endpoint4("198.51.100.4", 53), at, packet.Other, seconds(301)); r != drop.None {
		t.Errorf("after the timeout: %v", r)
	}
}

// TestInboundSessionsCountForTheClient, but do not spend what it may begin in a second.
func TestInboundSessionsCountForTheClient(t *testing.T) {
	t.Parallel()
	c := defaults
	c.MaxPerClient, c.NewPerSecond = 5, 2
	g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
	client := endpoint6("2001:db8::1", 5000)
	at, _ := g.from6(packet.UDP, client, endpoint4("198.51.100.1", 1), packet.Other, 0)
	for i := range uint16(6) {
		want := map[bool]drop.Reason{true: drop.None, false: drop.ClientSessions}[i < 4]
		peer := endpoint4("198.51.100.2", i)
		if _, r := g.from4(packet.UDP, peer, at, packet.Other, 0); r != want {
			t.Errorf("packet %d: %v, want %v", i, r, want)
		}
		g.from6(packet.UDP, client, peer, packet.Other, 0) // otherwise it would be evicted for the next one
	}
}

// TestRefusedBindingsDoNotCount: a pool that is exhausted uses up no client's share.
func TestRefusedBindingsDoNotCount(t *testing.T) {
	t.Parallel()
	c := defaults
	c.MaxBindingsPerClient = 3
	g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7001")
	for i := range uint16(10) {
		_, r := g.from6(packet.UDP, endpoint6("2001:db8::1", i), endpoint4("198.51.100.1", 1), packet.Other, 0)
		if want := map[bool]drop.Reason{true: drop.None, false: drop.PoolExhausted}[i < 2]; r != want {
			t.Errorf("flow %d: %v, want %v", i, r, want)
		}
	}
}

// TestStaticBindingsDoNotCount: the administrator's rows are not the client's.
func TestStaticBindingsDoNotCount(t *testing.T) {
	t.Parallel()
	c := defaults
	c.MaxBindingsPerClient = 2
	g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
	remote := endpoint4("198.51.100.1", 1)
	open := func(port uint16) drop.Reason {
		_, r := g.from6(packet.UDP, endpoint6("2001:db8::1", port), remote, packet.Other, 0)
		return r
	}
	for port := range uint16(10) {
		if err := g.sessions.AddStatic(packet.UDP, endpoint6("2001:db8::1", 80+port), endpoint4("192.0.2.1", 80+port)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b, c := open(1), open(2), open(3); a != drop.None || b != drop.None || c != drop.ClientBindings {
		t.Errorf("with static bindings: %v, %v, %v", a, b, c)
	}
	at, _ := g.bindings.Lookup6(packet.UDP, endpoint6("2001:db8::1", 1))
	if err := g.sessions.AddStatic(packet.UDP, endpoint6("2001:db8::1", 1), at); err != nil {
		t.Fatal(err)
	}
	if a, b := open(3), open(4); a != drop.None || b != drop.ClientBindings {
		t.Errorf("after one became static: %v, %v", a, b)
	}
	g.sessions.Purge(func(b bib.Binding) bool { return b.Static })
	if r := open(4); r != drop.ClientBindings {
		t.Errorf("after the static ones have ended: %v", r)
	}
	g.sessions.Purge(func(b bib.Binding) bool { return b.Client.Port == 3 })
	if r := open(4); r != drop.None {
		t.Errorf("after a dynamic one has ended: %v", r)
	}
}

// TestPortsAreHeldDown takes a UDP port back 120 seconds after its last session, not before (RFC 6888 REQ-8).
func TestPortsAreHeldDown(t *testing.T) {
	t.Parallel()
	c := defaults
	c.PortHoldDown = 120 * time.Second
	g := newGateway(t, 1, 100, c, "192.0.2.1", "7000")
	remote := endpoint4("198.51.100.1", 1)
	open := func(client string, now float64) drop.Reason {
		g.sweep(seconds(now))
		_, r := g.from6(packet.UDP, endpoint6(client, 5000), remote, packet.Other, seconds(now))
		return r
	}
	open("2001:db8::1", 0)
	for _, client := range []string{"2001:db8::1", "2001:db8::2"} {
		if r := open(client, 301); r != drop.PoolExhausted {
			t.Errorf("%s at once: %v", client, r)
		}
		if r := open(client, 421); r != drop.PoolExhausted {
			t.Errorf("%s after 120 seconds: %v", client, r)
		}
	}
	if r := open("2001:db8::2", 421.1); r != drop.None {
		t.Errorf("afterwards: %v", r)
	}
}

func TestPurgePrefix(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000-7999")
	g.epochs.Enter(0)
	for i := range uint16(10) {
		client := endpoint6("2001:db8::1", i/2)
		g.send6(packet.UDP, &client, endpoint4("198.51.100.1", i), uint8(i%5), packet.Other, 0)
	}
	g.epochs.Leave(0)
	g.epochs.Wait()
	if n := g.sessions.PurgePrefix(1); n != 2 {
		t.Errorf("%d sessions ended, want 2", n)
	}
	if s, b := g.sizes(); s != 8 || b != 5 {
		t.Errorf("%d sessions of %d bindings are left, want 8 of 5", s, b)
	}
	for pref := range uint8(5) {
		g.sessions.PurgePrefix(pref)
	}
	if s, b := g.sizes(); s != 0 || b != 0 {
		t.Errorf("%d sessions of %d bindings are left", s, b)
	}
}

// TestPurgeOfOrphans takes ports and then the whole address out of pool4.
func TestPurgeOfOrphans(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000-7001", "192.0.2.2", "7000")
	remote := endpoint4("198.51.100.1", 1)
	for i, at := range []string{"192.0.2.1", "192.0.2.2"} {
		c := endpoint6("2001:db8::1", 80)
		c.Addr[15] = byte(i)
		if err := g.sessions.AddStatic(packet.UDP, c, endpoint4(at, 7000)); err != nil {
			t.Fatal(err)
		}
		g.from4(packet.UDP, remote, endpoint4(at, 7000), packet.Other, 0)
	}
	g.from6(packet.UDP, endpoint6("2001:db8::5", 1), remote, packet.Other, 0)
	remove := func(at, ports string) {
		gone, err := pool4.ParseRange(at, ports)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.pool.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	if b, s := g.sessions.Purge(g.bindings.Orphan); b != 0 || s != 0 {
		t.Errorf("%d bindings and %d sessions are orphans of an unchanged pool", b, s)
	}
	remove("192.0.2.1", "7000") // a static binding's port: it stays
	if b, s := g.sessions.Purge(g.bindings.Orphan); b != 0 || s != 0 {
		t.Errorf("%d bindings and %d sessions are orphans, though the address is there", b, s)
	}
	remove("192.0.2.1", "7001") // and with it the address
	if b, s := g.sessions.Purge(g.bindings.Orphan); b != 2 || s != 2 {
		t.Errorf("%d bindings and %d sessions are orphans, want 2 and 2", b, s)
	}
	if all := g.listBindings(); len(all) != 1 || all[0].Mapped != endpoint4("192.0.2.2", 7000) {
		t.Errorf("left are %v", all)
	}
}

// TestLogIsInOrder: the end of a binding comes before the beginning of the next one with the same address and port.
func TestLogIsInOrder(t *testing.T) {
	t.Parallel()
	var log []session.Event
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000")
	g.sessions.Observe(session.KindsOf(session.BindingMade, session.BindingEnded), func(batch []session.Event, _ uint64) { log = append(log, batch...) })
	for i := range 3 {
		now := float64(i * 301)
		g.sweep(seconds(now))
		g.from6(packet.UDP, endpoint6("2001:db8::1", uint16(i)), endpoint4("198.51.100.1", 1), packet.Other, seconds(now))
	}
	if g.sessions.Deliver(); len(log) != 5 {
		t.Fatalf("logged %v", log)
	}
	for i, e := range log {
		want := session.Event{
			Kind: session.EventKind(i % 2), Cause: session.Cause(i % 2), At: seconds(float64((i + 1) / 2 * 301)),
			Flow: session.Flow{Proto: packet.UDP, Client: endpoint6("2001:db8::1", uint16(i/2)), Mapped: endpoint4("192.0.2.1", 7000)},
		}
		if e != want {
			t.Errorf("event %d is %+v, want %+v", i, e, want)
		}
	}
}

// TestOptionsDoNotAllocate: existing flows allocate nothing either when everything is switched on.
func TestOptionsDoNotAllocate(t *testing.T) {
	c := defaults
	c.AddressDependent, c.MaxPerClient, c.NewPerSecond = true, 100, 100
	g := newGateway(t, 1, 1000, c, "192.0.2.1", "")
	g.sessions.Observe(^session.Kinds(0), func([]session.Event, uint64) {})
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80)
	g.from4(packet.TCP, endpoint4("198.51.100.9", 80), endpoint4("192.0.2.1", 80), packet.SYN, 0)
	at, _ := g.from6(packet.TCP, client, server, packet.SYN, 0)
	elsewhere := server
	elsewhere.Port++
	now := seconds(0)
	if n := testing.AllocsPerRun(1000, func() {
		now++
		g.send6(packet.TCP, &client, server, 0, packet.Other, now)
		g.send4(packet.TCP, server, at, packet.SYN, now)
		g.send4(packet.TCP, elsewhere, at, packet.Other, now)
		g.sessions.Peek4(&session.Flow{Proto: packet.TCP, Mapped: at, Remote: server})
		g.sessions.Known(session.Flow{Proto: packet.TCP, Mapped: at, Remote: server})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
