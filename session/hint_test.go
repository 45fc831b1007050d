package session_test

import (
	"testing"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// TestHintOfEndedSession: within a batch a binding and its session end after they were looked up ahead.
func TestHintOfEndedSession(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 1, 100, defaults, "192.0.2.1", "")
	client, server := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 53)
	at, _ := g.from6(packet.UDP, client, server, packet.Other, 0)
	var six, four [1]session.Hint
	g.epochs.Enter(0)
	defer g.epochs.Leave(0)
	g.sessions.Ahead6([]session.Flow{{Proto: packet.UDP, Client: client, Remote: server}}, six[:])
	g.sessions.Ahead4([]session.Flow{{Proto: packet.UDP, Remote: server, Mapped: at}}, four[:])
	if got, _, r := g.hinted4(&four[0], packet.UDP, server, at, packet.Other, 0); r != drop.None || got != client {
		t.Errorf("an answer goes to %v, %v; want %v", got, r, client)
	}
	g.sessions.Purge(func(bib.Binding) bool { return true })
	if _, _, r := g.hinted4(&four[0], packet.UDP, server, at, packet.Other, 0); r != drop.NoBinding {
		t.Errorf("an answer to what has ended: %v, want %v", r, drop.NoBinding)
	}
	if _, r := g.hinted6(&six[0], packet.UDP, &client, server, 0, packet.Other, 0); r != drop.None {
		t.Errorf("the next packet from the client: %v", r)
	}
	if n := g.sessions.Len(packet.UDP); n != 1 {
		t.Errorf("%d sessions, want a new one", n)
	}
}
