package bib_test

import (
	"net/netip"
	"strings"
	"testing"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// TestStaticRange adds ranges that collide in every way: all or nothing.
func TestStaticRange(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 20, "192.0.2.1", "7000-7019")
	c1, c2 := endpoint6("2001:db8::1", 8000), endpoint6("2001:db8::2", 8000)
	at := func(port uint16) packet.Endpoint4 { return endpoint4("192.0.2.1", port) }
	for _, x := range []struct {
		c    packet.Endpoint6
		m    packet.Endpoint4
		n    int
		says string
	}{
		{c1, at(9000), 10, ""},
		{c2, at(8995), 10, "192.0.2.1:9000 is in use by [2001:db8::1]:8000"},
		{c1, at(7000), 10, "has a binding to 192.0.2.1:9000: remove that first"},
		{c2, at(7000), 11, "the table is full with 20 bindings"},
		{c2, endpoint4("192.0.2.2", 7000), 1, "not in pool4"},
		{c2, at(65530), 7, "must have at least one and end at 65535"},
		{c2, at(7000), 0, "must have at least one"},
		{c2, at(65526), 10, ""},
	} {
		before := b.Len(packet.TCP)
		err := b.AddStaticRange(packet.TCP, x.c, x.m, x.n)
		if (err == nil) != (x.says == "") || err != nil && !strings.Contains(err.Error(), x.says) {
			t.Errorf("AddStaticRange(%v, %v, %d): %v, want %q", x.c, x.m, x.n, err, x.says)
		}
		if n := b.Len(packet.TCP) - before; err != nil && n != 0 {
			t.Errorf("AddStaticRange(%v, %v, %d) failed, but %d rows are there", x.c, x.m, x.n, n)
		}
	}
}

// TestFailedRangeLeavesDynamicRows: a dynamic row that a failed range has made static is dynamic again.
func TestFailedRangeLeavesDynamicRows(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 20, "192.0.2.1", "7000-7001")
	c := endpoint6("2001:db8::1", 7000)
	_, m, _ := b.hold(packet.UDP, c)
	if err := b.AddStatic(packet.UDP, endpoint6("2001:db8::2", 80), endpoint4("192.0.2.1", m.Port+1)); err != nil {
		t.Fatal(err)
	}
	if err := b.AddStaticRange(packet.UDP, c, m, 2); err == nil {
		t.Error("a range is added over another binding")
	}
	for _, x := range b.all() {
		if x.Client == c && (x.Static || x.Sessions != 1) {
			t.Errorf("the dynamic row is now %+v", x)
		}
	}
}

// TestAddressAfterRemoval: a client whose address has left pool4 gets another one, and keeps that for all its flows.
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
	for last := range byte(8) { // so that for ICMP another one follows from the client's address than for TCP
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
