//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nat64d/lab"
)

// Further addresses of the network, see package lab. The IPv4 addresses of the client's link are for NAT44.
const (
	Client4        = "203.0.113.2"
	GatewayClient4 = "203.0.113.1"
)

// newEnds returns a lab with a client and a server that have no interface yet.
func newEnds() (*lab.Lab, error) {
	l, err := lab.New(lab.Options{})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(l.Unplug6(), l.Unplug4()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// configureEnds sets the interfaces up.
func configureEnds(ctx context.Context, l *lab.Lab) error {
	for _, c := range []struct {
		end     *lab.Namespace
		command string
	}{
		{l.Client, "link set eth0 up"},
		{l.Client, "addr add " + lab.Client6 + "/64 dev eth0 nodad"},
		{l.Client, "addr add " + Client4 + "/24 dev eth0"},
		{l.Client, "-6 route add " + lab.Prefix6 + " via " + lab.Gateway6},
		{l.Client, "route add 192.0.2.0/24 via " + GatewayClient4},
		{l.Server, "link set eth0 up"},
		{l.Server, "addr add " + lab.Server4 + "/24 dev eth0"},
	} {
		if out, err := c.end.Output(ctx, "ip", strings.Fields(c.command)...); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c.command, err, out)
		}
	}
	return nil
}
