//go:build linux

package daemon

import (
	"errors"

	"nat64d/config"
	"nat64d/ops/control"
)

// listenControl creates the control socket and permits its groups to use it.
func listenControl(c *config.Config) (*control.Listener, error) {
	l, err := control.Listen(c.Socket, c.Group)
	if err != nil || c.ReadGroup == "" {
		return l, err
	}
	if err := l.AllowReaders(c.ReadGroup); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
