//go:build linux

package daemon

import (
	"net/netip"
	"slices"

	"nat64d/config"
	"nat64d/packet"
)

// localRoutes are what the kernel's routes and addresses mean for what is translated.
type localRoutes struct {
	bypass     []netip.Prefix // parts of pool6 that are the host's to forward, in order
	broadcasts []packet.Addr4 // of the IPv4 interface's own subnets
	owned      []netip.Addr   // addresses of pool4 and static rows that the host has, whose ports are reserved
}

// localRoutesFor returns what is to hold with a configuration.
func (d *Daemon) localRoutesFor(c *config.Config) (s localRoutes) {
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
		if a.Is4() && (d.pool.Has(a.As4()) || d.admin.static.on(a)) {
			s.owned = append(s.owned, a)
		}
	}
	return s
}

// equal reports whether nothing differs.
func (s *localRoutes) equal(o *localRoutes) bool {
	return slices.Equal(s.bypass, o.bypass) && slices.Equal(s.broadcasts, o.broadcasts) && slices.Equal(s.owned, o.owned)
}

// kept returns what is bypassed in both. While one follows the other, the rest is neither translated nor let through to
// the host: a packet may be lost then, but no packet takes both ways.
func (s *localRoutes) kept(next *localRoutes) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(s.bypass), func(p netip.Prefix) bool { return !slices.Contains(next.bypass, p) })
}

// followLocalRoutes applies a change of the kernel's routes or addresses.
func (d *Daemon) followLocalRoutes() {
	d.admin.Lock()
	defer d.admin.Unlock()
	d.dns64.follow(d.basis())
	next := d.localRoutesFor(d.config())
	if d.admin.local.equal(&next) {
		return
	}
	if !slices.Equal(d.admin.local.bypass, next.bypass) {
		d.log.Info("some of pool6 is left to the kernel to forward", "destinations", next.bypass, "before", d.admin.local.bypass)
	}
	_ = d.coverMore(additions{}, d.admin.local.kept(&next)) // it makes the change smooth; settleGuard is what counts
	d.admin.local = next
	d.gateway.Configure(d.gatewayConfig(d.config()))
	if err := d.settleGuard(); err != nil {
		d.log.Error("the host may answer for pool4 and pool6: the guard is not what it should be", "error", err)
	}
}
