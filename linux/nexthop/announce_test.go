//go:build linux

package nexthop

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"nat64d/test/dissect"
)

// An advertisement is one that a host accepts: hop limit 255, a valid checksum, and the MAC as an option (RFC 4861 section 7.1.2).
func TestAdvertisement(t *testing.T) {
	t.Parallel()
	addr, mac := netip.MustParseAddr("2001:db8:1::1"), [6]byte{2, 0, 0, 0, 0, 6}
	for _, router := range []bool{false, true} {
		frame := advertisement(addr.As16(), mac, router)
		if _, err := dissect.IP(frame[14:]); err != nil { // verifies the checksum
			t.Fatal(err)
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
		ip, _ := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		na, _ := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if eth == nil || ip == nil || na == nil {
			t.Fatalf("not a neighbour advertisement: %v", p)
		}
		if !bytes.Equal(eth.SrcMAC, mac[:]) || eth.DstMAC.String() != "33:33:00:00:00:01" || ip.HopLimit != 255 ||
			ip.SrcIP.String() != addr.String() || ip.DstIP.String() != "ff02::1" {
			t.Errorf("%v", p)
		}
		if !na.Override() || na.Solicited() || na.Router() != router || na.TargetAddress.String() != addr.String() || len(na.Options) != 1 ||
			na.Options[0].Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(na.Options[0].Data, mac[:]) {
			t.Errorf("%+v", na)
		}
	}
}
