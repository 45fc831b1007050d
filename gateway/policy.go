package gateway

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"nat64d/packet"
	"nat64d/pool6"
)

// allows reports whether an IPv6 client may use the gateway, denies whether an IPv4 host may not be reached.
func (c *conf) allows(a *packet.Addr6) bool {
	return c.allowed == nil || c.allowed.Contains(netip.AddrFrom16(*a))
}

func (c *conf) denies(a packet.Addr4) bool {
	return c.reachable != nil && !c.reachable.Contains(netip.AddrFrom4(a)) ||
		c.denied != nil && c.denied.Contains(netip.AddrFrom4(a))
}

// hosts returns a table of prefixes with a constant look-up time, or nil if there are none.
func hosts(ps []netip.Prefix) *bart.Lite {
	if len(ps) == 0 {
		return nil
	}
	t := new(bart.Lite)
	for _, p := range ps {
		t.Insert(p)
	}
	return t
}

// bypasses returns a routing table of the NAT64 prefixes and the prefixes that bypass them: the longest match
// decides, and NAT64 prefixes take precedence over equal ones (RFC 7915 section 5.6). It returns nil if nothing is
// bypassed.
func bypasses(c *Config) *bart.Table[bool] {
	if len(c.Bypass) == 0 {
		return nil
	}
	t := new(bart.Table[bool])
	for _, p := range c.Bypass {
		t.Insert(p, true)
	}
	for _, p := range c.Pool6 {
		t.Insert(p.Prefix(), false)
	}
	return t
}

// bypassed reports whether an IPv6 packet into a NAT64 prefix is the host's to forward.
func (c *conf) bypassed(dst *packet.Addr6) bool {
	if c.bypass == nil {
		return false
	}
	hosts, _ := c.bypass.Lookup(netip.AddrFrom16(*dst))
	return hosts
}

// unicast4 reports whether an IPv4 address can be that of one host.
func (c *conf) unicast4(a packet.Addr4) bool {
	return pool6.Unicast4(a) && !slices.Contains(c.Broadcasts, a)
}

// reports reports whether an IPv4 address can be the source of an ICMP error. An address that no router should have
// may still help to diagnose a problem (RFC 7915 section 4.1), including the broadcast address of a subnet; an
// address that cannot identify a host is forged.
func (c *conf) reports(a packet.Addr4) bool {
	multicast, all := a[0]>>4 == 0xe, packet.Addr4{0xff, 0xff, 0xff, 0xff}
	return a != (packet.Addr4{}) && !multicast && a != all
}

// portSpan is a range of ports with the same denied IPv4 hosts.
type portSpan struct {
	lo, hi uint16
	hosts  *bart.Lite
}

// portSpans converts rules with overlapping ports to disjoint ranges, by protocol and in order.
func portSpans(rules []PortRule) (spans [packet.Protos][]portSpan) {
	for p := range packet.Protos {
		var cuts []int // where a range begins
		for _, r := range rules {
			if r.Proto == p {
				cuts = append(cuts, int(r.Lo), int(r.Hi)+1)
			}
		}
		slices.Sort(cuts)
		cuts = slices.Compact(cuts)
		for i := 1; i < len(cuts); i++ {
			s := portSpan{lo: uint16(cuts[i-1]), hi: uint16(cuts[i] - 1)}
			var prefixes []netip.Prefix
			for _, r := range rules {
				if r.Proto == p && r.Lo <= s.lo && s.hi <= r.Hi {
					prefixes = append(prefixes, r.Prefix)
				}
			}
			if s.hosts = hosts(prefixes); s.hosts != nil {
				spans[p] = append(spans[p], s)
			}
		}
	}
	return spans
}

// deniesPort reports whether a transport address of an IPv4 host may not be reached (RFC 6888 REQ-6).
func (c *conf) deniesPort(p packet.Proto, e packet.Endpoint4) bool {
	if len(c.ports[p]) == 0 {
		return false
	}
	i, found := slices.BinarySearchFunc(c.ports[p], e.Port, func(s portSpan, port uint16) int {
		if s.lo <= port && port <= s.hi {
			return 0
		}
		return cmp.Compare(s.lo, port)
	})
	return found && c.ports[p][i].hosts.Contains(netip.AddrFrom4(e.Addr))
}
