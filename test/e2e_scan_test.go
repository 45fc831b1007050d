package test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// The number of unused addresses in a scan, which sends one packet every two milliseconds.
const (
	scanned   = 400
	scanPause = 2 * time.Millisecond
)

// scan sends a datagram to each of many addresses.
func scan(t *testing.T, from net.PacketConn, to func(i int) string) {
	t.Helper()
	tick := time.NewTicker(scanPause)
	defer tick.Stop()
	for i := range scanned {
		<-tick.C
		a, err := net.ResolveUDPAddr("udp", to(i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := from.WriteTo([]byte("scan"), a); err != nil {
			t.Fatal(err)
		}
	}
}

// While a client scans unused addresses of the IPv4 link, the first packet of another client to a neighbour that
// answers is not delayed, even if both clients have the same prefix.
func TestScanFromIPv6(t *testing.T) {
	l := network(t, lab.Options{Clients: 2})
	ips(t, l.Gateway, "address add 198.18.0.1/16 dev "+l.NIC4)
	ips(t, l.Server, "address add 198.18.200.1/32 dev eth0", "route add 198.18.0.0/16 dev eth0")
	g := start(t, l, sparePool)
	server := listenUDP(t, l.Server, "198.18.200.1:9")
	scanner := listenUDP(t, l.Client, "["+lab.ClientAddress(1).String()+"]:0")
	scan(t, scanner, func(i int) string { return fmt.Sprintf("[64:ff9b::198.18.%d.%d]:9", 1+i/200, 1+i%200) })
	client := listenUDP(t, l.Client, "["+lab.Client6+"]:0")
	first(t, client, "[64:ff9b::198.18.200.1]:9", server)
	if g.dropped("neighbour_queue") == 0 {
		t.Error("the scan did not fill the queue: no packet was evicted")
	}
	g.stop()
}

// The same for a scan from IPv4, through static bindings of clients that are unreachable.
func TestScanFromIPv4(t *testing.T) {
	l := network(t, lab.Options{})
	ips(t, l.Server, "address add 192.0.2.3/24 dev eth0")
	var bib strings.Builder
	for i := range scanned {
		fmt.Fprintf(&bib, "  - { proto: udp, v6: \"[2001:db8:1::%d:1]:9\", v4: \"%s:%d\" }\n", 1000+i, lab.Spare4, 5000+i)
	}
	fmt.Fprintf(&bib, "  - { proto: udp, v6: \"[2001:db8:1::77]:9\", v4: \"%s:4000\" }\n", lab.Spare4)
	g := startConfig(t, l, "pool6: [ { prefix: \""+lab.Prefix6+"\" } ]\npool4: [ { address: "+lab.Spare4+", ports: 1024-65535 } ]\nbib:\n"+bib.String())
	ips(t, l.Client, "address add 2001:db8:1::77/64 dev eth0 nodad")
	client := listenUDP(t, l.Client, "[2001:db8:1::77]:9")
	scanner := listenUDP(t, l.Server, lab.Server4+":0")
	scan(t, scanner, func(i int) string { return fmt.Sprintf("%s:%d", lab.Spare4, 5000+i) })
	first(t, listenUDP(t, l.Server, "192.0.2.3:0"), lab.Spare4+":4000", client)
	if g.dropped("neighbour_queue") == 0 {
		t.Error("the scan did not fill the queue: no packet was evicted")
	}
	g.stop()
}

// first sends a single datagram, which must arrive soon.
func first(t *testing.T, from net.PacketConn, to string, at net.PacketConn) {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	if _, err := from.WriteTo([]byte("first"), a); err != nil {
		t.Fatal(err)
	}
	_ = at.SetReadDeadline(sent.Add(5 * time.Second))
	b := make([]byte, 10)
	for {
		n, _, err := at.ReadFrom(b)
		if err != nil {
			t.Fatalf("the first packet to %s did not arrive: %v", to, err)
		}
		if string(b[:n]) == "first" {
			break
		}
	}
	if took := time.Since(sent); took > time.Second {
		t.Errorf("the first packet to %s arrived after %v", to, took)
	}
}

// ips runs commands of ip(8) in a namespace.
func ips(t *testing.T, n *lab.Namespace, commands ...string) {
	t.Helper()
	path, _ := tool(t, "ip")
	for _, c := range commands {
		if out, err := n.Output(limit(t, 10*time.Second), path, strings.Fields(c)...); err != nil {
			t.Fatalf("ip %s: %v: %s", c, err, out)
		}
	}
}
