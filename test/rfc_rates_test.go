package test

import (
	"net/netip"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

func TestOwnErrorPolicy(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"ICM-05":     errorsAreLimited,   // and X79-4.4-01, X79-5.4-01: limited
		"X79-4.4-01": errorsWithoutLimit, // and X79-5.4-01: without limit
		"X79-5.4-01": errorsSwitchedOff,  // and X79-4.4-01: none
		"ICM-06a":    errorKindsAreLimitedSeparately,
		"ICM-10":     errorsByChoice,
	})
}

// errorsSwitchedOff disables all errors except those that path MTU discovery depends on.
func errorsSwitchedOff(t *testing.T) {
	o := ordinary()
	o.routes.mtu4, o.routes.mtu6 = 1400, 1400
	o.conf = func(c *gateway.Config) { c.Answers = [drop.Choices]bool{} }
	s := bound(t, o)
	nothing(t, s.send(packet.V6, hops(from6(packet.NumUDP, 0, 4), 1)))
	nothing(t, s.send(packet.V4, hops(from4(packet.NumUDP, 0, 4, 5000, true), 1)))
	nothing(t, s.send(packet.V6, of6(132, udp(40000, 443, 4))))
	if n := s.Counters.Drops(drop.HopLimit); n != 2 {
		t.Errorf("%d drops were counted, want two", n)
	}
	icmp6(t, s.send(packet.V6, from6(packet.NumUDP, 0, 1400)), 2, 0)
	icmp4(t, s.send(packet.V4, from4(packet.NumUDP, 0, 1400, 5000, true)), 3, 4)
}

// errorsByChoice are sent if, and only if, the configuration enables them.
func errorsByChoice(t *testing.T) {
	toStranger := func(s *setting) []sent {
		port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 4)))
		return s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumUDP, udp(443, port, 4)))
	}
	fromStranger := func(number uint8, message []byte) func(*setting) []sent {
		return func(s *setting) []sent { return s.send(packet.V4, ip4(secondServer, poolAddr, number, message)) }
	}
	denied := func(s *setting) []sent {
		return s.send(packet.V6, ip6(clientAddr, behind64(thirdServer), packet.NumUDP, udp(40000, 443, 4)))
	}
	for _, c := range []struct {
		name   string
		choice drop.Choice
		send   func(*setting) []sent
		want   drop.Answer // none: never answered
	}{
		{"UDP that is filtered", drop.IfFiltered, toStranger, drop.Answer{Type: 3, Code: 13}},
		{"UDP to an unbound port", drop.IfUnbound, fromStranger(packet.NumUDP, udp(443, 4000, 4)), drop.Answer{Type: 3, Code: 3}},
		{"a ping to an unbound Identifier", drop.IfUnbound, fromStranger(packet.NumICMP, echo(packet.EchoRequest4, 4000)), drop.Answer{Type: 3, Code: 1}},
		{"TCP to an unbound port", drop.IfUnbound, fromStranger(packet.NumTCP, tcp(443, 4000, packet.FlagACK)), drop.Answer{}},
		{"from a denied host", drop.IfDenied, func(s *setting) []sent {
			return s.send(packet.V4, ip4(thirdServer, poolAddr, packet.NumUDP, udp(443, 4000, 4)))
		}, drop.Answer{Type: 3, Code: 13}},
		{"to a denied host", drop.IfDenied, denied, drop.Answer{Type: 1, Code: 1}},
	} {
		for _, chosen := range []bool{false, true} {
			o := dependent()
			dependent := o.conf
			o.conf = func(conf *gateway.Config) {
				dependent(conf)
				conf.Answers[c.choice] = chosen
				conf.Deny4 = []netip.Prefix{netip.PrefixFrom(thirdServer, 32)}
			}
			got := c.send(newSetting(t, o))
			switch {
			case !chosen || c.want == drop.Answer{}:
				nothing(t, got)
			case c.want.Type == 1:
				icmp6(t, got, 1, 1)
			default:
				icmp4(t, got, c.want.Type, c.want.Code)
			}
			if t.Failed() {
				t.Fatalf("%s, chosen: %v", c.name, chosen)
			}
		}
	}
}

func errorsAreLimited(t *testing.T) {
	o := ordinary()
	o.errors = 10
	s := bound(t, o)
	flood := func(side packet.Family, b []byte) (answers int) {
		for range 10000 / 64 {
			batch := make([][]byte, 64)
			for i := range batch {
				batch[i] = b
			}
			answers += len(s.send(side, batch...))
		}
		return answers
	}
	for side, b := range map[packet.Family][]byte{
		packet.V6: hops(from6(packet.NumUDP, 0, 4), 1), packet.V4: hops(from4(packet.NumUDP, 0, 4, 5000, true), 1),
	} {
		if n := flood(side, b); n != 10 {
			t.Errorf("side %v: %d errors for 10,000 packets at once, want a burst of 10", side, n)
		}
		s.advance(time.Second)
		if n := flood(side, b); n != 10 {
			t.Errorf("side %v: a second later %d answers, want 10", side, n)
		}
	}
	quote := sentOn(map[packet.Proto]uint16{packet.UDP: 5000})[1]
	passing := ip4(routerOn4, poolAddr, packet.NumICMP, complaint(3, 1, 0, quote))
	if n := flood(packet.V4, passing); n != 10000/64*64 {
		t.Errorf("%d translated errors came out, want all", n)
	}
	if n := s.Counters.Event(metrics.ErrorLimited); n == 0 {
		t.Error("no error was counted as limited")
	}
}

// errorKindsAreLimitedSeparately floods the gateway until the limits of refusals and Time Exceeded are reached, and
// then sends thousands of packets that are too large, like simultaneous uploads.
func errorKindsAreLimitedSeparately(t *testing.T) {
	o := ordinary()
	o.errors = 10
	o.routes.mtu6, o.routes.mtu4 = 1400, 1400
	o.conf = func(c *gateway.Config) {
		c.ErrorsTotal, c.TooBigPerSecond = 10, 5000
		c.Deny4 = []netip.Prefix{netip.PrefixFrom(thirdServer, 32)}
	}
	s := bound(t, o)
	answered := func(side packet.Family, n int, b func(i int) []byte) (count int) {
		for at := 0; at < n; at += 64 {
			var batch [][]byte
			for i := range min(64, n-at) {
				batch = append(batch, b(at+i))
			}
			count += len(s.send(side, batch...))
		}
		return count
	}
	answered(packet.V6, 640, func(i int) []byte {
		return ip6(clientAddr, behind64(thirdServer), packet.NumUDP, udp(uint16(i), 443, 4))
	})
	answered(packet.V6, 640, func(i int) []byte { return hops(from6(packet.NumUDP, 0, 4), 1) })
	answered(packet.V4, 640, func(i int) []byte { return hops(from4(packet.NumUDP, 0, 4, 5000, true), 1) })
	if n := answered(packet.V6, 3000, func(int) []byte { return from6(packet.NumUDP, 0, 1400) }); n != 3000 {
		t.Errorf("3000 packets that are too large were answered by %d Packet Too Big", n)
	}
	if n := answered(packet.V4, 3000, func(int) []byte { return from4(packet.NumUDP, 0, 1400, 5000, true) }); n != 3000 {
		t.Errorf("3000 packets that are too large were answered by %d Fragmentation Needed", n)
	}
}

// A traceroute with 60 probes in flight gets 60 replies.
func TestTracerouteBurst(t *testing.T) {
	t.Parallel()
	o := ordinary()
	o.errors = 10
	s := bound(t, o)
	var six, four [][]byte
	for i := range uint16(60) {
		six = append(six, hops(of6(packet.NumUDP, udp(40000, 33434+i, 4)), 1))
		four = append(four, hops(of4(packet.NumUDP, udp(33434+i, 5000, 4)), 1))
	}
	if n, m := len(s.send(packet.V6, six...)), len(s.send(packet.V4, four...)); n != 60 || m != 60 {
		t.Errorf("60 probes were answered %d times in IPv6 and %d times in IPv4", n, m)
	}
}

func errorsWithoutLimit(t *testing.T) {
	o := ordinary()
	o.errors = 0
	s := bound(t, o)
	for range 100 {
		icmp6(t, s.send(packet.V6, hops(from6(packet.NumUDP, 0, 4), 1)), 3, 0)
		icmp4(t, s.send(packet.V4, hops(from4(packet.NumUDP, 0, 4, 5000, true), 1)), 11, 0)
	}
}
