package pool4_test

import (
	"net/netip"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// New bindings get no avoided address while another one has a free port, not even those of clients that have an avoided
// address. They get it when no other port is free, and when it is no longer avoided.
func TestAvoidedAddressesAreChosenLast(t *testing.T) {
	t.Parallel()
	for _, block := range []int{0, 16} {
		p := pool4.New([16]byte{1})
		p.Configure(pool4.Config{Fields: pool4.AllFields, BlockSize: block})
		es, err := pool4.ParseRange("192.0.2.1-192.0.2.4", "2048-2063", packet.TCP)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Add(es); err != nil {
			t.Fatal(err)
		}
		bad := netip.MustParseAddr("192.0.2.2")
		p.Avoid([]netip.Addr{bad})
		if !p.Avoids(bad.As4()) || p.Avoids([4]byte{192, 0, 2, 1}) {
			t.Error("192.0.2.2 alone should be avoided")
		}
		ask := func(n int, paired packet.Addr4) (packet.Endpoint4, drop.Reason) {
			c := packet.Endpoint6{Addr: packet.Addr6{0: 0x20, 14: byte(n >> 8), 15: byte(n)}, Port: 40000}
			return p.Allocate(pool4.Request{Proto: packet.TCP, Client: c, Owner: c.Addr, Paired: paired})
		}
		clients := 48 / max(block, 1)
		for n := range clients {
			if e, r := ask(n, bad.As4()); r != drop.None || e.Addr == bad.As4() {
				t.Fatalf("blocks of %d: client %d got %v, %v, want another address", block, n, e, r)
			}
		}
		if e, r := ask(clients, packet.Addr4{}); r != drop.None || e.Addr != bad.As4() {
			t.Errorf("blocks of %d: with the others full, a client got %v, %v, want the avoided address", block, e, r)
		}
		if block > 0 {
			continue
		}
		p.Avoid(nil)
		if e, r := ask(clients+1, bad.As4()); r != drop.None || e.Addr != bad.As4() {
			t.Errorf("with nothing avoided, a client with an address got %v, %v", e, r)
		}
	}
}
