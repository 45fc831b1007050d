package test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	link "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/ops/control"
	"nat64d/packet"
)

// Hosts with forged addresses flood two bound ports. The clients behind them answer, because the kernel of a server
// cannot recognize a forged SYN. The table does not fill, and other clients still open connections.
func TestClientsConnectDuringInboundFlood(t *testing.T) {
	const most, udpPort, tcpPort = 4_000, 7001, 7002
	l := network(t, lab.Options{})
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: %[1]s, ports: 7000-60000 } ]
sessions: { max: %[2]d }
bib:
  - { proto: udp, v6: "[%[3]s]:9", v4: "%[1]s:%[4]d" }
  - { proto: tcp, v6: "[%[3]s]:7", v4: "%[1]s:%[5]d" }
`, lab.Spare4, most, lab.Client6, udpPort, tcpPort))
	serveHTTP(t, l)
	echoTCP(t, l.Client, "["+lab.Client6+"]:7")
	flooded := make(chan error, 1)
	go func() { flooded <- floodBoundPorts(l, 3_000, udpPort, tcpPort) }()
	slowest := time.Duration(0)
	for done := false; !done; {
		select {
		case err := <-flooded:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		start := time.Now()
		checkDownload(t, l, 1<<10)
		slowest = max(slowest, time.Since(start))
	}
	used, evicted := g.counter("nat64_inbound_sessions"), g.counter("nat64_inbound_sessions_evicted_total")
	t.Logf("%d sessions from IPv4, %d evicted; the slowest connection took %v", used, evicted, slowest)
	if used > most/4 || evicted == 0 || g.dropped("session_limit") != 0 {
		t.Errorf("%d sessions from IPv4 and %d packets that found the table full, want %d and 0 at most", used, g.dropped("session_limit"), most/4)
	}
}

// floodBoundPorts sends n datagrams and n SYNs, each from a different address, to two ports of pool4.
func floodBoundPorts(l *lab.Lab, n int, udpPort, tcpPort uint16) error {
	var to link.Addr
	if err := l.Gateway.Do(func() error {
		nic, err := net.InterfaceByName(l.NIC4)
		if err == nil {
			to.HardwareAddr = nic.HardwareAddr
		}
		return err
	}); err != nil {
		return err
	}
	return l.Server.Do(func() error {
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		wire, err := link.Listen(nic, link.Datagram, unix.ETH_P_IP, nil)
		if err != nil {
			return err
		}
		defer wire.Close()
		dst := netip.MustParseAddr(lab.Spare4)
		for i := range n {
			src := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
			for _, p := range [][]byte{ip4(src, dst, packet.NumUDP, udp(1000, udpPort, 4)), ip4(src, dst, packet.NumTCP, tcp(1000, tcpPort, 2))} {
				if _, err := wire.WriteTo(p, &to); err != nil {
					return err
				}
			}
			if i%20 == 0 {
				time.Sleep(time.Millisecond) // about 20,000 packets a second
			}
		}
		return nil
	})
}

// counter returns the value of a counter without labels.
func (g *daemon) counter(name string) uint64 {
	g.t.Helper()
	var all []control.Counter
	decode(g.t, g.must("stats", "--all", "-o", "json"), &all)
	for _, c := range all {
		if c.Name == name && len(c.Labels) == 0 {
			return c.Value
		}
	}
	g.t.Fatalf("no counter %s among %d", name, len(all))
	return 0
}
