package session_test

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// While less than a quarter of the ports is free, a client with more than its share of them gets no further one. Another
// client gets its own, and a lone client all of a small pool.
func TestFairShare(t *testing.T) {
	t.Parallel()
	c := defaults
	c.FairShare = true
	g := newGateway(t, 1, 1000, c, "192.0.2.1", "7000-7099")
	fill := func(client string, p packet.Proto) (n int, r drop.Reason) {
		for ; n < 1000; n++ {
			if _, r = g.from6(p, endpoint6(client, 2000+uint16(n)), endpoint4("198.51.100.1", 443), packet.SYN, 0); r != drop.None {
				break
			}
		}
		return n, r
	}
	if _, r := g.from6(packet.TCP, endpoint6("2001:db8:0:2::1", 1), endpoint4("198.51.100.1", 443), packet.SYN, 0); r != drop.None {
		t.Fatal(r)
	}
	if n, r := fill("2001:db8:0:1::1", packet.TCP); n != 75 || r != drop.ClientShare {
		t.Errorf("the first client has %d ports, then %v; want 75, client_share", n, r)
	}
	if _, r := g.from6(packet.TCP, endpoint6("2001:db8:0:1::9", 1), endpoint4("198.51.100.1", 443), packet.SYN, 0); r != drop.ClientShare {
		t.Errorf("another address of the first client: %v", r)
	}
	if n, r := fill("2001:db8:0:2::1", packet.TCP); n != 24 || r != drop.PoolExhausted {
		t.Errorf("the second client has %d more ports, then %v; want 24, pool_exhausted", n, r)
	}
	if n, r := fill("2001:db8:0:1::1", packet.UDP); n != 100 || r != drop.PoolExhausted {
		t.Errorf("a lone client has %d ports of UDP, then %v; want 100, pool_exhausted", n, r)
	}
	g.sweep(seconds(1000))
	if n, _ := fill("2001:db8:0:3::1", packet.TCP); n != 100 {
		t.Errorf("after all have ended a lone client has %d ports, want 100", n)
	}
}

// A lone client cannot take the last of a large pool, which clients that come later need.
func TestFairShareOfNewcomers(t *testing.T) {
	t.Parallel()
	c := defaults
	c.FairShare = true
	g := newGateway(t, 1, 10000, c, "192.0.2.1", "2048-4095")
	n := 0
	for ; n < 3000; n++ {
		if _, r := g.from6(packet.UDP, endpoint6("2001:db8::1", 2000+uint16(n)), endpoint4("198.51.100.1", 443), packet.Other, 0); r != drop.None {
			break
		}
	}
	if free := 2048 - n; free < 2048/32-2 || free > 2048/32 {
		t.Errorf("a lone client leaves %d ports, want about %d", free, 2048/32)
	}
	if _, r := g.from6(packet.UDP, endpoint6("2001:db8:0:9::1", 1), endpoint4("198.51.100.1", 443), packet.Other, 0); r != drop.None {
		t.Errorf("a new client: %v", r)
	}
}
