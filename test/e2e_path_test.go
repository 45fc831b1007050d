package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// Two IPv6 hosts reach each other by their pool4 addresses (RFC 6146 section 3.8), on an address that only the
// gateway has and on the gateway's own.
func TestHairpin(t *testing.T) {
	for _, pool4 := range []string{sparePool, ownPool} {
		t.Run(pool4, func(t *testing.T) {
			l := network(t, lab.Options{Clients: 2})
			g := start(t, l, pool4)
			serveEcho(t, l)
			a, err := open(l, "udp", 0, 20000)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = a.Close() })
			mapped := g.binding(20000).Mapped
			_ = a.Close() // free its port for a socket that accepts any peer
			server, err := l.Client.ListenPacket("udp", net.JoinHostPort(lab.Client6, "20000"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			echoUDP(server)
			// The neighbour is resolved by now, so a hairpinned packet does not wait.
			if _, err := open(l, "udp", 1, 20001); err != nil {
				t.Fatal(err)
			}
			b, err := l.Client.DialFrom(limit(t, 5*time.Second), client("udp", 1, 20002), "udp", as6(mapped))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			if err := exchange(b, 1); err != nil {
				t.Error(err)
			}
			g.stop()
		})
	}
}

// Datagrams larger than the MTU pass in both directions as fragments, and the host's own stack does not interfere.
func TestFragments(t *testing.T) {
	for _, pool4 := range []string{sparePool, ownPool} {
		t.Run(pool4, func(t *testing.T) {
			l := network(t, lab.Options{})
			g := start(t, l, pool4)
			serveEcho(t, l)
			for _, size := range []int{4000, 20000, 60000} {
				if err := echoDatagram(t, l.Client, target+":7", size); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
			g.stop()
		})
	}
}

// echoDatagram sends size bytes to a UDP echo server and expects them back. It repeats an unanswered datagram,
// because the one that discovers the path MTU is lost.
func echoDatagram(t *testing.T, n *lab.Namespace, address string, size int) error {
	t.Helper()
	c, err := n.Dial(limit(t, 5*time.Second), "udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	out, in := make([]byte, size), make([]byte, 1<<16)
	if _, err := io.ReadFull(lab.Stream(int64(size)), out); err != nil {
		return err
	}
	for range 3 {
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err = c.Write(out); err != nil {
			continue // the kernel has just received the path MTU
		}
		var got int
		if got, err = c.Read(in); err == nil {
			if !bytes.Equal(in[:got], out) {
				return fmt.Errorf("%d different bytes came back", got)
			}
			return nil
		}
	}
	return err
}

// A packet from IPv4 whose TTL expires at the gateway is answered with Time Exceeded.
func TestTimeExceededToIPv4(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, sparePool)
	serveEcho(t, l)
	c, err := open(l, "udp", 0, 20000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, 1),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_RECVERR, 1))
		})
		return errors.Join(err, failed)
	}}
	s, err := l.Server.DialFrom(limit(t, 5*time.Second), d, "udp", g.binding(20000).Mapped.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := exchange(s, 1); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("got %v, want %v (ICMP type 11)", err, syscall.EHOSTUNREACH)
	}
	if g.dropped("hop_limit") == 0 {
		t.Error("the drop is not counted")
	}
	g.stop()
}

// The machine's own address is added to and removed from pool4 while the gateway runs: guard and reserved ports
// follow.
func TestPoolChangesWhileRunning(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, "198.51.100.7:7000-8000")
	serveHTTP(t, l)
	reserved := func(want string) {
		t.Helper()
		if got, err := l.Gateway.Sysctl(reservedPorts); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", reservedPorts, got, want, err)
		}
	}
	checkDownload(t, l, 1<<20)
	reserved("")
	g.must("pool4", "add", lab.Gateway4, "7000-8000")
	g.must("pool4", "remove", "198.51.100.7", "7000-8000")
	resets := watchResets(t, l)
	checkDownload(t, l, 1<<20)
	if n := resets(); n != 0 {
		t.Errorf("the machine answered %d packets with RST", n)
	}
	reserved("7000-8000")
	if _, errs, code := g.ctl("pool4", "add", lab.Gateway4, "1024-65535"); code != 1 || !strings.Contains(errs, "ip_local_port_range") {
		t.Errorf("all ports of the machine's own address: exit code %d, want 1; the error %q must explain why the host needs them", code, errs)
	}
	g.must("pool4", "flush", "--yes")
	reserved("")
	g.stop()
}

// binding returns the binding of a port of a client.
func (g *daemon) binding(port uint16) control.Binding {
	g.t.Helper()
	var all []control.Binding
	decode(g.t, g.must("bib", "list", "-o", "json"), &all)
	for _, b := range all {
		if b.Client.Port() == port {
			return b
		}
	}
	g.t.Fatalf("no binding of port %d among %d", port, len(all))
	return control.Binding{}
}

// as6 returns the IPv6 transport address for an IPv4 one with the well-known prefix (RFC 6052 section 2.4).
func as6(a netip.AddrPort) string {
	b := netip.MustParsePrefix(lab.Prefix6).Addr().As16()
	copy(b[12:], a.Addr().AsSlice())
	return netip.AddrPortFrom(netip.AddrFrom16(b), a.Port()).String()
}
