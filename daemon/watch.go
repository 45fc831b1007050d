//go:build linux

package daemon

import (
	"context"
	"time"

	"nat64d/linux/nic"
)

// checkGuardEvery is the interval of checks of the guard without notifications of nftables.
const checkGuardEvery = 5 * time.Second

// The numbers of these intervals for each check of the processors, and for each check for lost events: of links, and of
// nftables.
const (
	placeEvery = 2
	lostEvery  = 6
)

// watchInterfaces configures new NICs and installs the guard on them, because some kernels delete a chain with its
// NIC. It places the workers by where the NICs receive, and lets settings of the NICs follow the load.
func (d *Daemon) watchInterfaces(ctx context.Context) error {
	d.setUpNICs()
	d.processors.look()
	timer := time.NewTimer(untilNext(checkGuardEvery))
	defer timer.Stop()
	var window <-chan time.Time // while the load is observed
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.link:
			d.moveNICs()
			d.gateway.Wake() // the kernel does not tell a socket that its NIC was deleted while it was down
			n = 0
		case <-timer.C:
			timer.Reset(untilNext(checkGuardEvery))
			n++
		case <-d.events.load:
			if window == nil && d.observeLoad() {
				window = time.After(nic.Window)
			}
			continue
		case <-window:
			window = nil
			if d.followLoad() {
				window = time.After(nic.Window)
			}
			continue
		}
		if n%lostEvery == 0 {
			d.setUpNICs()
		}
		if n%lostEvery == 0 || d.guard.doubtful() {
			d.guard.check()
		}
		if n%placeEvery == 0 {
			d.processors.look()
		}
	}
}
