//go:build linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Listen announces on an address in the namespace, as net.Listen does.
func (n *Namespace) Listen(network, address string) (l net.Listener, err error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false) // plain TCP only, so that measurements are comparable
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

// Dial connects to a literal address from the namespace, as net.Dialer.DialContext does. It does not resolve names:
// the resolver would run outside the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.DialFrom(ctx, net.Dialer{}, network, address)
}

// DialFrom is Dial with the given dialer, for a local address or a timeout.
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
