package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"nat64d/packet"
)

// rows are prefixes of all lengths in 198.18.0.0/15.
func rows(n int) (ps []netip.Prefix) {
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		a := packet.Addr4{198, 18}
		binary.BigEndian.PutUint16(a[2:], uint16(r.Uint32()))
		ps = append(ps, netip.PrefixFrom(netip.AddrFrom4(a), 20+r.IntN(13)).Masked())
	}
	return ps
}

// A table of prefixes gives the same result as a linear search.
func TestHostsAgreeWithLinearSearch(t *testing.T) {
	t.Parallel()
	ps := rows(100)
	c := conf{denied: hosts(ps)}
	for n := range 1 << 16 {
		a := packet.Addr4{198, 18, byte(n >> 8), byte(n)}
		want := slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(netip.AddrFrom4(a)) })
		if got := c.denies(a); got != want {
			t.Fatalf("%v is denied: %v, want %v", a, got, want)
		}
	}
	if none := (conf{denied: hosts(nil), allowed: hosts(nil)}); none.denies(packet.Addr4{}) || !none.allows(new(packet.Addr6)) {
		t.Error("without rows an address is refused")
	}
}

func BenchmarkDenies(b *testing.B) {
	c := conf{denied: hosts(rows(1000))}
	a, n := packet.Addr4{203, 0, 113, 1}, 0
	ask := func() {
		if c.denies(a) {
			n++
		}
	}
	if allocs := testing.AllocsPerRun(100, ask); allocs != 0 {
		b.Fatalf("%v allocations", allocs)
	}
	for b.Loop() {
		ask()
	}
	if n > 0 {
		b.Fatal("the address is in no row")
	}
}
