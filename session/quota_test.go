package session_test

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// flood sends a packet from each of n IPv4 hosts to a bound transport address.
func (g *gateway) flood(p packet.Proto, at packet.Endpoint4, n int) (refused int) {
	for i := range n {
		source := packet.Endpoint4{Addr: packet.Addr4{203, byte(i >> 16), byte(i >> 8), byte(i)}, Port: 1}
		if _, r := g.from4(p, source, at, packet.SYN, 0); r != drop.None {
			refused++
		}
	}
	return refused
}

// TestOutsidersFloodABoundPort fills no more than the quota of the binding, of each protocol, while clients open sessions
// until the table is full, and even then.
func TestOutsidersFloodABoundPort(t *testing.T) {
	t.Parallel()
	for _, p := range []packet.Proto{packet.TCP, packet.UDP, packet.ICMP} {
		g := newGateway(t, 1, 1600, defaults, "192.0.2.1", "1024-65535")
		victim, at := endpoint6("2001:db8::1", 80), endpoint4("192.0.2.1", 80)
		if err := g.sessions.AddStatic(p, victim, at); err != nil {
			t.Fatal(err)
		}
		if n := g.flood(p, at, 2000); n != 0 {
			t.Errorf("%v: %d packets of the flood were refused, want evictions of the oldest sessions", p, n)
		}
		if n := g.sessions.InboundLen(); n != 100 || g.sessions.Evicted() != 1900 {
			t.Errorf("%v: %d sessions remain and %d were evicted, want 100 and 1900", p, n, g.sessions.Evicted())
		}
		for i := range 1600 {
			client := endpoint6("2001:db8:1::1", uint16(1024+i/2))
			remote := packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, byte(i % 2)}, Port: 443}
			if _, r := g.from6(p, client, remote, packet.SYN, 0); r != drop.None {
				t.Fatalf("%v: session %d of a client in a flood: %v", p, i, r)
			}
		}
		if n := g.sessions.InboundLen(); n != 0 {
			t.Errorf("%v: %d unanswered sessions have kept their place in a full table", p, n)
		}
	}
}

// TestQuotasOfClientAndTable floods several bindings of a client, then those of several clients.
func TestQuotasOfClientAndTable(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 1600, defaults, "192.0.2.1", "1024-65535")
	bind := func(client string, port uint16) packet.Endpoint4 {
		at := endpoint4("192.0.2.1", port)
		if err := g.sessions.AddStatic(packet.UDP, endpoint6(client, port), at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for port := range uint16(8) {
		g.flood(packet.UDP, bind("2001:db8::1", 1+port), 200)
	}
	if n := g.sessions.InboundLen(); n != 200 { // half of a quarter
		t.Errorf("the bindings of one client have %d sessions from IPv4, want 200", n)
	}
	for port := range uint16(8) {
		g.flood(packet.UDP, bind("2001:db8:1::1", 100+port), 200)
		g.flood(packet.UDP, bind("2001:db8:2::1", 200+port), 200)
	}
	if n := g.sessions.InboundLen(); n != 400 {
		t.Errorf("all have %d sessions from IPv4, want 400", n)
	}
}

// TestAnsweredSessionsAreEvictedLast: what the client has answered outlives a flood of what it has not, a TCP connection any
// flood. A SYN+ACK is no answer.
func TestAnsweredSessionsAreEvictedLast(t *testing.T) {
	t.Parallel()
	c := defaults
	c.MaxInboundPerBinding = 4
	g := newGateway(t, 1, 1600, c, "192.0.2.1", "1024-65535")
	peer := func(n uint16) packet.Endpoint4 { return endpoint4("198.51.100.1", n) }
	open := func(p packet.Proto, n uint16, answers ...packet.TCPEvent) {
		client, at := endpoint6("2001:db8::1", 80), endpoint4("192.0.2.1", 80)
		_ = g.sessions.AddStatic(p, client, at) // an error after the first time: it exists
		if _, r := g.from4(p, peer(n), at, packet.SYN, 0); r != drop.None {
			t.Fatalf("%v session %d: %v", p, n, r)
		}
		for _, ev := range answers {
			g.from6(p, client, peer(n), ev, 0)
		}
	}
	known := func(p packet.Proto, n uint16) bool {
		g.epochs.Enter(0)
		defer g.epochs.Leave(0)
		return g.sessions.Known(session.Flow{Proto: p, Mapped: endpoint4("192.0.2.1", 80), Remote: peer(n)})
	}
	open(packet.TCP, 1, packet.SYN, packet.Other)
	open(packet.TCP, 2, packet.SYN)
	open(packet.UDP, 3, packet.Other)
	open(packet.UDP, 4)
	g.flood(packet.TCP, endpoint4("192.0.2.1", 80), 50)
	g.flood(packet.UDP, endpoint4("192.0.2.1", 80), 50)
	for _, want := range []struct {
		proto packet.Proto
		n     uint16
		known bool
	}{{packet.TCP, 1, true}, {packet.TCP, 2, false}, {packet.UDP, 3, true}, {packet.UDP, 4, false}} {
		if got := known(want.proto, want.n); got != want.known {
			t.Errorf("%v session %d known after the flood: %v, want %v", want.proto, want.n, got, want.known)
		}
	}
	for n := range uint16(4) {
		open(packet.UDP, 10+n, packet.Other)
	}
	if known(packet.UDP, 3) || !known(packet.UDP, 13) {
		t.Error("the oldest answered UDP session was not evicted")
	}
	for n := range uint16(3) {
		open(packet.TCP, 20+n, packet.SYN, packet.Other)
	}
	if n := g.flood(packet.TCP, endpoint4("192.0.2.1", 80), 10); n != 10 || !known(packet.TCP, 1) {
		t.Errorf("%d of 10 SYNs were refused with the quota full of connections, want all, and the first connection continues", n)
	}
}

// TestUnansweredSessionsAreEvictedForClient: outsiders do not use up what a limit leaves to the client itself.
func TestUnansweredSessionsAreEvictedForClient(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*session.Config){
		"of the client":  func(c *session.Config) { c.MaxPerClient = 10 },
		"of the binding": func(c *session.Config) { c.MaxPerBinding = 10 },
	} {
		c := defaults
		limit(&c)
		g := newGateway(t, 1, 1600, c, "192.0.2.1", "1024-65535")
		client := endpoint6("2001:db8::1", 5000)
		at, _ := g.from6(packet.UDP, client, peerOf(0), packet.Other, 0)
		g.flood(packet.UDP, at, 100)
		for i := range 9 {
			if _, r := g.from6(packet.UDP, client, peerOf(1+i), packet.Other, 0); r != drop.None {
				t.Errorf("limit %s: session %d of the client: %v", name, i, r)
			}
		}
	}
}

// With sessions.max_inbound as large as sessions.max, IPv4 hosts can fill the table. A client's new sessions then evict
// those that no client has answered, but no TCP connection that an IPv4 host has opened.
func TestFullTableEvictsUnansweredSessions(t *testing.T) {
	t.Parallel()
	const most = 1600
	c := defaults
	c.MaxInbound, c.MaxInboundPerClient, c.MaxInboundPerBinding = most, most, most
	g := newGateway(t, 1, most, c, "192.0.2.1", "1024-65535")
	host, at, peer := endpoint6("2001:db8::1", 80), endpoint4("192.0.2.1", 80), peerOf(0)
	for _, p := range []packet.Proto{packet.TCP, packet.UDP} {
		if err := g.sessions.AddStatic(p, host, at); err != nil {
			t.Fatal(err)
		}
	}
	g.from4(packet.TCP, peer, at, packet.SYN, 0)
	g.from6(packet.TCP, host, peer, packet.SYN, 0)
	g.from6(packet.TCP, host, peer, packet.Other, 0)
	g.flood(packet.UDP, at, most)
	if s, _ := g.sizes(); s != most {
		t.Fatalf("%d sessions, want a full table", s)
	}
	for i := range most - 1 {
		client := endpoint6("2001:db8:1::1", uint16(1024+i/2))
		if _, r := g.from6(packet.TCP, client, endpoint4("198.51.100.9", uint16(443+i%2)), packet.SYN, 0); r != drop.None {
			t.Fatalf("connection %d of a client: %v", i, r)
		}
	}
	if _, r := g.from6(packet.TCP, endpoint6("2001:db8:1::1", 9), endpoint4("198.51.100.9", 443), packet.SYN, 0); r != drop.SessionLimit {
		t.Errorf("with a table full of the client's own connections: %v", r)
	}
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	if !g.sessions.Known(session.Flow{Proto: packet.TCP, Mapped: at, Remote: peer}) {
		t.Error("the connection from IPv4 has ended")
	}
	if s, b := g.sessions.InboundLen(), g.bindings.Len(packet.UDP); s != 1 || b != 1 {
		t.Errorf("%d sessions from IPv4 and %d UDP bindings are left, want 1 and 1", s, b)
	}
}

// TestSmallerQuotasEndNothingAtOnce: after a quota or a limit has become smaller one packet ends a few sessions, not all
// that are too many, which would stop its worker for a while.
func TestSmallerQuotasEndNothingAtOnce(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(*session.Config){
		"of all":               func(c *session.Config) { c.MaxInbound = 10 },
		"of the client":        func(c *session.Config) { c.MaxInboundPerClient = 10 },
		"of the binding":       func(c *session.Config) { c.MaxInboundPerBinding = 10 },
		"of a client's own":    func(c *session.Config) { c.MaxPerClient = 10 },
		"of a binding's, both": func(c *session.Config) { c.MaxPerBinding = 10 },
	} {
		c := defaults
		c.MaxInbound, c.MaxInboundPerClient, c.MaxInboundPerBinding = 500, 500, 500
		c.MaxPerClient, c.MaxPerBinding = 1000, 1000
		g := newGateway(t, 1, 1600, c, "192.0.2.1", "1024-65535")
		client := endpoint6("2001:db8::1", 5000)
		at, _ := g.from6(packet.UDP, client, peerOf(0), packet.Other, 0)
		g.flood(packet.UDP, at, 500)
		limit(&c)
		g.sessions.Configure(c)
		g.from4(packet.UDP, endpoint4("203.0.113.99", 9), at, packet.Other, 0)
		n := g.sessions.InboundLen()
		if n < 490 || n > 500 {
			t.Errorf("limit %s: %d of 500 sessions are left after one packet", name, n)
		}
		for i := range 600 {
			g.from4(packet.UDP, endpoint4("203.0.113.98", uint16(1+i)), at, packet.Other, 0)
		}
		if n = g.sessions.InboundLen(); n > 500 {
			t.Errorf("limit %s: %d sessions after 600 packets, more than before", name, n)
		}
	}
}

func peerOf(i int) packet.Endpoint4 { return endpoint4("198.51.100.1", uint16(100+i)) }

// TestNothingIsAllocatedInAFlood once the quota is reached.
func TestNothingIsAllocatedInAFlood(t *testing.T) {
	g := newGateway(t, 1, 1600, defaults, "192.0.2.1", "1024-65535")
	at := endpoint4("192.0.2.1", 80)
	if err := g.sessions.AddStatic(packet.UDP, endpoint6("2001:db8::1", 80), at); err != nil {
		t.Fatal(err)
	}
	g.flood(packet.UDP, at, 5000)
	n := 0
	if a := testing.AllocsPerRun(1000, func() {
		n++
		g.from4(packet.UDP, packet.Endpoint4{Addr: packet.Addr4{198, 18, byte(n >> 8), byte(n)}, Port: 2}, at, packet.Other, 0)
	}); a != 0 {
		t.Errorf("%v allocations for a packet of a flood, want 0", a)
	}
}
