package test

import (
	"net/netip"
	"slices"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// pool is four addresses for pool4.
var pool = []netip.Addr{
	netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2"),
	netip.MustParseAddr("203.0.113.3"), netip.MustParseAddr("203.0.113.4"),
}

func TestAllocation(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"N64-3.5.1.1-01": oneAddressForAllFlows,
		"C68-02":         oneAddressForAllProtocols,
		"N64-3.5.1.1-02": portKeepsItsClass,
		"N64-3.5.1.1-03": portKeepsItsParity,
		"N64-3.5.1.1-05": portZeroIsNeverUsed,
		"U47-16":         fullAddressIsNotLeft,
		"T53-01":         oneAddressForAllServers,
		"C68-03":         rangesNeedNotBeAdjacent,
	})
}

func oneAddressForAllFlows(t *testing.T) {
	s := newSetting(t, poolOf("", pool...))
	first := mapped(t, s, from6(packet.NumUDP, 0, 4)).Addr()
	for port := range uint16(1000) {
		if got := mapped(t, s, ip6(clientAddr, serverAs6, packet.NumUDP, udp(1024+port, 53, 4))).Addr(); got != first {
			t.Fatalf("flow %d of the client got %v, the first %v", port, got, first)
		}
	}
}

func oneAddressForAllProtocols(t *testing.T) {
	s := newSetting(t, poolOf("", pool...))
	for host := range byte(20) {
		a := clientAddr.As16()
		a[15] = host + 1
		var got []netip.Addr
		for _, b := range firsts(netip.AddrFrom16(a), serverAs6) {
			got = append(got, mapped(t, s, b).Addr())
		}
		if got[0] != got[1] || got[1] != got[2] {
			t.Errorf("host %d has the addresses %v for TCP, UDP and ICMP, want one", host, got)
		}
	}
}

func portKeepsItsClass(t *testing.T) {
	s := newSetting(t, ordinary())
	for _, number := range []uint8{packet.NumTCP, packet.NumUDP} {
		for _, port := range []uint16{1, 53, 1023, 1024, 40000, 65535} {
			m := map[uint8][]byte{packet.NumTCP: tcp(port, 80, packet.FlagSYN), packet.NumUDP: udp(port, 80, 4)}[number]
			if got := mapped(t, s, ip6(clientAddr, serverAs6, number, m)).Port(); (got < 1024) != (port < 1024) {
				t.Errorf("protocol %d: port %d was mapped to %d, which is in the other class", number, port, got)
			}
		}
	}
}

func portKeepsItsParity(t *testing.T) {
	s := newSetting(t, ordinary())
	for port := range uint16(1000) {
		if got := mapped(t, s, ip6(clientAddr, serverAs6, packet.NumUDP, udp(1024+port, 80, 4))).Port(); got%2 != port%2 {
			t.Fatalf("UDP port %d was mapped to %d, which has the other parity", 1024+port, got)
		}
	}
}

func portZeroIsNeverUsed(t *testing.T) {
	s := newSetting(t, poolOf("1-3", poolAddr))
	var got []uint16
	for port := range uint16(3) {
		got = append(got, mapped(t, s, ip6(clientAddr, serverAs6, packet.NumUDP, udp(1024+port, 80, 4))).Port())
	}
	if slices.Sort(got); !slices.Equal(got, []uint16{1, 2, 3}) {
		t.Errorf("the ports are %d, want 1 to 3 and never 0", got)
	}
	icmp6(t, s.send(packet.V6, ip6(clientAddr, serverAs6, packet.NumUDP, udp(2000, 80, 4))), 1, 3)
}

func fullAddressIsNotLeft(t *testing.T) {
	s := newSetting(t, poolOf("7000-7001", pool[:2]...))
	for port := range uint16(2) {
		mapped(t, s, ip6(clientAddr, serverAs6, packet.NumUDP, udp(2000+port, 80, 4)))
	}
	icmp6(t, s.send(packet.V6, ip6(clientAddr, serverAs6, packet.NumUDP, udp(2002, 80, 4))), 1, 3)
	if n := s.Counters.Drops(drop.PoolExhausted); n != 1 {
		t.Errorf("%d refusals were counted", n)
	}
}

func oneAddressForAllServers(t *testing.T) {
	s := newSetting(t, ordinary())
	m := tcp(40000, 443, packet.FlagSYN)
	one, two := mapped(t, s, ip6(clientAddr, serverAs6, packet.NumTCP, m)), mapped(t, s, ip6(clientAddr, behind64(secondServer), packet.NumTCP, m))
	if one != two {
		t.Errorf("the client is %v to one server and %v to another", one, two)
	}
}

func rangesNeedNotBeAdjacent(t *testing.T) {
	s := newSetting(t, poolOf("7000", pool[0]))
	for _, r := range [][2]string{{"203.0.113.1", "7010-7011"}, {"203.0.113.9", "9000"}} {
		entries, err := pool4.ParseRange(r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Pool4.Add(entries); err != nil {
			t.Fatal(err)
		}
	}
	got := map[netip.AddrPort]bool{}
	for host := range byte(4) { // a host has only one address
		for try := range byte(16) {
			a := clientAddr.As16()
			a[14], a[15] = host, try
			out := s.send(packet.V6, ip6(netip.AddrFrom16(a), serverAs6, packet.NumUDP, udp(2000, 80, 4)))
			if len(out) == 1 && out[0].side == packet.V4 {
				src, _ := addrs(t, out[0].ip)
				got[src] = true
			}
		}
	}
	if len(got) != 4 {
		t.Errorf("%d transport addresses of three ranges were used, want all four: %v", len(got), got)
	}
}

// poolOf returns an ordinary setting with another pool4.
func poolOf(ports string, pool ...netip.Addr) settingOptions {
	o := ordinary()
	o.ports, o.pool4 = ports, pool
	return o
}
