package gateway

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"nat64d/config"
	"nat64d/egress"
	"nat64d/packet"
	"nat64d/pool6"
)

// conf is a Config with values derived from it and from pool4. It is immutable: a change creates a new one.
type conf struct {
	Config
	egress     egress.Config
	prefixes   []pool6.Prefix // by the number that sessions use; an empty slot is the zero Prefix
	refuses    []bool         // by the same number: non-global IPv4 addresses are refused
	bypass     *bart.Table[bool]
	allowed    *bart.Lite // nil: all
	reachable  *bart.Lite // nil: all
	denied     *bart.Lite // nil: none
	ports      [packet.Protos][]portSpan
	clientBits int // length in bits of a client's IPv6 prefix
}

// Configure replaces the configuration from the next batch on. Sessions continue, except for those of prefixes that are gone.
func (g *Gateway) Configure(c Config) {
	g.settings.admin.Lock()
	defer g.settings.admin.Unlock()
	var old []pool6.Prefix
	if before := g.settings.conf.Load(); before != nil {
		old = before.prefixes
	}
	c.Session.StoreSYNs = c.SYNs.Total > 0
	next := &conf{Config: c, prefixes: placePrefixes(old, c.Pool6)}
	next.refuses, next.clientBits = g.refuses(next), cmp.Or(c.Session.ClientPrefixLen, 64)
	next.bypass, next.allowed, next.denied, next.ports = bypasses(&c), hosts(c.Allow6), hosts(c.Deny4), portSpans(c.DenyPorts)
	next.reachable = hosts(c.Allow4)
	next.egress = egress.Config{
		MTU6: c.MTU6, MTU4: c.MTU4, LowestIPv6MTU: c.LowestIPv6MTU, ClampMSS: c.ClampMSS,
		Coalesce: c.Coalesce != CoalesceNone, TCPOnly: c.Coalesce == CoalesceTCP,
	}
	g.SYNs.Configure(c.SYNs)
	g.Sessions.Configure(c.Session)
	g.settings.conf.Store(next)
	g.epochs.Wait() // the last batch with the old prefixes has ended
	for i := range old {
		if old[i] != next.prefixes[i] {
			g.Sessions.PurgePrefix(uint8(i))
		}
	}
}

// Pool4Changed updates prefixes whose PrivateV4 is auto after a change of pool4.
func (g *Gateway) Pool4Changed() {
	g.settings.admin.Lock()
	defer g.settings.admin.Unlock()
	next := *g.settings.conf.Load()
	next.refuses = g.refuses(&next)
	g.settings.conf.Store(&next)
}

func (g *Gateway) refuses(c *conf) []bool {
	global := g.anyGlobal()
	list := make([]bool, len(c.prefixes))
	for i := range c.prefixes {
		policy := config.PrivateV4Auto
		if at := slices.Index(c.Pool6, c.prefixes[i]); at >= 0 && at < len(c.Private) {
			policy = c.Private[at]
		}
		list[i] = policy == config.PrivateV4Drop || policy == config.PrivateV4Auto && global && c.prefixes[i].IsWellKnown()
	}
	return list
}

func (g *Gateway) anyGlobal() bool {
	return slices.ContainsFunc(g.Pool4.Addresses(), func(a netip.Addr) bool { return pool6.Global4(a.As4()) })
}

// LetsPrivatePass reports whether packets that pair the Well-Known Prefix with a non-global IPv4 address are translated at
// present, against RFC 6052 section 3.1.
func (g *Gateway) LetsPrivatePass() bool {
	c := g.settings.conf.Load()
	for i := range c.prefixes {
		if c.prefixes[i].IsWellKnown() {
			return !c.refuses[i]
		}
	}
	return false
}

// Prefix returns the prefix with the number n in sessions.
func (g *Gateway) Prefix(n uint8) pool6.Prefix {
	c := g.settings.conf.Load()
	return c.prefixes[c.number(n)]
}

// Prefixes returns the prefixes by their number in sessions. A number without a prefix has the zero Prefix.
func (g *Gateway) Prefixes() []pool6.Prefix { return slices.Clone(g.settings.conf.Load().prefixes) }

// PrefixNumber returns the number of a prefix in sessions.
func (g *Gateway) PrefixNumber(p netip.Prefix) (n uint8, ok bool) {
	i := slices.IndexFunc(g.settings.conf.Load().prefixes, func(q pool6.Prefix) bool { return q != pool6.Prefix{} && q.Prefix() == p })
	return uint8(max(i, 0)), i >= 0
}

// number returns n if there is such a prefix, otherwise the number of the first one: a session may outlive its prefix
// by a batch.
func (c *conf) number(n uint8) uint8 {
	if int(n) < len(c.prefixes) && c.prefixes[n] != (pool6.Prefix{}) {
		return n
	}
	return uint8(slices.Index(c.prefixes, c.Pool6[0]))
}

// placePrefixes assigns each prefix of want a slot, whose index is its number in sessions. Existing prefixes keep
// their slots. A new one gets a slot that was empty before, so that it does not inherit the sessions of a removed
// prefix. An empty slot contains the zero Prefix, which contains no address.
func placePrefixes(slots, want []pool6.Prefix) []pool6.Prefix {
	next := slices.Clone(slots)
	for i, p := range next {
		if !slices.Contains(want, p) {
			next[i] = pool6.Prefix{}
		}
	}
	for _, p := range want {
		if slices.Contains(next, p) {
			continue
		}
		empty := 0
		for empty < len(slots) && (slots[empty] != pool6.Prefix{} || next[empty] != pool6.Prefix{}) {
			empty++
		}
		if empty == len(slots) {
			next = append(next, p)
		} else {
			next[empty] = p
		}
	}
	return next
}
