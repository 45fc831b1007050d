//go:build linux

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"nat64d/linux/nexthop"
	"nat64d/ops/control"
)

// Our own choices: how often the daemon looks whether it is ready, and for how long after the start it does not complain:
// addresses are being probed then.
const (
	lookAtReady  = time.Second
	lookAtStart  = 50 * time.Millisecond
	startQuietly = time.Second
)

// announce tells the service manager that the daemon runs, and logs whenever it becomes ready or ceases to be, until ctx
// ends. READY=1 does not wait for interfaces, addresses or probes, which may be a long time coming: nat64ctl answers, the
// guard is in place, and packets flow as soon as they can. STATUS= has what is missing.
func (p *Daemon) announce(ctx context.Context) error {
	_, _ = systemd.SdNotify(false, systemd.SdNotifyReady) // without systemd there is nobody to tell
	for _, w := range (&backend{Daemon: p}).Status().Warnings {
		p.log.Warn(w)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var told []string
	ready := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		start, wait := time.Now(), lookAtReady
		p.avoidUnreachable()
		why := p.readiness()
		switch {
		case len(why) == 0 && !ready:
			ready, told = true, nil
			p.log.Info("ready", p.identity()...)
			_, _ = systemd.SdNotify(false, "STATUS=ready")
		case len(why) > 0 && time.Since(p.started) < startQuietly:
			wait = lookAtStart
		case len(why) > 0:
			p.complain(why, told, ready || told == nil)
			ready, told = false, why
		}
		timer.Reset(max(wait, 100*time.Since(start)))
	}
}

// avoidUnreachable has new bindings get no address that replies do not reach: one that the host has lost, that another
// station has, or that is still being probed.
func (p *Daemon) avoidUnreachable() {
	var avoid []netip.Addr
	for _, a := range p.routes.Addresses() {
		switch a.State {
		case nexthop.AddressLost, nexthop.AddressConflict, nexthop.AddressWaiting:
			avoid = append(avoid, a.Addr)
		}
	}
	p.pool.Avoid(avoid)
}

// complain logs those reasons against being ready that are new.
func (p *Daemon) complain(why, told []string, first bool) {
	for _, w := range why {
		if !slices.Contains(told, w) {
			p.log.Warn("not ready: " + w)
		}
	}
	if first {
		p.log.Info("running, but not ready", p.identity()...)
	}
	if !slices.Equal(why, told) {
		_, _ = systemd.SdNotify(false, "STATUS=not ready: "+why[0])
	}
}

// identity returns what the log says of a gateway.
func (p *Daemon) identity() []any {
	c := p.config()
	return []any{"v6", c.Interfaces.V6.Name, "v4", c.Interfaces.V4.Name, "pool6", c.Pool6, "pool4_ranges", len(p.pool.Entries()), "socket", c.Socket}
}

// readiness returns why packets of some protocol cannot be translated, a sentence each; nil: they can.
func (p *Daemon) readiness() []string {
	b := &backend{Daemon: p}
	st := control.Status{Paused: p.gateway.Paused(), Protocols: b.usage()}
	return p.notReady(&st, p.routes.Addresses())
}

func (p *Daemon) notReady(st *control.Status, addresses []nexthop.Address) (why []string) {
	for _, u := range st.Protocols {
		if u.Pool4Ports == 0 {
			why = append(why, fmt.Sprintf("pool4 has no address for %s: add one with nat64ctl pool4 add", u.Protocol))
		}
	}
	why = append(why, unconnected("v6", p.routes.Link6(), p.routes.Connected6())...)
	why = append(why, unconnected("v4", p.routes.Link4(), p.routes.Connected4())...)
	if err := p.guard.state(); err != nil {
		why = append(why, "the host may answer for pool4 and pool6, for the guard is not what it should be: "+err.Error())
	}
	why = append(why, unreachable(addresses)...)
	if st.Paused {
		why = append(why, "translation is paused: nat64ctl resume continues")
	}
	return why
}

// unconnected says what an interface lacks.
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

// namedAddresses is how many addresses of a kind the status names.
const namedAddresses = 5

// unreachable says which addresses of pool4 and static rows IPv4 hosts cannot reach, so that the gateway is not ready.
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
		why = append(why, fmt.Sprintf("%v, which pool4 or a static binding has, was an address of this host and is not any more: "+
			"replies do not arrive, and ARP is not answered for it; give it back to an interface, or take it out", a))
	}
	if n := len(lost) - namedAddresses; n > 0 {
		why = append(why, fmt.Sprintf("%d more addresses of pool4 were addresses of this host and are not any more: nat64ctl pool4 list shows them", n))
	}
	switch {
	case usable || len(lost) == len(addresses):
	case busy:
		why = append(why, "the addresses of pool4 are being probed (RFC 5227): none is answered for yet")
	default:
		why = append(why, "other stations have all addresses of pool4 that the host has not")
	}
	return why
}

// contested says which addresses of pool4 and static rows other stations have.
func contested(addresses []nexthop.Address) (warnings []string) {
	n := 0
	for _, a := range addresses {
		if a.State != nexthop.AddressConflict {
			continue
		}
		if n++; n <= namedAddresses {
			warnings = append(warnings, fmt.Sprintf("station %v has %v, which pool4 or a static binding has: ARP is not answered for it, "+
				"and replies go there; it is probed again within a minute", a.Station, a.Addr))
		}
	}
	if n -= namedAddresses; n > 0 {
		warnings = append(warnings, fmt.Sprintf("other stations have %d more addresses of pool4: nat64ctl pool4 list shows them", n))
	}
	return warnings
}
