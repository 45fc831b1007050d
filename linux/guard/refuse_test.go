//go:build linux

package guard_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/linux/guard"
)

func TestRefuse(t *testing.T) {
	t.Parallel()
	l := network(t)
	ln, err := l.Gateway.Listen("tcp", ":7022")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, c := range []struct{ addr, ports, want string }{
		{lab.Gateway4, "7000-8000", "(pid "},
		{lab.Gateway4, "7000-8000", "port 7022 of this host"},
		{lab.Gateway4, "8000-65535", "would leave it 0 of the 28232 ports"},
		{lab.Gateway4, "8000-60100", "would leave it 899 of the 28232 ports"},
		{lab.Gateway4, "7023-8000", ""},
		{lab.Spare4, "1024-65535", ""},
	} {
		e := entries(t, c.addr, c.ports)
		err := l.Gateway.Do(func() error { return guard.New(options(l)).Refuse(e) })
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s %s is refused: %v", c.addr, c.ports, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s %s: %v, want an error with %q", c.addr, c.ports, err, c.want)
		}
	}
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "33000-47000"))
	more := entries(t, lab.Gateway4, "47001-60500")
	if err := l.Gateway.Do(func() error { return g.Refuse(more) }); err == nil || !strings.Contains(err.Error(), "leave it 731 of") {
		t.Errorf("%v, want an error for the sum of new and covered entries", err)
	}
	apply(t, l, g, more) // replaces
	do(t, l, func() error { return g.Refuse(entries(t, lab.Gateway4, "33000-45000")) })
	apply(t, l, g, entries(t, lab.Gateway4, "1024-65535")) // Apply does not check: the operator may have used force
}

func TestRefuseListeningUDP(t *testing.T) {
	t.Parallel()
	l := network(t)
	open, err := l.Gateway.ListenPacket("udp4", lab.Gateway4+":7053")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	g := guard.New(options(l))
	err = l.Gateway.Do(func() error { return g.Refuse(entries(t, lab.Gateway4, "7000-7099")) })
	if err == nil || !strings.Contains(err.Error(), "port 7053") {
		t.Errorf("got %v, want the UDP port 7053 named", err)
	}
}

// connectedSockets are the kinds of connections that a host may have from its IPv4 address.
var connectedSockets = []struct{ name, network, local string }{
	{"TCP", "tcp4", lab.Gateway4 + ":7101"},
	{"UDP", "udp4", lab.Gateway4 + ":7102"},
	{"TCP of an IPv6 socket", "tcp6", "[::ffff:" + lab.Gateway4 + "]:7103"},
	{"UDP of an IPv6 socket", "udp6", "[::ffff:" + lab.Gateway4 + "]:7104"},
}

// connected opens a connection of the gateway to a port of the server, as the program would, and returns its descriptor's
// closer.
func connected(t *testing.T, l *lab.Lab, network, local, remote string) {
	t.Helper()
	at, to := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
	kind := unix.SOCK_STREAM
	if strings.HasPrefix(network, "udp") {
		kind = unix.SOCK_DGRAM
	}
	do(t, l, func() error {
		family, bind, peer := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: at.Addr().Unmap().As4(), Port: int(at.Port())}),
			unix.Sockaddr(&unix.SockaddrInet4{Addr: to.Addr().Unmap().As4(), Port: int(to.Port())})
		if strings.HasSuffix(network, "6") {
			family, bind, peer = unix.AF_INET6, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())},
				&unix.SockaddrInet6{Addr: netip.AddrFrom16(to.Addr().As16()).As16(), Port: int(to.Port())}
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Bind(fd, bind); err != nil {
			return err
		}
		return unix.Connect(fd, peer)
	})
}

// The error names the connection of the host for any kind of socket; adjacent ports are not refused.
func TestRefuseConnections(t *testing.T) {
	t.Parallel()
	l := network(t)
	ln, err := l.Server.Listen("tcp", lab.Server4+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	g := guard.New(options(l))
	for _, c := range connectedSockets {
		connected(t, l, c.network, c.local, lab.Server4+":80")
		port := netip.MustParseAddrPort(c.local).Port()
		err := l.Gateway.Do(func() error { return g.Refuse(entries(t, lab.Gateway4, fmt.Sprint(port))) })
		want := fmt.Sprintf("has a connection from %s port %d of this host to %s port 80", lab.Gateway4, port, lab.Server4)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "(pid ") {
			t.Errorf("%s: %v, want an error with %q and the program", c.name, err, want)
		}
	}
	do(t, l, func() error { return g.Refuse(entries(t, lab.Gateway4, "7105-7200")) })
	do(t, l, func() error { return g.Refuse(entries(t, lab.Spare4, "7101-7104")) })
}

// Refuse ignores sockets that do not receive from the v4 interface: a connection within the host, a socket bound to
// another interface, a listener for IPv6 only.
func TestRefuseIgnoresSocketsOfOtherInterfaces(t *testing.T) {
	t.Parallel()
	l := network(t)
	do(t, l, func() error { return l.Gateway.SetUp("lo", true) })
	ln, err := l.Gateway.Listen("tcp", lab.Gateway4+":6999")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	connected(t, l, "tcp4", lab.Gateway4+":7001", lab.Gateway4+":6999")
	for _, c := range []struct {
		network, addr, device string
		v6Only                int
	}{
		{"tcp4", "0.0.0.0:7002", l.NIC6, 0},
		{"tcp6", "[::]:7003", "", 1},
	} {
		config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			errControl := raw.Control(func(fd uintptr) {
				if c.device != "" {
					err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, c.device)
				} else {
					err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, c.v6Only)
				}
			})
			return errors.Join(err, errControl)
		}}
		do(t, l, func() error {
			ln, err := config.Listen(t.Context(), c.network, c.addr)
			if err == nil {
				t.Cleanup(func() { _ = ln.Close() })
			}
			return err
		})
	}
	do(t, l, func() error { return guard.New(options(l)).Refuse(entries(t, lab.Gateway4, "7000-7010")) })
}
