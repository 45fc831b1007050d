package bib

import (
	"encoding/binary"
	"strings"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// TestFullShardRefusesBindings aims all clients at one shard, as an attacker who knows the key could. The table refuses
// bindings for which the shard has no room and gives back all counts; other shards and existing bindings work.
func TestFullShardRefusesBindings(t *testing.T) {
	t.Parallel()
	pool := pool4.New([16]byte{1})
	entries, err := pool4.ParseRange("192.0.2.1", "1-65535", packet.UDP)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	b := New(pool, table.NewEpochs(1), 1000, [16]byte{2}, nil)
	b.Configure(Config{Limits: Limits{PrefixLen: 64, Bindings: 1000}}, func() {})
	next := clientsOf(b, 0)
	var ids []ID
	last := drop.None
	for last == drop.None {
		var id ID
		if id, last = acquire(b, next()); last == drop.None {
			ids = append(ids, id)
		}
	}
	if last != drop.BindingLimit || len(ids) < 1000/b.index6.Shards()*2 || len(ids) >= 1000 {
		t.Fatalf("a shard has room for %d bindings, then: %v", len(ids), last)
	}
	for range 3000 { // more than there are slots
		if _, r := acquire(b, next()); r != drop.BindingLimit {
			t.Fatalf("reason %v for a binding in a full shard", r)
		}
	}
	err = b.AddStatic(packet.UDP, next(), packet.Endpoint4{Addr: [4]byte{192, 0, 2, 1}, Port: 1})
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a static binding in a full shard: %v", err)
	}
	checkCounts(t, b, len(ids))

	other, r := acquire(b, clientsOf(b, 1)())
	if r != drop.None {
		t.Errorf("a client of another shard: %v", r)
	}
	b.Release(other)
	b.Release(ids[0])
	if ids[0], r = acquire(b, next()); r != drop.None {
		t.Errorf("a binding after one has ended: %v", r)
	}
	for _, id := range ids {
		b.Release(id)
	}
	checkCounts(t, b, 0)
}

// clientsOf returns a function that returns a new client of a shard at each call.
func clientsOf(b *Table, shard uint64) func() packet.Endpoint6 {
	n := uint64(0)
	return func() packet.Endpoint6 {
		for {
			n++
			c := packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8}, Port: 5000}
			binary.BigEndian.PutUint64(c.Addr[8:], n)
			if b.hash(packet.UDP, &c)>>32*uint64(b.index6.Shards())>>32 == shard {
				return c
			}
		}
	}
}

func acquire(b *Table, c packet.Endpoint6) (ID, drop.Reason) {
	b.epochs.Enter(0)
	defer b.epochs.Leave(0)
	return b.Acquire6(pool4.Request{Proto: packet.UDP, Client: c})
}

// checkCounts checks all counts for a number of bindings, each of another client, all in one prefix.
func checkCounts(t *testing.T, b *Table, bindings int) {
	t.Helper()
	free, all := b.pool.Free(packet.UDP)
	subscribers := b.subscribers.Load()
	if b.Len(packet.UDP) != bindings || b.total.Load() != int64(bindings) || all-free != bindings ||
		b.clients.rows.Len() != bindings || subscribers.rows.Len() != min(bindings, 1) {
		t.Errorf("%d bindings, %d in all, %d ports, %d clients, %d subscribers; want %d", b.Len(packet.UDP), b.total.Load(),
			all-free, b.clients.rows.Len(), subscribers.rows.Len(), bindings)
	}
	if row := subscribers.rows.Find(subscribers.key(packet.Addr6{0x20, 0x01, 0x0d, 0xb8})); row != nil && row.counts[forBinding(packet.UDP)] != uint32(bindings) {
		t.Errorf("the subscriber has %d bindings, want %d", row.counts[forBinding(packet.UDP)], bindings)
	}
}

// TestMakeFindsBindingMadeMeanwhile calls make6 for a binding that another goroutine has made after the caller's look-up.
func TestMakeFindsBindingMadeMeanwhile(t *testing.T) {
	t.Parallel()
	pool := pool4.New([16]byte{1})
	entries, err := pool4.ParseRange("192.0.2.1", "7000-7009")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	b := New(pool, table.NewEpochs(1), 100, [16]byte{2}, nil)
	q := pool4.Request{Proto: packet.UDP, Client: packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8}, Port: 5000}}
	first, r := acquire(b, q.Client)
	if r != drop.None {
		t.Fatal(r)
	}
	if id, made, r := b.make6(q); id != first || made || r != drop.None {
		t.Errorf("got binding %d, made %v, %v; want binding %d", id, made, r, first)
	}
	if x := b.At(first); x.Sessions != 2 || b.Len(packet.UDP) != 1 {
		t.Errorf("%d counts of one of %d bindings, want 2 of 1", x.Sessions, b.Len(packet.UDP))
	}
	b.Configure(Config{SessionsPerBinding: 2}, nil)
	if id, made, r := b.make6(q); id != first || made || r != drop.BindingSessions {
		t.Errorf("got binding %d, made %v, %v; want binding %d, %v", id, made, r, first, drop.BindingSessions)
	}
}

// TestSubscriberGenerationsWrap replaces the subscribers until their generation wraps, with bindings and a session that
// each generation counts, and with a new binding each time while there are no limits.
func TestSubscriberGenerationsWrap(t *testing.T) {
	t.Parallel()
	pool := pool4.New([16]byte{1})
	entries, err := pool4.ParseRange("192.0.2.1", "1-65535")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	b := New(pool, table.NewEpochs(1), 100, [16]byte{2}, nil)
	b.generation-- // so that the first one is the last before the wrap
	b.generation--
	session := table.Generation(0)
	c := packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	recount := func() { session = b.JoinLocked(c, session) }
	for i := range 4 {
		if _, r := acquire(b, packet.Endpoint6{Addr: c, Port: uint16(i)}); r != drop.None {
			t.Fatal(r)
		}
		b.Configure(Config{Limits: Limits{PrefixLen: 64, Bindings: 10, Sessions: 10}}, recount)
		s := b.subscribers.Load()
		row := s.rows.Find(s.key(c))
		if s.generation == 0 || session != s.generation || row == nil || row.counts != [things]uint32{1: uint32(i + 1), forSession: 1} {
			t.Fatalf("generation %d counts %v, the session is counted by %d; want %d bindings and a session", s.generation, row, session, i+1)
		}
		b.Configure(Config{}, nil)
	}
}
