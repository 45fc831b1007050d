package test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// service is a port of the client and its mapped port in sparePool.
const service = 20000

// reach4 and reach6 are the two sides of a static binding of a port of the client.
func reach4(port int) string { return fmt.Sprintf("%s:%d", lab.Spare4, port) }
func reach6(port int) string { return fmt.Sprintf("[%s]:%d", lab.Client6, port) }

// IPv4 hosts ping a client and send it large datagrams through static bindings, from the server's link and from
// beyond.
func TestLargePacketsFromIPv4(t *testing.T) {
	l := network(t, lab.Options{Far: true})
	g := start(t, l, sparePool)
	g.must("bib", "add", "udp,icmp", reach4(service), reach6(service))
	echoUDP(listenUDP(t, l.Client, reach6(service)))
	for _, from := range []*lab.Namespace{l.Server, l.FarServer} {
		for i, size := range []int{56, 1472, 8000, 60000} {
			if err := pingTwice(t, from, lab.Spare4, service, uint16(i), size); err != nil {
				t.Errorf("ping with %d bytes: %v", size, err)
			}
			if err := echoDatagram(t, from, reach4(service), size); err != nil {
				t.Errorf("%d bytes over UDP: %v", size, err)
			}
		}
	}
	g.stop()
}

// pingTwice repeats an unanswered ping, because the packet that discovers the path MTU is lost.
func pingTwice(t *testing.T, n *lab.Namespace, address string, identifier, sequence uint16, size int) error {
	t.Helper()
	if _, err := n.PingAs(limit(t, time.Second), address, identifier, sequence, size); err == nil {
		return nil
	}
	_, err := n.PingAs(limit(t, 5*time.Second), address, identifier, sequence, size)
	return err
}

// The IPv6 side pings with large packets; a third host then reaches the client by the bound Identifier.
func TestLargePingFromIPv6(t *testing.T) {
	l := network(t, lab.Options{Far: true})
	g := start(t, l, sparePool)
	for i, size := range []int{1452, 8000, 60000} {
		if _, err := l.Client.PingAs(limit(t, 5*time.Second), lab.Server4As6, service, uint16(i), size); err != nil {
			t.Errorf("ping with %d bytes: %v", size, err)
		}
	}
	m := g.binding(service).Mapped
	if _, err := l.FarServer.PingAs(limit(t, 5*time.Second), m.Addr().String(), m.Port(), 1, 8000); err != nil {
		t.Errorf("ping of the bound Identifier %d by a third host: %v", m.Port(), err)
	}
	g.stop()
}

// IPv4 hosts reach a server in the IPv6 network through a range of ports of the gateway's own address, bound by a
// command or in the file.
func TestPortRangeToIPv6Server(t *testing.T) {
	const file = `pool4:
  - { address: 192.0.2.1, ports: 7000-7999 }
bib:
  - { proto: "tcp,udp", v6: "[2001:db8:1::2]:8000-8004", v4: "192.0.2.1:8000-8004" }
`
	l := network(t, lab.Options{Far: true})
	g := startConfig(t, l, file)
	for port := 8000; port <= 8010; port++ {
		echoTCP(t, l.Client, reach6(port))
	}
	out := g.must("bib", "add", "tcp", "192.0.2.1:8005-8010", reach6(8005)+"-8010")
	if want := "added 192.0.2.1:8005-8010 to [2001:db8:1::2]:8005-8010 for tcp\n"; out != want {
		t.Errorf("the output is %q, want %q", out, want)
	}
	for _, from := range []*lab.Namespace{l.Server, l.FarServer} {
		for port := 8000; port <= 8010; port++ {
			checkDial(t, from, fmt.Sprintf("%s:%d", lab.Gateway4, port))
		}
	}
	var all []control.Binding
	decode(t, g.must("bib", "list", "--tcp", "-o", "json"), &all)
	for _, b := range all {
		if !b.Static || b.Client.Port() != b.Mapped.Port() {
			t.Errorf("binding %+v must be static and keep the port", b)
		}
	}
	if len(all) != 11 {
		t.Errorf("%d bindings, want 11", len(all))
	}
	g.must("bib", "remove", "tcp", "192.0.2.1:8005-8010")
	if _, err := l.Server.DialFrom(limit(t, time.Second), net.Dialer{}, "tcp", lab.Gateway4+":8005"); err == nil {
		t.Error("a removed binding still carries connections")
	}
	checkDial(t, l.Server, lab.Gateway4+":8004")
	g.stop()
}

// checkDial opens a TCP connection and exchanges data with the echo server behind it.
func checkDial(t *testing.T, from *lab.Namespace, address string) {
	t.Helper()
	c, err := from.Dial(limit(t, 5*time.Second), "tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if err := exchange(c, uint64(netip.MustParseAddrPort(address).Port())); err != nil {
		t.Errorf("%s: %v", address, err)
	}
}
