//go:build linux

package daemon

import (
	"net/netip"
	"slices"

	"nat64d/config"
	"nat64d/packet"
)

// surroundings are what the kernel's routes and addresses mean for what is translated.
type surroundings struct {
	bypass     []netip.Prefix // parts of pool6 that are the host's to forward, in order
	broadcasts []packet.Addr4 // of the IPv4 interface's own subnets
	owned      []netip.Addr   // addresses of pool4 and static rows that the host has, whose ports are reserved
}

// surroundings returns what is to hold with a configuration.
func (p *Daemon) surroundings(c *config.Config) (s surroundings) {
	s.bypass = slices.Clone(c.BypassV6)
	for i := range c.Pool6 {
		s.bypass = append(s.bypass, p.routes.Within(c.Pool6[i].Prefix())...)
	}
	slices.SortFunc(s.bypass, netip.Prefix.Compare)
	s.bypass = slices.Compact(s.bypass)
	for _, a := range p.routes.Broadcasts() {
		s.broadcasts = append(s.broadcasts, a.As4())
	}
	for _, a := range p.routes.HostAddresses() {
		if a.Is4() && (p.pool.Has(a.As4()) || p.static.on(a)) {
			s.owned = append(s.owned, a)
		}
	}
	return s
}

// equal says whether nothing differs.
func (s *surroundings) equal(o *surroundings) bool {
	return slices.Equal(s.bypass, o.bypass) && slices.Equal(s.broadcasts, o.broadcasts) && slices.Equal(s.owned, o.owned)
}

// kept returns what is bypassed in both. While one follows the other, the rest is neither translated nor let through to
// the host: a packet may be lost then, but no packet takes both ways.
func (s *surroundings) kept(next *surroundings) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(s.bypass), func(p netip.Prefix) bool { return !slices.Contains(next.bypass, p) })
}

// move draws the conclusions of a change of the kernel's routes or addresses.
func (p *Daemon) move() {
	p.admin.Lock()
	defer p.admin.Unlock()
	p.names.follow(p.basis())
	next := p.surroundings(p.config())
	if p.near.equal(&next) {
		return
	}
	if !slices.Equal(p.near.bypass, next.bypass) {
		p.log.Info("some of pool6 is left to the kernel to forward", "destinations", next.bypass, "before", p.near.bypass)
	}
	_ = p.guard.cover(nil, nil, nil, p.near.kept(&next)) // it makes the change smooth; settle is what counts
	p.near = next
	p.gateway.Configure(p.gatewayConfig(p.config()))
	if err := p.guard.settle(); err != nil {
		p.log.Error("the host may answer for pool4 and pool6: the guard is not what it should be", "error", err)
	}
}
