package session_test

import (
	"encoding/binary"
	"testing"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// All sessions of a binding hash to one shard, as an attacker with the key could arrange. When the shard is full,
// sessions are refused and all counters restored; other shards and existing sessions are not affected.
func TestFullShardRefusesSessions(t *testing.T) {
	t.Parallel()
	c := defaults
	c.AddressDependent, c.MaxPerClient = true, 1000
	g := newGateway(t, 1, 1000, c, "192.0.2.1", "7000-7999")
	client := endpoint6("2001:db8::1", 5000)
	mapped, r := g.from6(packet.UDP, client, endpoint4("198.51.100.1", 53), packet.Other, 0)
	if r != drop.None {
		t.Fatal(r)
	}
	id := g.bindings.Find6(packet.UDP, &client)
	next := remotesOf(id, 0)
	n := 1
	for r == drop.None {
		if _, r = g.from6(packet.UDP, client, next(), packet.Other, 0); r == drop.None {
			n++
		}
	}
	if r != drop.SessionLimit || n < 2*1000/64 || n >= 1000 {
		t.Fatalf("a shard has room for %d sessions, then: %v", n, r)
	}
	for range 3000 { // more than there are slots
		remote := next()
		if _, r := g.from6(packet.UDP, client, remote, packet.Other, 0); r != drop.SessionLimit {
			t.Fatalf("reason %v for a session in a full shard", r)
		}
		if _, r := g.from4(packet.UDP, remote, mapped, packet.Other, 0); r != drop.FilteredAddress {
			t.Fatalf("reason %v for an address that only a refused session was for", r)
		}
	}
	c.AddressDependent = false
	g.sessions.Configure(c)
	if _, r := g.from4(packet.UDP, next(), mapped, packet.Other, 0); r != drop.SessionLimit || g.sessions.InboundLen() != 0 {
		t.Errorf("reason %v for a session from IPv4 in a full shard; %d are counted", r, g.sessions.InboundLen())
	}
	if s, b := g.sizes(); s != n || b != 1 {
		t.Errorf("%d sessions of %d bindings, want %d of 1", s, b, n)
	}

	c.MaxPerClient = n + 1
	g.sessions.Configure(c)
	other := remotesOf(id, 1)
	_, first := g.from6(packet.UDP, client, other(), packet.Other, 0)
	_, second := g.from6(packet.UDP, client, other(), packet.Other, 0)
	if first != drop.None || second != drop.ClientSessions {
		t.Errorf("in another shard, with one session left to the client: %v and %v", first, second)
	}
	g.sweep(seconds(301))
	if s, b := g.sizes(); s != 0 || b != 0 {
		t.Errorf("%d sessions and %d bindings are left", s, b)
	}
}

// remotesOf returns a function that returns another remote at each call, whose sessions with the binding are in a shard of a
// table for 1,000.
func remotesOf(id bib.ID, shard uint64) func() packet.Endpoint4 {
	key, n := table.NewKey([16]byte{2}), uint32(0)
	return func() packet.Endpoint4 {
		for {
			n++
			at := packet.Endpoint4{Port: 53}
			binary.BigEndian.PutUint32(at.Addr[:], 10<<24+n)
			if key.Hash(uint64(id), uint64(10<<24+n)<<16|53, 0)>>32*64>>32 == shard {
				return at
			}
		}
	}
}
