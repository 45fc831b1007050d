package session_test

import (
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// The first answer from port 53 or 123 begins the short lifetime, a further answer does not prolong it, and a packet of
// the client restores the whole lifetime (RFC 4787 REQ-5a).
func TestShortLivedUDP(t *testing.T) {
	t.Parallel()
	const out, in = true, false
	type step struct {
		at    float64
		out   bool
		lives time.Duration // after the packet
	}
	second := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for name, x := range map[string]struct {
		port  uint16
		short time.Duration
		steps []step
	}{
		"DNS":        {53, second(10), []step{{0, out, second(300)}, {1, in, second(10)}, {3, in, second(8)}, {4, out, second(300)}, {5, in, second(10)}}},
		"NTP":        {123, second(10), []step{{0, out, second(300)}, {1, in, second(10)}}},
		"other port": {443, second(10), []step{{0, out, second(300)}, {1, in, second(300)}}},
		"off":        {53, 0, []step{{0, out, second(300)}, {1, in, second(300)}}},
		"longer":     {53, time.Hour, []step{{0, out, second(300)}, {1, in, second(300)}}},
	} {
		c := defaults
		c.Timeouts.UDPDNS = x.short
		g := newGateway(t, 1, 10, c, "192.0.2.1", "7000-7999")
		src, dst := endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", x.port)
		var mapped packet.Endpoint4
		for _, s := range x.steps {
			var r drop.Reason
			if s.out {
				mapped, r = g.from6(packet.UDP, src, dst, packet.Other, seconds(s.at))
			} else {
				_, r = g.from4(packet.UDP, dst, mapped, packet.Other, seconds(s.at))
			}
			if l := g.list(seconds(s.at)); r != drop.None || len(l) != 1 || l[0].Remaining != s.lives {
				t.Errorf("%s: at %v s: %v, %+v, want a session that lives for %v", name, s.at, r, l, s.lives)
			}
		}
		last := x.steps[len(x.steps)-1]
		end := last.at + last.lives.Seconds()
		if g.sweep(seconds(end)); len(g.listBindings()) != 1 {
			t.Errorf("%s: the binding has ended before its session", name)
		}
		if g.sweep(seconds(end + 1)); len(g.listBindings()) != 0 {
			t.Errorf("%s: the binding has not ended with its session", name)
		}
	}
}

// Packets of an IPv4 host with port 53 do not shorten a session that the host has opened and the client has not answered.
func TestShortLivedUDPUnanswered(t *testing.T) {
	t.Parallel()
	c := defaults
	c.Timeouts.UDPDNS = 10 * time.Second
	g := newGateway(t, 1, 10, c, "192.0.2.1", "7000-7999")
	mapped, _ := g.from6(packet.UDP, endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 443), packet.Other, 0)
	for range 3 {
		g.from4(packet.UDP, endpoint4("198.51.100.9", 53), mapped, packet.Other, 0)
	}
	var l []session.Session
	for _, s := range g.list(0) {
		if s.Remote.Port == 53 {
			l = append(l, s)
		}
	}
	if len(l) != 1 || l[0].Remaining != 300*time.Second {
		t.Errorf("%+v, want one session that lives for 300 s", l)
	}
}
