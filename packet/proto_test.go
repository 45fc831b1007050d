package packet_test

import (
	"net/netip"
	"testing"

	"nat64d/packet"
)

func TestMask6(t *testing.T) {
	t.Parallel()
	all := packet.Addr6(netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").As16())
	for bits := range 129 {
		want := netip.PrefixFrom(netip.AddrFrom16(all), bits).Masked().Addr().As16()
		if got := packet.Mask6(all, bits); got != want {
			t.Errorf("/%d: %v, want %v", bits, netip.AddrFrom16(got), netip.AddrFrom16(want))
		}
	}
}
