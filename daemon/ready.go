//go:build linux

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"nat64d/linux/nexthop"
	"nat64d/ops/control"
)

// Our own choices: the interval of readiness checks, its upper bound, and the time after the start without complaints,
// because addresses are still being probed.
const (
	lookAtReady  = time.Second
	lookAtMost   = 5 * time.Second
	lookAtStart  = 20 * time.Millisecond
	startQuietly = time.Second
)

// readiness is the state that the status and the service manager report.
type readiness struct {
	tasks   []task        // set before the tasks run
	reached chan struct{} // closed when the daemon is ready for the first time
}

// reasons returns why packets of some protocol cannot be translated, a sentence each.
func (r *readiness) reasons() (why []string) {
	for _, t := range r.tasks {
		if t.notReady != nil {
			why = append(why, t.notReady()...)
		}
	}
	return why
}

// checks returns the result of each task that can be unready.
func (r *readiness) checks() (list []control.Check) {
	for _, t := range r.tasks {
		if t.notReady != nil {
			why := t.notReady()
			list = append(list, control.Check{Name: t.name, OK: len(why) == 0, Why: strings.Join(why, "; ")})
		}
	}
	return list
}

// announce notifies the service manager, and logs whenever the daemon becomes ready or stops being so, until ctx is
// done. READY=1 waits for the sessions of an earlier process, without which new ones are refused, but not for interfaces,
// addresses or probes, which may take long: nat64ctl works, the guard is installed, and packets are translated as soon as possible.
// STATUS= contains what is missing.
func (d *Daemon) announce(ctx context.Context) error {
	for _, w := range (&backend{Daemon: d}).Status().Warnings {
		d.log.Warn(w)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var told []string
	ready := false
	var once, started sync.Once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		start, wait := time.Now(), untilNext(lookAtReady)
		d.avoidUnreachable()
		if w := d.shortage.look(d.pool.RestedShort(), start); w != "" {
			d.log.Warn(w)
		}
		if len(d.restoring()) == 0 {
			started.Do(func() { _, _ = systemd.SdNotify(false, systemd.SdNotifyReady) }) // fails if there is no service manager
		}
		why := d.readiness.reasons()
		switch {
		case len(why) == 0 && !ready:
			ready, told = true, nil
			once.Do(func() { close(d.readiness.reached) })
			d.log.Info("ready", d.identity()...)
			_, _ = systemd.SdNotify(false, "STATUS=ready")
		case len(why) > 0 && time.Since(d.started) < startQuietly:
			wait = lookAtStart
		case len(why) > 0:
			d.complain(why, told, ready || told == nil)
			ready, told = false, why
		}
		timer.Reset(nextLook(wait, time.Since(start)))
	}
}

// nextLook returns the time until the next readiness check. Checks of a large pool4 take at most one percent of the
// time, unless that would delay a check too much: the last one may just have waited for a busy processor.
func nextLook(wait, took time.Duration) time.Duration {
	return max(wait, min(100*took, lookAtMost))
}

// avoidUnreachable excludes addresses that replies cannot reach from new bindings: those that the host has lost, that
// another station has, or that are still being probed.
func (d *Daemon) avoidUnreachable() {
	var avoid []netip.Addr
	for _, a := range d.routes.Addresses() {
		switch a.State {
		case nexthop.AddressLost, nexthop.AddressConflict, nexthop.AddressWaiting:
			avoid = append(avoid, a.Addr)
		}
	}
	d.pool.Avoid(avoid)
}

// complain logs new reasons for not being ready.
func (d *Daemon) complain(why, told []string, first bool) {
	for _, w := range why {
		if !slices.Contains(told, w) {
			d.log.Warn("not ready: " + w)
		}
	}
	if first {
		d.log.Info("running, but not ready", d.identity()...)
	}
	if !slices.Equal(why, told) {
		_, _ = systemd.SdNotify(false, "STATUS=not ready: "+why[0])
	}
}

// identity returns the attributes that describe a gateway in the log.
func (d *Daemon) identity() []any {
	c := d.config()
	return []any{"v6", c.Interfaces.V6.Name, "v4", c.Interfaces.V4.Name, "pool6", c.Pool6, "pool4_ranges", len(d.pool.Entries()), "socket", c.Socket}
}

// tablesNotReady returns what the tables lack.
func (d *Daemon) tablesNotReady() (why []string) {
	for i, u := range d.usage() {
		if u.Pool4Ports > 0 {
			continue
		}
		missing := waiting(d.routes, d.followed(), protocols[i])
		if len(missing) == 0 {
			missing = []string{fmt.Sprintf("pool4 has no address for %s: add one with nat64ctl pool4 add", u.Protocol)}
		}
		for _, w := range missing {
			if !slices.Contains(why, w) {
				why = append(why, w)
			}
		}
	}
	if d.gateway.Paused() {
		why = append(why, "translation is paused: nat64ctl resume continues")
	}
	return why
}

// routesNotReady returns what the interfaces and the addresses of pool4 lack.
func (d *Daemon) routesNotReady() []string {
	return slices.Concat(unconnected("v6", d.routes.Link6(), d.routes.Connected6()),
		unconnected("v4", d.routes.Link4(), d.routes.Connected4()), unreachable(d.routes.Addresses()))
}

// unconnected returns what an interface lacks.
func unconnected(side string, l nexthop.Link, connected bool) []string {
	what := ""
	switch {
	case l.Type != "":
		what = fmt.Sprintf("is of type %s and must be an Ethernet one: waiting for one of that name", l.Type)
	case l.Index == 0:
		what = "does not exist: waiting for it"
	case !l.Up:
		what = "is down or has no carrier"
	case !connected:
		what = "has neither an address nor a route of this family: waiting for one"
	default:
		return nil
	}
	return []string{fmt.Sprintf("interface %s (%s) %s", l.Name, side, what)}
}

// namedAddresses is the maximum number of addresses of a kind in the status.
const namedAddresses = 5

// unreachable returns why IPv4 hosts cannot reach addresses of pool4 and static rows.
func unreachable(addresses []nexthop.Address) (why []string) {
	usable, busy := len(addresses) == 0, false
	var lost []netip.Addr
	for _, a := range addresses {
		switch a.State {
		case nexthop.AddressLost:
			lost = append(lost, a.Addr)
		case nexthop.AddressWaiting:
			busy = true
		case nexthop.AddressConflict:
		default:
			usable = true
		}
	}
	for _, a := range lost[:min(len(lost), namedAddresses)] {
		why = append(why, fmt.Sprintf("%v, in pool4 or a static binding, was an address of this host and is not any more: "+
			"replies do not arrive, and nat64d does not answer ARP for it; add it to an interface again, or remove it from pool4", a))
	}
	if n := len(lost) - namedAddresses; n > 0 {
		why = append(why, fmt.Sprintf("%d more addresses of pool4 were addresses of this host and are not any more: nat64ctl pool4 list shows them", n))
	}
	switch {
	case usable || len(lost) == len(addresses):
	case busy:
		why = append(why, "the addresses of pool4 are being probed (RFC 5227): ARP is not answered yet")
	default:
		why = append(why, "other stations have all addresses of pool4 that the host does not have")
	}
	return why
}

// contested returns warnings about addresses of pool4 and static rows that other stations have.
func contested(addresses []nexthop.Address) (warnings []string) {
	n := 0
	for _, a := range addresses {
		if a.State != nexthop.AddressConflict {
			continue
		}
		if n++; n <= namedAddresses {
			warnings = append(warnings, fmt.Sprintf("station %v has %v, an address of pool4 or a static binding: nat64d does not answer ARP for it, "+
				"and replies go to that station; nat64d probes again within a minute", a.Station, a.Addr))
		}
	}
	if n -= namedAddresses; n > 0 {
		warnings = append(warnings, fmt.Sprintf("other stations have %d more addresses of pool4: nat64ctl pool4 list shows them", n))
	}
	return warnings
}
