package session_test

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// A peer's SYN is stored for an unbound port; a client that then opens to that peer gets this port, and the
// connection is established (RFC 5382 REQ-2).
func TestSimultaneousOpenThroughUnboundPort(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1-192.0.2.8", "")
	client, peer, at := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 6000), endpoint4("192.0.2.5", 7001)
	if _, r := g.from4(packet.TCP, peer, at, packet.SYN, 0); r != drop.StoredSYN {
		t.Fatalf("the peer's SYN: %v", r)
	}
	other := peer
	other.Port++
	if got, _ := g.from6(packet.TCP, endpoint6("2001:db8::2", 5000), other, packet.SYN, 1); got == at {
		t.Error("a SYN to another port of the peer takes the port")
	}
	if got, r := g.from6(packet.TCP, client, peer, packet.SYN, seconds(6)); r != drop.None || got != at {
		t.Fatalf("the client's SYN leaves from %v, %v, want %v", got, r, at)
	}
	if s := g.list(seconds(6)); len(s) != 2 || s[1].State != session.Established && s[0].State != session.Established {
		t.Errorf("sessions: %+v", s)
	}
	if syns := g.sweepSYNs(seconds(7)); len(syns) != 0 {
		t.Errorf("refused: %v", syns)
	}
	if got, r := g.from4(packet.TCP, peer, at, packet.SYN, seconds(7)); r != drop.None || got != client {
		t.Errorf("the peer's next SYN reaches %v, %v", got, r)
	}
}

// An expired stored SYN does not match a client's SYN, with or without a sweep; its sender must still be answered.
func TestExpiredStoredSYN(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000-7001")
	client, peer, at := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 6000), endpoint4("192.0.2.1", 7001)
	if err := g.bindings.AddStatic(packet.TCP, endpoint6("2001:db8::2", 80), endpoint4("192.0.2.1", 7000)); err != nil {
		t.Fatal(err)
	}
	g.from4(packet.TCP, peer, at, packet.SYN, 0)
	now := seconds(6) + 1
	if got, _ := g.from6(packet.TCP, client, peer, packet.SYN, now); got != at { // the only port that is left
		t.Fatalf("the client's SYN leaves from %v", got)
	}
	if s := g.list(now); len(s) != 1 || s[0].State != session.V6Init {
		t.Errorf("sessions: %+v", s)
	}
	if n := len(g.syns.List(now.Duration())); n != 0 {
		t.Errorf("%d SYNs still wait", n)
	}
}

// TestPairedClientKeepsItsAddress: the port that a peer waits at is no reason for a second address.
func TestPairedClientKeepsItsAddress(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1-192.0.2.2", "")
	client, peer := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 6000)
	first, _ := g.from6(packet.UDP, client, peer, packet.Other, 0)
	elsewhere := first
	elsewhere.Addr[3] ^= 3
	g.from4(packet.TCP, peer, elsewhere, packet.SYN, 0)
	if got, r := g.from6(packet.TCP, client, peer, packet.SYN, 1); r != drop.None || got.Addr != first.Addr {
		t.Errorf("the client's SYN leaves from %v, %v, its other packets from %v", got, r, first)
	}
}

func TestSYNsAreStoredOnlyOnRequest(t *testing.T) {
	t.Parallel()
	c := defaults
	peer, at, elsewhere := endpoint4("198.51.100.1", 6000), endpoint4("192.0.2.1", 7000), endpoint4("192.0.2.1", 6999)
	for stores, want := range map[bool]drop.Reason{true: drop.StoredSYN, false: drop.NoBinding} {
		c.StoreSYNs = stores
		g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
		if _, r := g.from4(packet.TCP, peer, at, packet.SYN, 0); r != want {
			t.Errorf("StoreSYNs %v: reason %v, want %v", stores, r, want)
		}
		if _, r := g.from4(packet.TCP, peer, elsewhere, packet.SYN, 0); r != drop.NotPool4 {
			t.Errorf("StoreSYNs %v: reason %v outside of pool4", stores, r)
		}
	}
}

// TestStaticBindingDiscardsStoredSYN: the next SYN reaches the new binding, so that the first needs no answer.
func TestStaticBindingDiscardsStoredSYN(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000-7999")
	peer := endpoint4("198.51.100.1", 6000)
	for port := uint16(7000); port < 7003; port++ {
		g.from4(packet.TCP, peer, endpoint4("192.0.2.1", port), packet.SYN, 0)
	}
	if err := g.sessions.AddStatic(packet.TCP, endpoint6("2001:db8::1", 80), endpoint4("192.0.2.1", 7001)); err != nil {
		t.Fatal(err)
	}
	all := g.sweepSYNs(seconds(7))
	if len(all) != 2 || all[0].Dst.Port != 7000 || all[1].Dst.Port != 7002 {
		t.Errorf("refused: %v", all)
	}
}

// If the peer's second SYN has opened a connection, the first one is not answered.
func TestStoredSYNOfAConnection(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000")
	client, peer, at := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 6000), endpoint4("192.0.2.1", 7000)
	g.from4(packet.TCP, peer, at, packet.SYN, 0)
	g.from6(packet.TCP, client, endpoint4("198.51.100.2", 80), packet.SYN, 1)
	g.from4(packet.TCP, peer, at, packet.SYN, 2)
	if all := g.sweepSYNs(seconds(7)); len(all) != 0 {
		t.Errorf("refused: %v", all)
	}
}

// TestAddressDependentFilteringIsSwitchedLive: the mode knows the sessions that were there before it.
func TestAddressDependentFilteringIsSwitchedLive(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "7000-7999")
	client, friend, stranger := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 53), endpoint4("198.51.100.2", 53)
	at, _ := g.from6(packet.UDP, client, friend, packet.Other, 0)
	c := defaults
	friend.Port++
	for i := range 4 {
		c.AddressDependent = i%2 == 0
		g.sessions.Configure(c)
		want := map[bool]drop.Reason{true: drop.FilteredAddress, false: drop.None}[c.AddressDependent]
		if _, r := g.from4(packet.UDP, friend, at, packet.Other, 1); r != drop.None {
			t.Errorf("turn %d: reason %v for an address that the client has spoken to", i, r)
		}
		if _, r := g.from4(packet.UDP, stranger, at, packet.Other, 1); r != want {
			t.Errorf("turn %d: reason %v for a stranger, want %v", i, r, want)
		}
		g.sweep(seconds(302))
		at, _ = g.from6(packet.UDP, client, friend, packet.Other, 0)
	}
}

// TestAddressDependentFilteringOfTCP: segments without a session are held to it, too, but a SYN waits.
func TestAddressDependentFilteringOfTCP(t *testing.T) {
	t.Parallel()
	c := defaults
	c.AddressDependent = true
	g := newGateway(t, 1, 100, c, "192.0.2.1", "7000-7999")
	client, server, stranger := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80), endpoint4("198.51.100.2", 80)
	at, _ := g.from6(packet.TCP, client, server, packet.SYN, 0)
	for _, x := range []struct {
		from packet.Endpoint4
		port uint16
		ev   packet.TCPEvent
		want drop.Reason
	}{
		{server, 80, packet.Other, drop.None},
		{server, 81, packet.Other, drop.None},
		{server, 81, packet.SYN, drop.None},
		{stranger, 80, packet.Other, drop.FilteredAddress},
		{stranger, 80, packet.RST, drop.FilteredAddress},
		{stranger, 80, packet.SYN, drop.StoredSYN},
	} {
		x.from.Port = x.port
		if _, r := g.from4(packet.TCP, x.from, at, x.ev, 1); r != x.want {
			t.Errorf("event %d from %v: %v, want %v", x.ev, x.from, r, x.want)
		}
	}
	c.AllowInboundTCP = false
	g.sessions.Configure(c)
	if _, r := g.from4(packet.TCP, stranger, at, packet.SYN, 1); r != drop.Filtered {
		t.Errorf("reason %v, though connections from IPv4 are disabled", r)
	}
}
