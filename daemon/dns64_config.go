//go:build linux

package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"nat64d/config"
	"nat64d/dns64"
	"nat64d/pool6"
)

// basis is the input for the forwarder's configuration.
type basis struct {
	conf   *config.Config
	pool4  []netip.Addr   // current addresses of pool4
	routed []netip.Prefix // prefixes routed through the v6 interface
}

// basisLocked returns the input for the forwarder's configuration. The caller holds d.admin, unless nothing runs yet.
func (d *Daemon) basisLocked() basis {
	return basis{conf: d.config(), pool4: d.pool.Addresses(), routed: withoutPool6(d.routes.Behind6(), d.config())}
}

// withoutPool6 removes the prefixes of pool6, which a pair routes, but where no client is.
func withoutPool6(routed []netip.Prefix, c *config.Config) []netip.Prefix {
	return slices.DeleteFunc(routed, func(p netip.Prefix) bool {
		return slices.ContainsFunc(c.Pool6, func(q pool6.Prefix) bool { return q.Prefix() == p })
	})
}

// config returns the forwarder's configuration. Upstreams that are unchanged since old keep their connections.
func (b *basis) config(old *dns64.Config) dns64.Config {
	c := &b.conf.DNS64
	next := dns64.Config{
		Policy: b.policy(), Clients: b.clients(), InFlight: c.MaxInFlight, Bits: b.conf.Sessions.ClientPrefixLen, Rate: c.RatePerSecond, Size: uint16(c.UDPSize),
		Cache: dns64.CacheLimits{
			Size: c.Cache.Size, MinTTL: c.Cache.MinTTL, MaxTTL: c.Cache.MaxTTL, MaxNegativeTTL: c.Cache.MaxNegativeTTL,
			Prefetch: c.Cache.Prefetch, ServeStale: c.Cache.ServeStale,
		},
	}
	var list []dns64.Upstream
	for _, u := range c.Upstreams {
		list = append(list, upstreamOf(u))
	}
	zones := zonesOf(c.Zones)
	if old != nil && old.Upstreams.Are(list, c.Race, zones...) {
		next.Upstreams = old.Upstreams
	} else {
		next.Upstreams = dns64.NewUpstreams(list, c.Race, nil, zones...)
	}
	return next
}

func upstreamOf(u config.Upstream) dns64.Upstream {
	return dns64.Upstream{Transport: dns64.Transport(u.Transport), Addr: u.Addr, Name: u.Name}
}

// zonesOf returns the zones with all their upstreams, in the order of the file.
func zonesOf(rows []config.DNS64Zone) (zones []dns64.Zone) {
	for _, r := range rows {
		i := slices.IndexFunc(zones, func(z dns64.Zone) bool { return z.Domain == r.Domain })
		if i < 0 {
			i = len(zones)
			zones = append(zones, dns64.Zone{Domain: r.Domain})
		}
		zones[i].Upstreams = append(zones[i].Upstreams, upstreamOf(r.Upstream))
	}
	return zones
}

// policy returns the rules for synthesis.
func (b *basis) policy() dns64.Policy {
	c := &b.conf.DNS64
	p := dns64.Policy{
		Choice: dns64.Choice(c.PrefixPolicy), Exclude: c.Exclude, Mapped: c.Mapped, TranslateAll: c.TranslateAll, Suffix: c.Suffix,
		Never: c.Never, EmptyA: c.EmptyA,
		ServfailOnError: c.ServfailError, BreakDNSSEC: c.BreakDNSSEC, Validated: c.Validated, RecursiveOnly: c.RecursiveOnly,
	}
	for i, prefix := range b.conf.Pool6 {
		p.Prefixes = append(p.Prefixes, dns64.Prefix{Prefix: prefix, Private: b.private(prefix, b.conf.PrivateV4[i])})
		for _, r := range c.Ranges {
			if r.Prefix == prefix {
				p.Ranges = append(p.Ranges, dns64.Range{V4: r.V4, Prefix: i})
			}
		}
	}
	return p
}

// clients returns the prefixes that are answered: the configured ones, otherwise those that the gateway translates
// for, otherwise those with a route.
func (b *basis) clients() []netip.Prefix {
	switch {
	case len(b.conf.DNS64.Clients) > 0:
		return b.conf.DNS64.Clients
	case len(b.conf.AllowV6) > 0:
		return b.conf.AllowV6
	}
	return slices.DeleteFunc(slices.Clone(b.routed), b.leadsAway)
}

// leadsAway reports whether a route is a default route in another form than ::/0, such as 2000::/3 or the two halves
// of a VPN. Its hosts are not clients unless the configuration allows all hosts.
func (b *basis) leadsAway(p netip.Prefix) bool { return !b.conf.DNS64.Open && config.WholeInternet(p) }

// private reports whether a prefix may represent non-global IPv4 addresses: a name must not get an address to which
// packets are dropped. If the pool is not known, because the gateway is elsewhere, RFC 6052 section 3.1 applies.
func (b *basis) private(p pool6.Prefix, choice config.PrivateV4) bool {
	if choice != config.PrivateV4Auto {
		return choice == config.PrivateV4Allow
	}
	if !p.IsWellKnown() {
		return true
	}
	return len(b.pool4) > 0 && !slices.ContainsFunc(b.pool4, func(a netip.Addr) bool { return pool6.Global4(a.As4()) })
}

// checkZones returns an error for new upstreams on interfaces that do not exist, except the gateway's own interfaces,
// which may be created later.
func checkZones(old, next *config.Config) error {
	for _, u := range next.DNS64.Resolvers() {
		zone := u.Addr.Addr().Zone()
		if zone == "" || zone == next.Interfaces.V6.Name || zone == next.Interfaces.V4.Name || !next.DNS64.Enabled ||
			old != nil && slices.Contains(old.DNS64.Resolvers(), u) {
			continue
		}
		_, err := net.InterfaceByName(zone)
		if index, numeric := strconv.Atoi(zone); numeric == nil {
			_, err = net.InterfaceByIndex(index)
		}
		if err != nil {
			return fmt.Errorf("%s: %v: interface %q does not exist; see ip link", keyOf(next, u), u, zone)
		}
	}
	return nil
}

// keyOf returns the key that has an upstream.
func keyOf(c *config.Config, u config.Upstream) string {
	if slices.Contains(c.DNS64.Upstreams, u) {
		return "dns64.upstreams"
	}
	return "dns64.zones"
}
