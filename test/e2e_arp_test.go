package test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/ops/control"
)

// arpPacket contains the fields of an ARP packet that these tests check.
type arpPacket struct {
	op     uint16
	mac    string
	sender netip.Addr
	target netip.Addr
}

func parseARP(t *testing.T, b []byte) arpPacket {
	t.Helper()
	var a layers.ARP
	if err := a.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	return arpPacket{
		op: a.Operation, mac: net.HardwareAddr(a.SourceHwAddress).String(),
		sender: netip.AddrFrom4([4]byte(a.SourceProtAddress)), target: netip.AddrFrom4([4]byte(a.DstProtAddress)),
	}
}

// linkOf returns a line of ip(8) about an interface: its name, state, and MAC.
func linkOf(t *testing.T, n *lab.Namespace, nic string) string {
	t.Helper()
	out, err := n.Output(limit(t, 10*time.Second), "ip", "-br", "link", "show", "dev", nic)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

// watchARP captures ARP on the server's link. The returned function stops and returns what the gateway sent.
func watchARP(t *testing.T, l *lab.Lab) func() []arpPacket {
	t.Helper()
	gateway := strings.Fields(linkOf(t, l.Gateway, l.NIC4))[2]
	packets := sniff(t, l.Server, "eth0", unix.ETH_P_ARP, []bpf.Instruction{bpf.RetConstant{Val: 28}})
	return func() (list []arpPacket) {
		t.Helper()
		for _, b := range packets() {
			if a := parseARP(t, b); a.mac == gateway {
				list = append(list, a)
			}
		}
		return list
	}
}

// pool4State waits until the rows of an address are in a state.
func (g *daemon) pool4State(address, want string) {
	g.t.Helper()
	eventually(g.t, recoverWithin, address+" is in state "+want, func() error {
		var all []control.Pool4Entry
		decode(g.t, g.must("pool4", "list", "-o", "json"), &all)
		for _, e := range all {
			if e.Address.String() == address && e.State != want {
				return fmt.Errorf("it is %s", e.State)
			}
		}
		return nil
	})
}

// speakFrom sends a datagram from an address of a host, which must first resolve the target.
func speakFrom(t *testing.T, n *lab.Namespace, from, to string) {
	t.Helper()
	c, err := n.DialFrom(limit(t, time.Second), net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}, "udp", to+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("?"))
}

// Addresses of pool4 are probed before they are claimed. nat64d does not claim an address that another station has or
// takes later, and reports it in the log, the status and a counter. The others work.
func TestAddressConflict(t *testing.T) {
	l := network(t, lab.Options{OneNIC: true})
	ip(t, l.Client, "addr add 192.0.2.65/24 dev eth0")
	packets := watchARP(t, l)
	// Replies to an address in conflict go to the other station, so pings must not come from there.
	g := startConfig(t, l, "pool4:\n  - { address: 192.0.2.64 }\n  - { address: 192.0.2.65, protocols: [tcp] }\n  - { address: 192.0.2.66-192.0.2.67 }\n")
	g.pool4State("192.0.2.65", "conflict")
	for _, a := range []string{"192.0.2.64", "192.0.2.66", "192.0.2.67"} {
		g.pool4State(a, "answered")
	}
	g.warned("192.0.2.65")
	probes := make(map[netip.Addr]int)
	claims := make(map[netip.Addr]int)
	for _, p := range packets() {
		switch {
		case p.sender == netip.IPv4Unspecified():
			probes[p.target]++
		case probes[p.sender] < 3 && p.sender.String() != lab.Gateway4:
			t.Errorf("%v was claimed after %d probes", p.sender, probes[p.sender])
		default:
			claims[p.sender]++
		}
	}
	taken, free := netip.MustParseAddr("192.0.2.65"), netip.MustParseAddr("192.0.2.64")
	if probes[taken] == 0 || claims[taken] != 0 || claims[free] == 0 {
		t.Errorf("probes %v, claims %v", probes, claims)
	}
	checkPing(t, l)

	ip(t, l.Client, "addr add 192.0.2.66/24 dev eth0")
	speakFrom(t, l.Client, "192.0.2.66", "192.0.2.250")
	g.pool4State("192.0.2.66", "conflict")
	g.warned("192.0.2.66")
	if out := g.must("stats", "--all"); !strings.Contains(out, "nat64_arp_conflicts_total") {
		t.Errorf("the conflicts are not counted: %s", out)
	}
	if s := g.status(); !s.Ready {
		t.Errorf("not ready, though two addresses serve: %q", s.NotReady)
	}
	g.stop()
}

// An address that the machine loses may belong to a new owner: the gateway does not claim it, and is ready again when
// the machine has it again.
func TestHostAddressLost(t *testing.T) {
	l := network(t, lab.Options{OneNIC: true})
	g := startConfig(t, l, "pool4:\n  - { address: 192.0.2.1, ports: 7000-8000 }\nbib:\n  - { proto: tcp, v4: \"192.0.2.1:9000\", v6: \"[2001:db8:1::2]:80\" }\n")
	g.pool4State(lab.Gateway4, "host")
	ip(t, l.Gateway, "addr add 192.0.2.99/24 dev "+l.NIC4)
	ip(t, l.Gateway, "addr del 192.0.2.1/24 dev "+l.NIC4) // removes the other address, which is secondary, too
	ip(t, l.Gateway, "addr replace 192.0.2.99/24 dev "+l.NIC4)
	packets := watchARP(t, l)
	g.pool4State(lab.Gateway4, "lost")
	if s := g.status(); s.Ready || !strings.Contains(strings.Join(s.NotReady, "\n"), lab.Gateway4) {
		t.Errorf("ready %v without the address: %q", s.Ready, s.NotReady)
	}
	ip(t, l.Server, "neigh flush dev eth0")
	speakFrom(t, l.Server, lab.Server4, lab.Gateway4) // no station has it
	ip(t, l.Client, "addr add 192.0.2.1/24 dev eth0")
	g.must("pool4", "add", lab.Spare4, "7000") // Run evaluates all addresses again
	g.pool4State(lab.Spare4, "answered")
	for _, p := range packets() {
		if p.sender.String() == lab.Gateway4 || p.sender == netip.IPv4Unspecified() && p.target.String() == lab.Gateway4 {
			t.Errorf("the gateway sent %+v", p)
		}
	}
	ip(t, l.Client, "addr del 192.0.2.1/24 dev eth0")
	ip(t, l.Gateway, "addr add 192.0.2.1/24 dev "+l.NIC4)
	g.pool4State(lab.Gateway4, "host")
	eventually(t, recoverWithin, "ready, and its ports reserved", func() error {
		ports, err := l.Gateway.Sysctl(reservedPorts)
		if s := g.status(); !s.Ready || !strings.Contains(ports, "7000-8000") {
			return errors.Join(err, fmt.Errorf("reserved %q, not ready %q", ports, s.NotReady))
		}
		return nil
	})
	g.stop()
}
