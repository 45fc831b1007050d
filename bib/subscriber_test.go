package bib

import (
	"math"
	"testing"
	"time"

	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// TestTokenBucket lets a client begin rate sessions in a burst and rate a second, although the clocks of workers
// differ, and for very large rates.
func TestTokenBucket(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 2, 7, 16, 100, 1000} {
		var r subscriber
		allowed := 0
		for now := range table.TimeOf(10 * time.Second) {
			for range rate {
				if r.spend(rate, now) {
					allowed++
				}
			}
			r.spend(0, max(now, 3)-3) // an older clock refills nothing
		}
		if most := 11 * rate; allowed > most || allowed < most-rate {
			t.Errorf("rate %d: %d sessions in ten seconds", rate, allowed)
		}
	}
	var r subscriber
	for range 1000 {
		if !r.spend(math.MaxInt, 0) {
			t.Error("an immense rate is a limit")
		}
	}
}

// TestSubscriberEndsWithLastCount gives back all counts of a client: the last one frees its row.
func TestSubscriberEndsWithLastCount(t *testing.T) {
	t.Parallel()
	b := New(pool4.New([16]byte{}), table.NewEpochs(1), 100, [16]byte{}, nil)
	b.Configure(Config{Limits: Limits{PrefixLen: 64, Sessions: 5}}, func() {})
	c := packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	var counted []table.Generation
	for range 5 {
		e, r := b.Admit(c, true, 0)
		if r != 0 {
			t.Fatal(r)
		}
		counted = append(counted, e)
	}
	for _, e := range counted {
		if b.subscribers.Load().rows.Len() != 1 {
			t.Error("the client's row is not there")
		}
		b.Leave(c, e)
	}
	if n := b.subscribers.Load().rows.Len(); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	b.Leave(c, 0) // a session that was not counted
	b.Configure(Config{}, nil)
	b.Leave(c, counted[0])
	b.Configure(Config{Limits: Limits{PrefixLen: 64, Sessions: 5}}, func() {})
	b.Leave(c, counted[0]) // a session that an earlier generation counted
	if n := b.subscribers.Load().rows.Len(); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
}
