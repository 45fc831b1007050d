package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// smallPool has 50 ports for each protocol and short lifetimes.
const smallPool = `pool4:
  - { address: 192.0.2.64, ports: 7000-7049 }
sessions:
  allow_unsafe_timeouts: true
  timeouts: { udp: 2s, icmp: 2s, tcp_established: 60s, tcp_opening: 2s, tcp_transitory: 2s, tcp_syn: 2s }
  port_hold_down: 0s
`

const smallPorts = 50

// With a full pool, nat64d refuses new flows with an ICMPv6 error and continues existing ones. New flows work again
// when old ones expire.
func TestExhaustedPool(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) { checkExhaustion(t, network) })
	}
}

func checkExhaustion(t *testing.T, proto string) {
	l := network(t, lab.Options{Clients: 2})
	g := startConfig(t, l, smallPool)
	serveEcho(t, l)
	var held []net.Conn
	t.Cleanup(func() { closeAll(held) })
	for i := range smallPorts {
		c, err := open(l, proto, i%2, 20000+i)
		if err != nil {
			t.Fatalf("flow %d of %d: %v", i+1, smallPorts, err)
		}
		held = append(held, c)
	}
	for i := range 3 {
		c, err := open(l, proto, 0, 30000+i)
		if !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("a flow beyond the last port: got %v, want %v (ICMPv6 type 1 code 3)", err, syscall.EHOSTUNREACH)
		}
		closeAll([]net.Conn{c})
	}
	if n := g.dropped("pool_exhausted"); n < 3 {
		t.Errorf("%d packets counted as refused because no port was free, want at least 3", n)
	}
	for i, c := range held {
		if err := exchange(c, uint64(i)); err != nil {
			t.Errorf("flow %d no longer works while the pool is full: %v", i+1, err)
		}
	}
	closeAll(held)
	held = nil
	eventually(t, recoverWithin, "a new flow finds a port", func() error {
		c, err := open(l, proto, 1, 0)
		closeAll([]net.Conn{c})
		return err
	})
}

// open opens a flow from a port of the i-th client and exchanges data over it. For UDP, it makes the kernel report
// soft ICMP errors (RFC 4443 section 2.4), which a connecting TCP socket receives anyway.
func open(l *lab.Lab, proto string, i, port int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d := client(proto, i, port)
	if proto == "udp" {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVERR, 1)
			})
			return errors.Join(err, failed)
		}
	}
	c, err := l.Client.DialFrom(ctx, d, proto, target+":7")
	if err != nil {
		return nil, err
	}
	if err := exchange(c, uint64(port)); err != nil {
		_ = c.Close() // the error of the exchange is returned
		return nil, fmt.Errorf("%s from port %d: %w", proto, port, err)
	}
	return c, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close() // the flow has served its purpose
		}
	}
}
