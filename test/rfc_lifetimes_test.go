package test

import (
	"net/netip"
	"testing"
	"time"

	"nat64d/packet"
	"nat64d/session"
)

func TestLifetimes(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"T53-05a":    transitoryTimeouts,
		"N64-5.3-04": internetSideDoesNotRefresh,
	})
}

// internetSideDoesNotRefresh sends packets from both sides after a minute, with the Internet on either side.
func internetSideDoesNotRefresh(t *testing.T) {
	for _, six := range []bool{false, true} {
		s := newSetting(t, with(func(c *session.Config) { c.InboundRefresh, c.InternetIsV6 = false, six }))
		port := sport(t, s.send(packet.V6, from6(packet.NumUDP, 0, 0)))
		for _, internet := range []bool{true, false} {
			s.advance(time.Minute)
			if internet == six {
				only(t, s.send(packet.V6, from6(packet.NumUDP, 0, 0)), packet.V4)
			} else {
				only(t, s.send(packet.V4, from4(packet.NumUDP, 0, 0, port, true)), packet.V6)
			}
			want := 5 * time.Minute
			if internet {
				want -= time.Minute
			}
			if all := s.sessions(); len(all) != 1 || all[0].Remaining.Round(time.Second) != want {
				t.Errorf("Internet on IPv6 %t, packet from there %t: sessions %+v, want one that lives %v", six, internet, all, want)
			}
		}
	}
}

// transitoryTimeouts takes a connection from its SYN through an RST to its next SYN.
func transitoryTimeouts(t *testing.T) {
	s := newSetting(t, with(func(c *session.Config) {
		c.Timeouts.TCPOpening, c.Timeouts.TCPTransitory = 5*time.Minute, 10*time.Minute
	}))
	lives := func(after string, state session.State, want time.Duration) {
		t.Helper()
		if all := s.sessions(); len(all) != 1 || all[0].State != state || all[0].Remaining.Round(time.Second) != want {
			t.Errorf("after %s the sessions are %+v, want one in %v for %v", after, all, state, want)
		}
	}
	port := sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
	lives("the SYN", session.V6Init, 5*time.Minute)
	only(t, s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN|packet.FlagACK, 0, port, true)), packet.V6)
	lives("the handshake", session.Established, 2*time.Hour)
	only(t, s.send(packet.V4, from4(packet.NumTCP, packet.FlagRST, 0, port, true)), packet.V6)
	lives("the RST", session.Trans, 10*time.Minute)
	only(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)), packet.V4)
	lives("the next SYN", session.V6Init, 5*time.Minute)

	s.bind(t, packet.TCP, netip.AddrPortFrom(secondClient, 80), netip.AddrPortFrom(poolAddr, 80))
	only(t, s.send(packet.V4, ip4(secondServer, poolAddr, packet.NumTCP, tcp(443, 80, packet.FlagSYN))), packet.V6)
	for _, x := range s.sessions() {
		if x.Remaining.Round(time.Second) != 5*time.Minute {
			t.Errorf("in %v a session lives for %v, want 5 min", x.State, x.Remaining)
		}
	}
}
