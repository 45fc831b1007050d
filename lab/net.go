package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// Listen announces on an address in the namespace, as net.Listen does.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false) // plain TCP only: what is compared should be the same everywhere
	err = n.Do(func() error {
		l, err = c.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket announces on a datagram address in the namespace, as net.ListenPacket does.
func (n *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects to a literal address from the namespace, as net.Dialer.DialContext does. Names are not resolved: the
// resolver would run outside the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.DialFrom(ctx, net.Dialer{}, network, address)
}

// DialFrom is Dial with a dialer of the caller's choice, for a local address or a time limit.
func (n *Namespace) DialFrom(ctx context.Context, d net.Dialer, network, address string) (c net.Conn, err error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("dial %s: must be a literal address: %w", address, err)
	}
	err = n.Do(func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Ping sends one ICMPv6 echo request of size bytes of data to an address and returns the time until its reply.
func (n *Namespace) Ping(ctx context.Context, address string, sequence uint16, size int) (time.Duration, error) {
	const header, request, reply = 8, 128, 129 // RFC 4443 section 4
	conn, err := n.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	out := make([]byte, header+size)
	out[0] = request // the kernel fills the checksum in
	binary.BigEndian.PutUint16(out[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(out[6:], sequence)
	start := time.Now()
	if _, err := conn.WriteTo(out, &net.IPAddr{IP: net.ParseIP(address)}); err != nil {
		return 0, err
	}
	in := make([]byte, 1<<16)
	for {
		got, from, err := conn.ReadFrom(in)
		switch {
		case err != nil && ctx.Err() != nil:
			return 0, fmt.Errorf("no reply from %s: %w", address, context.Cause(ctx))
		case err != nil:
			return 0, err
		case got >= header && in[0] == reply && from.String() == net.ParseIP(address).String() && string(in[4:8]) == string(out[4:8]):
			if got != len(out) {
				return 0, errors.New("the reply carries other data than the request")
			}
			return time.Since(start), nil
		}
	}
}
