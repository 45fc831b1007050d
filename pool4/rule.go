package pool4

import (
	"net/netip"
	"slices"
	"sort"

	"github.com/gaissmai/bart"

	"nat64d/packet"
)

// Rule selects the clients that get addresses for a protocol, and how many of them. Clients get the addresses of the longest of the
// prefixes of all rules that contains them, and no others. All other clients get the addresses that no rule gives to a prefix.
type Rule struct {
	Proto       packet.Proto
	Interface   string     // the rule is for the address of this interface, which the caller fills in
	First, Last netip.Addr // the addresses; invalid: the rule has none at present
	Sources     []netip.Prefix
	Weight      int // the share of new clients that each of the addresses gets; 1 for an address without a rule
}

// contains reports whether the rule is for an address.
func (r *Rule) contains(proto packet.Proto, a netip.Addr) bool {
	return r.Proto == proto && r.First.IsValid() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// SetRules replaces the rules. The first rule that contains an address counts. Bindings stay; new ones follow the rules.
func (p *Pool) SetRules(rules []Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = slices.Clone(rules)
	p.view.Store(p.newViewLocked())
}

// RuleOf returns the rule that counts for an address.
func (p *Pool) RuleOf(proto packet.Proto, a netip.Addr) (Rule, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	i := slices.IndexFunc(p.rules, func(r Rule) bool { return r.contains(proto, a) })
	if i < 0 {
		return Rule{}, false
	}
	return p.rules[i], true
}

// Serves reports whether the rules of some protocol give an address to a client.
func (p *Pool) Serves(client packet.Addr6, addr packet.Addr4) bool {
	v := p.view.Load()
	for proto := range v {
		a := &v[proto]
		if i, ok := a.find(num4(addr)); ok && a.groupOf(client).has(i) {
			return true
		}
	}
	return false
}

// selection has the groups of addresses of one protocol. It is immutable.
type selection struct {
	bySource bart.Table[*group]
	rest     group // for all other clients
}

// group is the addresses that some clients get, by their indexes. Most methods accept nil, which is all addresses, with the same
// weights: a pool without rules has no groups.
type group struct {
	in      []uint64 // bit set
	members []int32
	upTo    []uint32 // sums of the weights of the members, each included; nil: all weights are the same
}

// newSelection returns the groups of addresses for the rules of a protocol, or nil if it has no rules.
func newSelection(proto packet.Proto, addrs []uint32, rules []Rule) *selection {
	rules = slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Proto != proto })
	if len(rules) == 0 {
		return nil
	}
	s := &selection{rest: group{in: make([]uint64, (len(addrs)+63)/64)}}
	groups := make(map[netip.Prefix]*group)
	for _, r := range rules {
		for _, p := range r.Sources { // also without an address at present: its clients get no others
			if groups[p] == nil {
				groups[p] = &group{in: make([]uint64, len(s.rest.in))}
			}
		}
	}
	for i, n := range addrs {
		a := addrOf(n)
		k := slices.IndexFunc(rules, func(r Rule) bool { return r.contains(proto, a) })
		switch {
		case k < 0:
			s.rest.add(i, 1)
		case len(rules[k].Sources) == 0:
			s.rest.add(i, rules[k].Weight)
		default:
			for _, p := range slices.Compact(slices.SortedFunc(slices.Values(rules[k].Sources), netip.Prefix.Compare)) {
				groups[p].add(i, rules[k].Weight)
			}
		}
	}
	s.rest.finish()
	for p, g := range groups {
		g.finish()
		s.bySource.Insert(p, g)
	}
	return s
}

// add adds an address to a group that is being built.
func (g *group) add(i, weight int) {
	sum := uint32(0)
	if n := len(g.upTo); n > 0 {
		sum = g.upTo[n-1]
	}
	g.in[i/64] |= 1 << (i % 64)
	g.members = append(g.members, int32(i))
	g.upTo = append(g.upTo, sum+uint32(max(weight, 1)))
}

// finish ends the building.
func (g *group) finish() {
	for i, sum := range g.upTo {
		if sum != g.upTo[0]*uint32(i+1) {
			return
		}
	}
	g.upTo = nil
}

// groupOf returns the group of a client.
func (a *addresses) groupOf(client packet.Addr6) *group {
	if a.selection == nil {
		return nil
	}
	if g, ok := a.selection.bySource.Lookup(netip.AddrFrom16(client)); ok {
		return g
	}
	return &a.selection.rest
}

// has reports whether the address with an index is in the group.
func (g *group) has(i int) bool { return g == nil || g.in[i/64]>>(i%64)&1 != 0 }

// set returns the group as a bit set of indexes, or nil for all.
func (g *group) set() []uint64 {
	if g == nil {
		return nil
	}
	return g.in
}

// size returns the number of addresses in the group, of all of a pool.
func (g *group) size(all int) int {
	if g == nil {
		return all
	}
	return len(g.members)
}

// place returns the number of the member that a new client with a hash gets, in proportion to the weights. The group has members.
func (g *group) place(hash uint64, all int) int {
	switch {
	case g == nil:
		return int(hash % uint64(all))
	case g.upTo == nil:
		return int(hash % uint64(len(g.members)))
	}
	share := uint32(hash % uint64(g.upTo[len(g.upTo)-1]))
	return sort.Search(len(g.upTo), func(i int) bool { return share < g.upTo[i] })
}

// index returns the index of the address of a member.
func (g *group) index(place int) int {
	if g == nil {
		return place
	}
	return int(g.members[place])
}
