//go:build linux

package daemon

import (
	"net/netip"
	"slices"

	"nat64d/config"
	"nat64d/packet"
)

// localRoutes are the consequences of the kernel's routes and addresses for translation.
type localRoutes struct {
	bypass     []netip.Prefix // parts of pool6 that the host forwards, sorted
	broadcasts []packet.Addr4 // of the IPv4 interface's own subnets
	owned      []netip.Addr   // addresses of pool4 and static rows that the host has, whose ports are reserved
}

// localRoutesForLocked returns the current local routes for a configuration. The caller holds d.admin, unless nothing
// runs yet.
func (d *Daemon) localRoutesForLocked(c *config.Config) (s localRoutes) {
	s.bypass = slices.Clone(c.BypassV6)
	for i := range c.Pool6 {
		s.bypass = append(s.bypass, d.routes.Within(c.Pool6[i].Prefix())...)
	}
	slices.SortFunc(s.bypass, netip.Prefix.Compare)
	s.bypass = slices.Compact(s.bypass)
	for _, a := range d.routes.Broadcasts() {
		s.broadcasts = append(s.broadcasts, a.As4())
	}
	for _, a := range d.routes.HostAddresses() {
		if a.Is4() && (d.pool.Has(a.As4()) || d.admin.static.on(a) || d.followed().on(a)) {
			s.owned = append(s.owned, a)
		}
	}
	return s
}

// equal reports whether nothing differs.
func (s *localRoutes) equal(o *localRoutes) bool {
	return slices.Equal(s.bypass, o.bypass) && slices.Equal(s.broadcasts, o.broadcasts) && slices.Equal(s.owned, o.owned)
}

// kept returns the bypassed prefixes that are in both. During a change, packets to the others are neither translated
// nor passed to the host: they may be lost, but no packet takes both ways.
func (s *localRoutes) kept(next *localRoutes) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(s.bypass), func(p netip.Prefix) bool { return !slices.Contains(next.bypass, p) })
}

// followLocalRoutes applies a change of the kernel's routes or addresses.
func (d *Daemon) followLocalRoutes() {
	d.admin.Lock()
	defer d.admin.Unlock()
	d.followAddressesLocked()
	d.dns64.follow(d.basisLocked())
	next := d.localRoutesForLocked(d.config())
	if d.admin.local.equal(&next) {
		return
	}
	if !slices.Equal(d.admin.local.bypass, next.bypass) {
		d.log.Info("the kernel forwards parts of pool6", "destinations", next.bypass, "before", d.admin.local.bypass)
	}
	_ = d.coverMoreLocked(additions{}, d.admin.local.kept(&next)) // it makes the change smooth; settleGuardLocked is what counts
	d.admin.local = next
	d.gateway.Configure(d.gatewayConfigLocked(d.config()))
	if err := d.settleGuardLocked(); err != nil {
		d.log.Error("cannot update the guard, the host may answer for pool4 and pool6", "error", err)
	}
}
