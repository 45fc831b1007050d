package bib_test

import (
	"net/netip"
	"testing"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// TestAddressAfterRemoval removes a client's address from pool4: the client gets another one, and keeps it for all its
// flows.
func TestAddressAfterRemoval(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 1000, "192.0.2.0/28", "1024-65535")
	c := endpoint6("2001:db8::1", 5000)
	_, first, _ := b.hold(packet.UDP, c)
	b.hold(packet.TCP, c)
	remove := func(addresses string, protos ...packet.Proto) {
		gone, err := pool4.ParseRange(addresses, "1024-65535", protos...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.pool.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	remove(netip.AddrFrom4(first.Addr).String())
	b.Unlink(func(x bib.Binding) bool { return x.Proto == packet.UDP && b.Orphan(x) })
	for last := range byte(8) { // so that the client's hash selects another one for ICMP than for TCP
		if first.Addr[3] != last {
			remove(netip.AddrFrom4([4]byte{192, 0, 2, last}).String(), packet.ICMP)
		}
	}
	_, second, r := b.hold(packet.ICMP, c)
	if r != drop.None || second.Addr == first.Addr {
		t.Fatalf("got %v, %v after %v has gone", second, r, first)
	}
	for i := range uint16(50) {
		c.Port = 6000 + i
		if _, m, _ := b.hold(packet.TCP, c); m.Addr != second.Addr {
			t.Fatalf("flow %d leaves from %v, want %v", i, m, second)
		}
	}
}
