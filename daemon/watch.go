//go:build linux

package daemon

import (
	"context"
	"time"
)

// checkGuardEvery is how often the guard is checked beside link events and notifications of nftables.
const checkGuardEvery = 5 * time.Second

// watchInterfaces sets up NICs that come late or come back, and puts the guard on them: some kernels drop a chain with its NIC.
func (d *Daemon) watchInterfaces(ctx context.Context) error {
	tick := time.NewTicker(checkGuardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.link:
		case <-tick.C: // should an event have been lost
		}
		d.setUpNICs()
		d.guard.check()
	}
}

// watchLocalRoutes has the gateway follow the kernel's routes and addresses.
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
