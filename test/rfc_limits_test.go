package test

import (
	"net/netip"
	"testing"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
	"nat64d/session"
)

func TestLimits(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"LIM-01": bindingHasSoManySessions, // and C68-05
	})
}

func bindingHasSoManySessions(t *testing.T) {
	s := newSetting(t, with(func(c *session.Config) { c.MaxPerBinding = 5 }))
	server := func(host byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, host}) }
	port := uint16(0)
	for host := range byte(8) {
		got := s.send(gateway.V6, ip6(clientAddr, behind64(server(host)), packet.NumUDP, udp(40000, 53, 4)))
		if host < 5 {
			port = sport(t, got)
		} else {
			icmp6(t, got, 1, 3)
		}
	}
	nothing(t, s.send(gateway.V4, ip4(server(6), poolAddr, packet.NumUDP, udp(53, port, 4))))
	if n := s.Counters.Drops(drop.BindingSessions); n != 4 {
		t.Errorf("%d refusals were counted, want 4", n)
	}
	only(t, s.send(gateway.V4, ip4(server(1), poolAddr, packet.NumUDP, udp(53, port, 4))), gateway.V6) // what there is goes on
	if n := newFlows(t, s, clientAddr, 2000, 5); n != 5 {
		t.Errorf("%d flows through other bindings of the client passed, want 5", n)
	}
}
