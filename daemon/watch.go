//go:build linux

package daemon

import (
	"context"
	"time"
)

// checkGuardEvery is the interval of checks of the guard, in addition to link events and notifications of nftables.
const checkGuardEvery = 5 * time.Second

// watchInterfaces configures new NICs and installs the guard on them, because some kernels delete a chain with its
// NIC.
func (d *Daemon) watchInterfaces(ctx context.Context) error {
	tick := time.NewTicker(checkGuardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.link:
			d.gateway.Wake() // the kernel does not tell a socket that its NIC was deleted while it was down
		case <-tick.C: // in case an event was lost
		}
		d.setUpNICs()
		d.guard.check()
	}
}

// watchLocalRoutes makes the gateway follow the kernel's routes and addresses.
func (d *Daemon) watchLocalRoutes(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.routes:
			d.followLocalRoutes()
			d.guard.check()
		}
	}
}
