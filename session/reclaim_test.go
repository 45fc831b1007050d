package session_test

import (
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// reclaiming returns a gateway with ten ports that reclaims.
func reclaiming(t *testing.T) *gateway {
	c := defaults
	c.Reclaim = true
	c.PortHoldDown, c.PortRest, c.Timeouts.UDPDNS = 120*time.Second, 4*time.Second, 10*time.Second
	return newGateway(t, 1, 100, c, "192.0.2.1", "7000-7009")
}

// A new connection takes the port of the one that closed first, and never that of one that is open.
func TestReclaim(t *testing.T) {
	t.Parallel()
	server := endpoint4("198.51.100.1", 443)
	for name, closing := range map[string][]struct {
		out bool
		ev  packet.TCPEvent
	}{
		"both FINs":   {{false, packet.SYN}, {true, packet.FIN}, {false, packet.FIN}},
		"RST":         {{false, packet.SYN}, {true, packet.Other}, {false, packet.RST}},
		"refused SYN": {{false, packet.RST}},
	} {
		g := reclaiming(t)
		open := func(port uint16, now table.Time) (packet.Endpoint4, drop.Reason) {
			return g.from6(packet.TCP, endpoint6("2001:db8::1", port), server, packet.SYN, now)
		}
		var mapped [10]packet.Endpoint4
		for i := range mapped {
			mapped[i], _ = open(5000+uint16(i), 0)
		}
		for _, i := range []int{6, 3} {
			for _, p := range closing {
				if p.out {
					g.from6(packet.TCP, endpoint6("2001:db8::1", 5000+uint16(i)), server, p.ev, seconds(1))
				} else {
					g.from4(packet.TCP, server, mapped[i], p.ev, seconds(1))
				}
			}
		}
		for n, i := range []int{6, 3} {
			if m, r := open(6000+uint16(n), seconds(2)); r != drop.None || m != mapped[i] {
				t.Errorf("%s: new connection %d: %v, %v, want %v", name, n, m, r, mapped[i])
			}
		}
		if _, r := open(6002, seconds(2)); r != drop.PoolExhausted {
			t.Errorf("%s: a connection that is open lost its port: %v", name, r)
		}
		if n := g.sessions.Reclaimed(); n != 2 {
			t.Errorf("%s: %d reclaimed, want 2", name, n)
		}
	}
}

// A connection that is opened again on its port is not taken for closed, and a binding with an open session keeps its port.
func TestReclaimSparesOpenBindings(t *testing.T) {
	t.Parallel()
	g := reclaiming(t)
	server, other := endpoint4("198.51.100.1", 443), endpoint4("198.51.100.2", 443)
	for i := range uint16(10) {
		src := endpoint6("2001:db8::1", 5000+i)
		mapped, _ := g.from6(packet.TCP, src, server, packet.SYN, 0)
		g.from4(packet.TCP, server, mapped, packet.RST, 0)
		if i < 5 {
			g.from6(packet.TCP, src, server, packet.SYN, seconds(1))
		} else {
			g.from6(packet.TCP, src, other, packet.SYN, seconds(1))
		}
	}
	if _, r := g.from6(packet.TCP, endpoint6("2001:db8::1", 6000), server, packet.SYN, seconds(2)); r != drop.PoolExhausted {
		t.Errorf("reason %v, want pool exhausted", r)
	}
	if n := len(g.listBindings()); n != 10 {
		t.Errorf("%d bindings, want 10", n)
	}
}

// 1,001 ports carry 100 short TCP connections or DNS queries a second with Reclaim, for more than 5 minutes of the tables' clock, and by
// default as many queries as the lifetime after the answer and the shortest rest allow.
func TestSmallPoolSustains(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		proto   packet.Proto
		reclaim bool
		rate    int // a second
	}{
		"TCP, when_full": {packet.TCP, true, 200},
		"DNS, when_full": {packet.UDP, true, 110},
		"DNS, default":   {packet.UDP, false, 70},
	} {
		c := defaults
		c.Reclaim = x.reclaim
		c.PortHoldDown, c.PortRest, c.Timeouts.UDPDNS = 120*time.Second, 4*time.Second, 10*time.Second
		g := newGateway(t, 1, 10000, c, "192.0.2.1", "7000-8000")
		g.tries = nil // a trial of each packet would take seconds
		refused, n := 0, 0
		for now := table.Time(0); now < seconds(160); now++ {
			for range (int(now)+1)*x.rate/16 - int(now)*x.rate/16 {
				n++
				if !exchange(g, x.proto, uint16(n%28000), now) {
					refused++
				}
			}
			if now%2 == 0 {
				g.sweep(now)
			}
		}
		if refused != 0 {
			t.Errorf("%s: %d of %d are refused", name, refused, n)
		}
	}
}

// exchange is a short TCP connection or a query, and reports whether it had a port.
func exchange(g *gateway, p packet.Proto, i uint16, now table.Time) bool {
	server := endpoint4("198.51.100.1", 53)
	src := endpoint6("2001:db8::1", 32768+i)
	if p == packet.UDP {
		mapped, r := g.from6(p, src, server, packet.Other, now)
		if r == drop.None {
			g.from4(p, server, mapped, packet.Other, now)
		}
		return r == drop.None
	}
	mapped, r := g.from6(p, src, server, packet.SYN, now)
	if r != drop.None {
		return false
	}
	g.from4(p, server, mapped, packet.SYN, now)
	g.from6(p, src, server, packet.FIN, now)
	g.from4(p, server, mapped, packet.FIN, now)
	return true
}
