package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// meeting is the port of the server for hole punching.
const meeting = 30000

// onlyAnswers makes the server drop incoming SYNs, so that they neither reach its socket nor cause an RST, like a
// firewall in front of a host.
const onlyAnswers = `table inet lab {
	chain in {
		type filter hook input priority 0;
		tcp flags & (syn | ack) == syn drop
	}
}`

// Both ends connect to each other simultaneously, and TCP makes one connection of it (RFC 9293 section 3.5): the
// client's SYN has passed, and the server's SYN arrives in state V6_INIT (RFC 6146 section 3.5.2.2).
func TestSimultaneousOpenAfterIPv6SYN(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, sparePool)
	nft(t, l.Server, onlyAnswers)
	var group errgroup.Group
	var client, server net.Conn
	t.Cleanup(func() { closeAll([]net.Conn{client, server}) })
	group.Go(func() (err error) {
		client, err = punch(l.Client, lab.Client6, service, fmt.Sprintf("%s:%d", target, meeting))
		return err
	})
	eventually(t, 3*time.Second, "the client's SYN has gone by", func() error {
		return g.expectSessions("tcp", fmt.Sprintf("%s:%d", lab.Server4, meeting))
	})
	group.Go(func() (err error) {
		server, err = punch(l.Server, lab.Server4, meeting, g.binding(service).Mapped.String())
		return err
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	checkTalk(t, client, server)
	g.stop()
}

// The server's SYN arrives first and is stored until the client opens, too (RFC 6146 section 3.5.2.2): to an unbound
// port, which the client then gets, and, with address-dependent filtering, to a bound one.
func TestSimultaneousOpenAfterIPv4SYN(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		bound      bool
	}{
		{"unbound port", spareFile, false},
		{"unbound port, address-dependent filtering", spareFile + addressDependent, false},
		{"bound port, address-dependent filtering", spareFile + addressDependent, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := network(t, lab.Options{Far: true})
			g := startConfig(t, l, c.yaml)
			mapped := netip.MustParseAddrPort(lab.Spare4 + ":25001")
			if c.bound {
				mapped = bindTCP(t, g)
			}
			var group errgroup.Group
			var client, server net.Conn
			t.Cleanup(func() { closeAll([]net.Conn{client, server}) })
			group.Go(func() (err error) {
				server, err = punch(l.Server, lab.Server4, meeting, mapped.String())
				return err
			})
			eventually(t, 3*time.Second, "the server's SYN is kept", func() error {
				if g.dropped("stored_syn") == 0 {
					return errors.New("none is")
				}
				return nil
			})
			if out := g.must("session", "list", "-o", "csv"); !strings.Contains(out, "\ntcp,,") || !strings.Contains(out, "V4_INIT") {
				t.Errorf("the listing does not show a stored SYN without a client:\n%s", out)
			}
			group.Go(func() (err error) {
				client, err = punch(l.Client, lab.Client6, service, fmt.Sprintf("%s:%d", target, meeting))
				return err
			})
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			checkTalk(t, client, server)
			if got := g.binding(service).Mapped; got != mapped {
				t.Errorf("the client has %v, want %v, where the server's SYN was waiting", got, mapped)
			}
			g.stop()
		})
	}
}

// If the client does not open a connection, the server gets an ICMP error (RFC 5382 REQ-4).
func TestStoredSYNTimesOutWithError(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, spareFile+"sessions: { allow_unsafe_timeouts: true, timeouts: { tcp_syn: 1s } }\n")
	if _, err := punch(l.Server, lab.Server4, meeting, lab.Spare4+":25001"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %v (ICMP type 3 code 3)", err, syscall.ECONNREFUSED)
	}
	g.stop()
}

// A client that has bound a port by a connection accepts others on it, from any host (RFC 6146 section 3.5.2.2),
// unless this is disabled.
func TestInboundTCPToBoundPort(t *testing.T) {
	l := network(t, lab.Options{Far: true})
	g := start(t, l, sparePool)
	mapped := bindTCP(t, g).String()
	listenShared(t, l)
	for _, from := range []*lab.Namespace{l.Server, l.FarServer} {
		checkDial(t, from, mapped)
	}
	g.must("config", "set", "filtering.allow_inbound_tcp", "false")
	if _, err := l.FarServer.DialFrom(limit(t, time.Second), net.Dialer{}, "tcp", mapped); err == nil {
		t.Error("a connection from IPv4 succeeded although they are disabled")
	}
	if g.dropped("filtered") == 0 {
		t.Error("the drop is not counted")
	}
	g.stop()
}

// bindTCP binds the client's port by a connection to the far server, which stays open, and returns the mapped
// address.
func bindTCP(t *testing.T, g *daemon) netip.AddrPort {
	t.Helper()
	l := g.lab
	echoTCP(t, l.FarServer, lab.FarServer4+":7")
	c, err := punch(l.Client, lab.Client6, service, farTarget+":7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := exchange(c, 1); err != nil {
		t.Fatal(err)
	}
	return g.binding(service).Mapped
}

// listenShared runs an echo server on the client's port, which its connections use as well.
func listenShared(t *testing.T, l *lab.Lab) {
	t.Helper()
	var tcp net.Listener
	err := l.Client.Do(func() (err error) {
		c := net.ListenConfig{Control: shared}
		tcp, err = c.Listen(t.Context(), "tcp", reach6(service))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	serveTCP(t, tcp)
}

// punch connects from a fixed port that other sockets use, too.
func punch(n *lab.Namespace, from string, port uint16, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), port))
	return n.DialFrom(ctx, net.Dialer{LocalAddr: local, Control: shared}, "tcp", to)
}

// shared prepares a socket to share its port with others.
func shared(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

// checkTalk sends data in both directions of a connection.
func checkTalk(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
		if err := errors.Join(a.SetDeadline(time.Now().Add(5*time.Second)), b.SetDeadline(time.Now().Add(5*time.Second))); err != nil {
			t.Fatal(err)
		}
		if _, err := c[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 8)
		if n, err := c[1].Read(got); err != nil || string(got[:n]) != "hello" {
			t.Errorf("got %q, %v", got[:n], err)
		}
	}
}

// nft loads a ruleset in a namespace.
func nft(t *testing.T, n *lab.Namespace, rules string) {
	t.Helper()
	path, _ := tool(t, "nft")
	if out, err := n.Output(limit(t, 10*time.Second), path, rules); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}
