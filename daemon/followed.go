//go:build linux

package daemon

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"nat64d/bib"
	"nat64d/linux/guard"
	"nat64d/linux/nexthop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/state"
)

// following is the rows of pool4 that stand for the address of an interface, and the ranges that they have put into pool4. A value
// is immutable; only the holder of d.admin replaces it.
//
// When the address of an interface changes, its ranges leave pool4, and those of the new address enter it. The bindings of the
// old address continue while the host has it. When the host has lost it, they continue until the interface has another
// address: a DHCP client often deletes an address for a moment.
type following struct {
	rows   []pool4.Followed
	rules  []pool4.Rule          // of the configuration
	above  uint16                // the first port above the host's ephemeral ones
	at     map[string]netip.Addr // the address of each interface that has one
	held   []pool4.Entry         // ranges that are in pool4 because of rows only
	ending []state.Followed      // ranges of earlier addresses, whose bindings continue
}

// entries returns the ranges that the rows stand for.
func (f *following) entries() []pool4.Entry {
	var es []pool4.Entry
	for _, r := range f.rows {
		if a, ok := f.at[r.Interface]; ok {
			es = append(es, r.Entry(a, f.above))
		}
	}
	return merged(es)
}

// rulesNow returns the rules with the addresses of their interfaces.
func (f *following) rulesNow() []pool4.Rule {
	rules := slices.Clone(f.rules)
	for i := range rules {
		if r := &rules[i]; r.Interface != "" {
			r.First, r.Last = f.at[r.Interface], f.at[r.Interface]
		}
	}
	return rules
}

// has reports whether a row has an interface.
func (f *following) has(name string) bool {
	return slices.ContainsFunc(f.rows, func(r pool4.Followed) bool { return r.Interface == name })
}

// via returns the interface that has an address.
func (f *following) via(a netip.Addr) string {
	for name, have := range f.at {
		if have == a {
			return name
		}
	}
	return ""
}

// source returns the interface whose address a range of pool4 is there for, or "".
func (f *following) source(e pool4.Entry) string {
	for _, have := range f.held {
		if have.Addr == e.Addr && have.Proto == e.Proto && have.Lo <= e.Hi && e.Lo <= have.Hi {
			return f.via(e.Addr)
		}
	}
	return ""
}

// ended returns the ranges of earlier addresses.
func (f *following) ended() []pool4.Entry {
	es := make([]pool4.Entry, len(f.ending))
	for i := range es {
		es[i] = f.ending[i].Entry
	}
	return es
}

// ends reports whether the range of an earlier address contains the transport address of a binding, or for a static one its address.
func (f *following) ends(b *bib.Binding) bool {
	a := netip.AddrFrom4(b.Mapped.Addr)
	return slices.ContainsFunc(f.ending, func(e state.Followed) bool {
		return e.Addr == a && (b.Static || e.Proto == b.Proto && e.Lo <= b.Mapped.Port && b.Mapped.Port <= e.Hi)
	})
}

// on reports whether an earlier address is a.
func (f *following) on(a netip.Addr) bool {
	return slices.ContainsFunc(f.ending, func(e state.Followed) bool { return e.Addr == a })
}

// addressOf returns the address that rows of an interface stand for.
func addressOf(routes *nexthop.Table, name string) (netip.Addr, error) {
	a, err := routes.Primary4(name)
	if err != nil {
		return netip.Addr{}, err
	}
	return a, pool4.CheckAddr(a)
}

// withRows returns f with other rows. The addresses of the interfaces of f stay as they are.
func (f *following) withRows(rows []pool4.Followed, routes *nexthop.Table) (*following, error) {
	next := *f
	next.rows = slices.SortedFunc(slices.Values(rows), pool4.Followed.Compare)
	next.rows = slices.Compact(next.rows)
	next.at = make(map[string]netip.Addr)
	for _, r := range next.rows {
		if a, ok := f.at[r.Interface]; ok {
			next.at[r.Interface] = a
		} else if a, err := addressOf(routes, r.Interface); err == nil {
			next.at[r.Interface] = a
		}
	}
	if slices.ContainsFunc(next.rows, func(r pool4.Followed) bool { return r.Auto }) {
		var err error
		if next.above, err = guard.AboveEphemeral(); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// changed returns rows without those of old that next has not, and with those of next that old has not.
func changed(rows, old, next []pool4.Followed) []pool4.Followed {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r pool4.Followed) bool {
		return slices.Contains(old, r) && !slices.Contains(next, r)
	})
	for _, r := range next {
		if !slices.Contains(old, r) {
			rows = append(rows, r)
		}
	}
	return rows
}

// followed returns the rows of interfaces and their ranges. The caller must not change it.
func (d *Daemon) followed() *following { return d.admin.followed.Load() }

// holdLocked makes next the rows of interfaces, and replaces their ranges in pool4. If addresses have changed, the bindings of old
// ones may continue; otherwise those of ranges that leave are orphans. The caller holds d.admin, unless nothing runs yet.
func (d *Daemon) holdLocked(next *following, addressesChanged bool) {
	f := d.followed()
	if len(next.rules)+len(f.rules) > 0 {
		d.pool.SetRules(next.rulesNow()) // first, so that no other client gets a new address
	}
	if len(next.rows)+len(f.held)+len(f.ending) == 0 {
		d.admin.followed.Store(next)
		return
	}
	next.held = minus(next.entries(), d.listedLocked())
	_, _, _ = d.pool.Add(next.held) // cannot fail: addressOf returns addresses that pool4 may have
	gone := minus(f.held, next.held)
	cutOut(d.pool, gone)
	next.ending = slices.Clone(f.ending)
	for _, e := range gone {
		if addressesChanged {
			next.ending = append(next.ending, state.Followed{Interface: f.via(e.Addr), Entry: e})
		}
	}
	next.ending = d.stillEnding(next)
	d.admin.followed.Store(next)
}

// listedLocked returns the ranges of pool4 that do not depend on an interface. The caller holds d.admin, unless nothing runs yet.
func (d *Daemon) listedLocked() []pool4.Entry {
	f := d.followed()
	if len(f.held)+len(f.ending) == 0 {
		return d.pool.Entries()
	}
	return minus(d.pool.Entries(), append(f.ended(), f.held...)) // earlier addresses are in pool4 while sessions are restored
}

// holdAgainLocked restores the ranges of rows after a change of the other ranges of pool4, of which come are new. The caller holds
// d.admin.
func (d *Daemon) holdAgainLocked(come []pool4.Entry) {
	f := d.followed()
	if len(f.rows) == 0 {
		return
	}
	next := *f
	next.held = minus(f.held, come)
	d.admin.followed.Store(&next)
	again := next
	d.holdLocked(&again, false)
}

// stillEnding returns the ranges of earlier addresses whose bindings continue.
func (d *Daemon) stillEnding(f *following) (list []state.Followed) {
	if len(d.restoring()) > 0 {
		return f.ending
	}
	hosts, all := d.routes.HostAddresses(), d.pool.Entries()
	for _, e := range f.ending {
		_, replaced := f.at[e.Interface]
		if !f.has(e.Interface) || replaced && !slices.Contains(hosts, e.Addr) {
			continue
		}
		if replaced && d.config().Interfaces.V4.Default && !d.routes.Has4(e.Addr) { // replies arrive by an interface that was left
			continue
		}
		for _, part := range minus([]pool4.Entry{e.Entry}, all) {
			if used, _ := d.pool.UseOf(part); used > 0 || d.admin.static.on(part.Addr) {
				list = append(list, state.Followed{Interface: e.Interface, Entry: part})
			}
		}
	}
	return list
}

// followAddressesLocked moves pool4 to the present addresses of the interfaces of its rows. The caller holds d.admin.
func (d *Daemon) followAddressesLocked() {
	f := d.followed()
	if len(f.rows) == 0 || len(d.restoring()) > 0 { // restore asks again at its end
		return
	}
	next := *f
	next.at = make(map[string]netip.Addr)
	for _, r := range f.rows {
		if a, err := addressOf(d.routes, r.Interface); err == nil {
			next.at[r.Interface] = a
		}
	}
	if maps.Equal(f.at, next.at) && len(d.stillEnding(f)) == len(f.ending) {
		return
	}
	_ = d.coverMoreLocked(additions{pool4: next.entries()}, d.admin.local.bypass) // so that the host does not answer first
	static := len(d.admin.static)
	d.holdLocked(&next, true)
	bindings, sessions := d.purgeLocked()
	if err := d.settledLocked(); err != nil {
		d.log.Error("cannot update the guard, the host may answer for pool4 and pool6", "error", err)
	}
	d.logFollowed(f, &next, bindings, sessions)
	if n := static - len(d.admin.static); n > 0 {
		d.log.Warn("static bindings have ended with the address of their interface", "bindings", n)
	}
}

// logFollowed logs the interfaces whose address has changed.
func (d *Daemon) logFollowed(old, next *following, bindings, sessions int) {
	shown := func(a netip.Addr) string {
		if !a.IsValid() {
			return "none"
		}
		return a.String()
	}
	for _, r := range next.rows {
		before, now := old.at[r.Interface], next.at[r.Interface]
		if before != now {
			d.log.Info("pool4 follows the address of an interface", "interface", r.Interface, "address", shown(now), "before", shown(before))
			old.at[r.Interface] = now // once for all rows of the interface
		}
	}
	if bindings > 0 {
		d.log.Info("bindings of an address have ended, which the host does not have any more", "bindings", bindings, "sessions", sessions)
	}
}

// endingEvery is the interval of the checks whether earlier addresses still have bindings: our own choice.
const endingEvery = time.Second

// watchLocalRoutes makes the gateway follow the kernel's routes and addresses.
func (d *Daemon) watchLocalRoutes(ctx context.Context) error {
	for {
		var check <-chan time.Time
		if len(d.followed().ending) > 0 {
			check = time.After(endingEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-check:
			d.followLocalRoutes()
		case <-d.events.routes:
			d.followLocalRoutes()
			d.guard.check()
		}
	}
}

// waiting returns why interfaces of the rows of a protocol have no address.
func waiting(routes *nexthop.Table, f *following, proto packet.Proto) (why []string) {
	for _, r := range f.rows {
		if _, ok := f.at[r.Interface]; ok || r.Proto != proto {
			continue
		}
		if _, err := addressOf(routes, r.Interface); err != nil && !slices.Contains(why, err.Error()) {
			why = append(why, err.Error())
		}
	}
	return why
}

// followedWarnings returns why rows have no address while others of the same protocol have.
func (d *Daemon) followedWarnings() (ws []string) {
	for _, p := range protocols {
		if _, all := d.pool.InUse(p); all == 0 {
			continue // the gateway is not ready for that reason
		}
		for _, w := range waiting(d.routes, d.followed(), p) {
			if w = "pool4: " + w; !slices.Contains(ws, w) {
				ws = append(ws, w)
			}
		}
	}
	return ws
}

// resumeEnding adds the ranges of earlier addresses to pool4 for as long as the sessions of an earlier process are restored, if the
// host still has these addresses.
func (d *Daemon) resumeEnding() {
	if d.kept.saved == nil {
		return
	}
	f, hosts := *d.followed(), d.routes.HostAddresses()
	for _, e := range d.kept.saved.Header.Followed {
		if !slices.Contains(hosts, e.Addr) || !f.has(e.Interface) {
			continue
		}
		for _, part := range minus([]pool4.Entry{e.Entry}, d.pool.Entries()) {
			f.ending = append(f.ending, state.Followed{Interface: e.Interface, Entry: part})
		}
	}
	_, _, _ = d.pool.Add(f.ended()) // cannot fail: they were in pool4 before
	d.admin.followed.Store(&f)
}

// endResumed takes them out of pool4 again.
func (d *Daemon) endResumed() {
	d.admin.Lock()
	cutOut(d.pool, d.followed().ended())
	d.admin.Unlock()
}

// savedFollowed returns the ranges of rows of interfaces for the next process.
func (f *following) savedFollowed() []state.Followed {
	list := slices.Clone(f.ending)
	for _, e := range f.held {
		list = append(list, state.Followed{Interface: f.via(e.Addr), Entry: e})
	}
	return list
}
