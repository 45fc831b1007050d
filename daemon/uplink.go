//go:build linux

package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/linux/pair"
	"nat64d/packet"
)

// Our own choices: how often nat64d looks for an IPv4 default route at the start, and how long another one must be there before
// nat64d moves to it, because a DHCP client often replaces its route in two steps.
const (
	lookForUplink = 200 * time.Millisecond
	uplinkSettles = time.Second
)

// awaitUplink waits for an IPv4 default route, if the v4 interface is that of the default route, and makes its interface the v4
// interface.
func (d *Daemon) awaitUplink(ctx context.Context) error {
	if !d.config().Interfaces.V4.Default {
		return nil
	}
	for told := false; ; told = true {
		name, err := pair.Uplink4()
		if err != nil {
			return err
		}
		if name != "" {
			d.conf.Store(d.config().WithUplink(name))
			return nil
		}
		if !told {
			d.log.Warn("there is no IPv4 default route, which interfaces.v4.name: default takes: waiting for one")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookForUplink):
		}
	}
}

// withUplink returns a configuration with the present v4 interface, if that is the one of the default route.
func (d *Daemon) withUplink(next *config.Config) *config.Config {
	if !next.Interfaces.V4.Default {
		return next
	}
	return next.WithUplink(d.config().Interfaces.V4.Name)
}

// watchUplink follows the IPv4 default route to another interface. While there is none, the last interface stays.
func (d *Daemon) watchUplink(ctx context.Context) error {
	if !d.config().Interfaces.V4.Default {
		return nil
	}
	timer := time.NewTimer(untilNext(checkGuardEvery))
	defer timer.Stop()
	seen := "" // the interface to move to, if it is still the one when the timer expires
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.uplink:
		case <-timer.C:
		}
		name, err := pair.Uplink4()
		switch {
		case err != nil || name == "" || name == d.config().Interfaces.V4.Name:
			seen = ""
			timer.Reset(untilNext(checkGuardEvery))
		case name == seen:
			d.moveUplink(name)
			seen = ""
			timer.Reset(untilNext(checkGuardEvery))
		default:
			seen = name
			timer.Reset(uplinkSettles)
		}
	}
}

// moveUplink makes another interface the v4 interface. Ports of the old one are closed and opened again on the new one, where the
// guard is installed first.
func (d *Daemon) moveUplink(name string) {
	d.admin.Lock()
	defer d.admin.Unlock()
	next := d.config().WithUplink(name)
	d.log.Info("the IPv4 default route has moved: following it", "interface", name, "before", d.config().Interfaces.V4.Name)
	d.conf.Store(next)
	d.routes.Move(names(next))
	d.guard.move(next)
	d.ports.moves.Add(1)
	d.nics.moved.Store(true)
	d.gateway.Wake()
	d.events.link.signal()
	d.events.pairs.signal()
}

// errMoved closes a port of an interface that is not the v4 interface any more.
var errMoved = errors.New("the IPv4 default route has moved to another interface")

// movable is a port of the interface of the default route.
type movable struct {
	gateway.Port
	moves *atomic.Uint32
	at    uint32 // the number of moves before it was opened
}

// Receive implements gateway.Port.
func (m *movable) Receive(fs []packet.Frame, wait time.Duration) (int, error) {
	if m.moves.Load() != m.at {
		return 0, errMoved
	}
	return m.Port.Receive(fs, wait)
}

// Send implements gateway.Port. It sends nothing through an interface of the past.
func (m *movable) Send(outs []packet.Out) (int, error) {
	if m.moves.Load() != m.at {
		n := 0
		for i := range outs {
			n += 1 + len(outs[i].More)
		}
		return n, errMoved
	}
	return m.Port.Send(outs)
}
