package test

import (
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
)

func TestStoredSYNIsAnsweredAfterSixSeconds(t *testing.T) {
	o := ordinary()
	o.conf = func(c *gateway.Config) { c.SYNs.Total = 16 }
	s := newSetting(t, o)
	syn := from4(packet.NumTCP, packet.FlagSYN, 700, 5000, true)
	if got := s.send(packet.V4, syn); len(got) != 0 || s.Counters.Drops(drop.StoredSYN) != 1 {
		t.Fatalf("%d packets came out at once", len(got))
	}
	s.advance(5 * time.Second)
	if got := s.send(packet.V4); len(got) != 0 {
		t.Fatal("it was answered after five seconds")
	}
	s.advance(2 * time.Second)
	var got []sent
	s.eventually(t, func() bool {
		got = append(got, s.send(packet.V4)...)
		return len(got) > 0
	})
	icmp4(t, got, 3, 3)
	if quoted := got[0].ip[28:]; string(quoted) != string(syn[:len(quoted)]) || len(got[0].ip) != 576 {
		t.Errorf("%d bytes quote %x", len(got[0].ip), quoted)
	}
}

func TestSimultaneousOpenDiscardsStoredSYN(t *testing.T) {
	o := ordinary()
	o.ports = "40000"
	o.conf = func(c *gateway.Config) { c.SYNs.Total = 16 }
	s := newSetting(t, o)
	s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN, 0, 40000, true))
	sport(t, s.send(packet.V6, from6(packet.NumTCP, packet.FlagSYN, 0)))
	if got := s.send(packet.V4, from4(packet.NumTCP, packet.FlagSYN, 0, 40000, true)); len(got) != 1 || got[0].side != packet.V6 {
		t.Fatalf("the peer's second SYN made %d packets", len(got))
	}
	s.advance(10 * time.Second)
	time.Sleep(300 * time.Millisecond) // three sweeps: time for an answer that must not be sent
	if got := s.send(packet.V4); len(got) != 0 {
		t.Errorf("the stored SYN was answered: %x", got[0].ip)
	}
}
