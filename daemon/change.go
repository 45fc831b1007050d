//go:build linux

package daemon

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"nat64d/bib"
	"nat64d/config"
	"nat64d/linux/guard"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
)

// config returns the configuration in use.
func (d *Daemon) config() *config.Config { return d.conf.Load() }

// changeLocked makes next the current configuration without interrupting packets and sessions. If it fails, nothing has
// changed, except that static rows that next assigns to other clients have lost their sessions. Ranges and static
// rows added at run time stay, unless next removes the part that contains them. The caller holds d.admin.
func (d *Daemon) changeLocked(next *config.Config) error {
	old, next := d.config(), d.withUplink(next)
	if err := errors.Join(d.checkPool6(next), checkZones(old, next)); err != nil {
		return err
	}
	followed, err := d.followed().withRows(changed(d.followed().rows, old.Followed, next.Followed), d.routes)
	if err != nil {
		return err
	}
	followed.rules = next.Pool4Rules
	come := minus(next.Pool4, old.Pool4)
	both := merged(append(minus(followed.entries(), d.pool.Entries()), come...))
	if err := d.guard.refuse(both, next.Host.Force); err != nil {
		return err
	}
	if err := d.afford(next); err != nil {
		return err
	}
	local := d.localRoutesForLocked(next)
	if err := d.coverMoreLocked(additions{both, expand(next.Bindings), next.Pool6}, d.admin.local.kept(&local)); err != nil {
		return err
	}
	before := d.followed()
	d.holdLocked(followed, false)
	if err := d.takeLocked(come, expand(old.Bindings), expand(next.Bindings)); err != nil {
		d.holdLocked(before, false)
		_ = d.afford(old)         // release the reservation for next
		_ = d.settleGuardLocked() // restore the previous state; the status reports a failure
		return err
	}
	d.commitLocked(old, next, local)
	return nil
}

// takeLocked adds ranges to pool4 and replaces static rows, or does neither. The caller holds d.admin.
func (d *Daemon) takeLocked(come []pool4.Entry, old, next rows) error {
	added, _, err := d.pool.Add(come)
	if err != nil {
		return err
	}
	if err := d.rebindLocked(old, next); err != nil {
		_, _ = d.pool.Remove(added) // cannot fail: only the holder of d.admin changes pool4
		return err
	}
	return nil
}

// commitLocked is the part of a change that cannot fail. The caller holds d.admin.
func (d *Daemon) commitLocked(old, next *config.Config, local localRoutes) {
	d.conf.Store(next)
	d.admin.local = local
	d.log.level.Set(levelOf(next.Log))
	d.memory.configure(next.MemoryLimit)
	d.events.probe.signal()
	d.events.pairs.signal()
	d.metrics.follow()
	d.web.follow()
	d.gateway.Configure(d.gatewayConfigLocked(next))
	d.log.observer.Configure(natKinds[next.NATEvents])
	d.setAccounting(next.Sessions.Accounting)
	cutOut(d.pool, minus(old.Pool4, next.Pool4))
	d.holdAgainLocked(minus(next.Pool4, old.Pool4))
	d.purgeLocked()
	if err := d.settledLocked(); err != nil {
		d.log.Error("cannot update the guard, the host may answer for pool4 and pool6", "error", err)
	}
}

// settledLocked applies the consequences of a change of pool4, static rows or pool6. Its error is a warning.
// The caller holds d.admin.
func (d *Daemon) settledLocked() error {
	d.gateway.Pool4Changed()
	d.routes.SetProxied(d.proxiedLocked())
	d.dns64.follow(d.basisLocked())
	d.events.pool4.signal()
	d.events.pairs.signal()
	return errors.Join(d.settleGuardLocked(), d.saveListsLocked())
}

// purgeLocked ends the bindings whose transport address is no longer in pool4, except those of earlier addresses of interfaces,
// and their sessions. The caller holds d.admin.
func (d *Daemon) purgeLocked() (bindings, sessions int) {
	f := d.followed()
	maps.DeleteFunc(d.admin.static, func(e pool4.Entry, _ netip.AddrPort) bool { return !d.pool.Has(e.Addr.As4()) && !f.on(e.Addr) })
	return d.gateway.Sessions.Purge(func(b bib.Binding) bool { return d.gateway.Bindings.Orphan(b) && !f.ends(&b) })
}

// additions extend the coverage of the guard during a change.
type additions struct {
	pool4  []pool4.Entry
	static rows
	pool6  []pool6.Prefix
}

// coverMoreLocked extends the guard to more, so that the host ignores packets before they are translated. It leaves only
// bypass of the prefixes to the host. If it fails, nothing has changed. The caller holds d.admin.
func (d *Daemon) coverMoreLocked(more additions, bypass []netip.Prefix) error {
	return d.guard.cover(d.coveredLocked(more, bypass))
}

// settleGuardLocked makes the guard cover the current pool4, static rows and pool6. An error is only reported in the
// status, because translation has changed already. The caller holds d.admin, unless nothing runs yet.
func (d *Daemon) settleGuardLocked() error {
	return d.guard.settle(d.coveredLocked(additions{}, d.admin.local.bypass))
}

// coveredLocked returns what the guard must cover now, and more. The caller holds d.admin, unless nothing runs yet.
func (d *Daemon) coveredLocked(more additions, bypass []netip.Prefix) guard.Covered {
	static := maps.Clone(d.admin.static)
	maps.Copy(static, more.static)
	c := guard.Covered{
		Pool4:  merged(slices.Concat(d.pool.Entries(), d.followed().ended(), mapped(static), more.pool4)),
		Pool6:  union(d.config().Pool6, more.pool6),
		Bypass: bypass,
	}
	for e := range static {
		if e.Proto == packet.ICMP {
			c.Echo = append(c.Echo, e)
		}
	}
	return c
}
