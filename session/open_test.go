package session

import (
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// TestInsertMeetsPurge takes a binding away between the moment in which a packet holds it and that in which it makes
// the session: the packet notices, and nothing is left behind.
func TestInsertMeetsPurge(t *testing.T) {
	t.Parallel()
	bindings, sessions, epochs := newTables(t, "7000", 10)
	client := packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}, Port: 5000}
	q := event{proto: packet.UDP, remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 53}}

	epochs.Enter(0)
	defer epochs.Leave(0)
	id, r := bindings.Acquire6(pool4.Request{Proto: packet.UDP, Client: client, Remote: q.remote})
	if r != drop.None || sessions.reserve(packet.UDP, 10) != drop.None {
		t.Fatal(r)
	}
	if b, s := sessions.Purge(func(bib.Binding) bool { return true }); b != 1 || s != 0 {
		t.Fatalf("purged %d bindings and %d sessions", b, s)
	}
	if r := sessions.insert(id, &q); r != drop.NoBinding {
		t.Errorf("reason %v for a session of a purged binding", r)
	}
	if sessions.Len(packet.UDP) != 0 || bindings.Len(packet.UDP) != 0 {
		t.Errorf("%d sessions and %d bindings are left", sessions.Len(packet.UDP), bindings.Len(packet.UDP))
	}
	if r := sessions.From6(&Flow{Proto: packet.UDP, Client: client, Remote: q.remote}, &Packet{Event: packet.Other}); r != drop.None {
		t.Errorf("reason %v for the next packet", r)
	}
}

// TestUpdateMeetsSweep hands a packet to a session that was found before a sweep freed it.
func TestUpdateMeetsSweep(t *testing.T) {
	t.Parallel()
	_, sessions, epochs := newTables(t, "7000", 10)
	q := event{proto: packet.UDP, remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 53}}
	epochs.Enter(0)
	defer epochs.Leave(0)
	client := packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}, Port: 5000}
	if r := sessions.From6(&Flow{Proto: packet.UDP, Client: client, Remote: q.remote}, &Packet{Event: packet.Other}); r != drop.None {
		t.Fatal(r)
	}
	id := sessions.bib.Find6(packet.UDP, &client)
	slot, e := sessions.find(sessions.index.Find(sessions.hash(id, q.remote)), id, q.remote)
	for sessions.Sweep(1, 1000, nil) {
	}
	sessions.Configure(Config{Timeouts: Timeouts{UDP: time.Hour}})
	if ok := sessions.update(slot, e, &q); ok || sessions.Len(packet.UDP) != 0 {
		t.Errorf("a packet passes through a session that is gone; %d are left", sessions.Len(packet.UDP))
	}
}

// TestInsertMeetsRecount counts clients by another prefix between the moment in which a session is admitted and that
// in which it is made: it counts for the new prefix, once.
func TestInsertMeetsRecount(t *testing.T) {
	t.Parallel()
	bindings, sessions, epochs := newTables(t, "7000", 10)
	c := Config{Timeouts: Timeouts{UDP: time.Hour}, MaxPerClient: 1, ClientPrefixLen: 48}
	sessions.Configure(c)
	client := packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}, Port: 5000}
	q := event{proto: packet.UDP, remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 53}}

	epochs.Enter(0)
	defer epochs.Leave(0)
	if r := sessions.admit(client.Addr, &q); r != drop.None {
		t.Fatal(r)
	}
	id, r := bindings.Acquire6(pool4.Request{Proto: packet.UDP, Client: client, Remote: q.remote})
	if r != drop.None {
		t.Fatal(r)
	}
	c.ClientPrefixLen = 56
	sessions.Configure(c)
	if r := sessions.insert(id, &q); r != drop.None {
		t.Fatal(r)
	}
	q.remote.Port++
	if r := sessions.admit(client.Addr, &q); r != drop.ClientSessions {
		t.Errorf("reason %v for a second session", r)
	}
	sessions.Purge(func(bib.Binding) bool { return true })
	if r := sessions.admit(client.Addr, &q); r != drop.None {
		t.Errorf("reason %v for a first one, after the session has gone", r)
	}
}

// newTables returns tables for one worker in which every lifetime is 0.
func newTables(t *testing.T, ports string, most int) (*bib.Table, *Table, *table.Epochs) {
	t.Helper()
	pool := pool4.New([16]byte{})
	entries, err := pool4.ParseRange("192.0.2.1", ports)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	epochs := table.NewEpochs(1)
	bindings := bib.New(pool, epochs, most, [16]byte{}, nil)
	return bindings, New(bindings, epochs, most, nil, Config{}, nil), epochs
}

// TestPrepareReservesPeers prepares address-dependent filtering: Configure then uses the memory that Prepare has reserved,
// and Prepare reserves none for peers that exist.
func TestPrepareReservesPeers(t *testing.T) {
	t.Parallel()
	e := table.NewEpochs(1)
	s := New(bib.New(pool4.New([16]byte{}), e, 10, [16]byte{}, nil), e, 10, nil, Config{}, nil)
	on := Config{AddressDependent: true}
	if err := s.Prepare(on); err != nil || s.prepared == nil {
		t.Fatalf("Prepare: %v, reserved %v", err, s.prepared)
	}
	reserved := s.prepared
	if s.Configure(on); s.peers.Load() != reserved || s.prepared != nil {
		t.Error("Configure does not use what Prepare has reserved")
	}
	if err := s.Prepare(on); err != nil || s.prepared != nil {
		t.Errorf("Prepare with peers: %v, reserved %v", err, s.prepared)
	}
	if err := s.Prepare(Config{}); err != nil || s.prepared != nil {
		t.Errorf("Prepare without filtering: %v, reserved %v", err, s.prepared)
	}
}
