//go:build linux

package nexthop

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"nat64d/drop"
)

// defaultTables are those that the kernel's default rules consult, in their order.
var defaultTables = [...]uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}

// fib holds the routes of the tables that the kernel's rules lead packets of ours to, the default ones first. A change makes
// a new one that shares most of its memory with the old one.
type fib struct {
	tables  []fibTable
	sourced int // prefixes with routes for one source
	typed   int // prefixes with routes for one type of service
}

// fibTable holds routes of both families.
type fibTable struct {
	id     uint32
	routes *bart.Table[routes]
}

// newFIB returns a fib with the default tables, empty.
func newFIB() (f fib) {
	for _, id := range defaultTables {
		f.add(id)
	}
	return f
}

// add returns the index of a table, which is added if it is not there.
func (f *fib) add(id uint32) int {
	if i := f.index(id); i >= 0 {
		return i
	}
	f.tables = append(f.tables, fibTable{id, new(bart.Table[routes])})
	return len(f.tables) - 1
}

// index returns the index of a table, -1 if no rule leads there.
func (f *fib) index(id uint32) int {
	return slices.IndexFunc(f.tables, func(t fibTable) bool { return t.id == id })
}

// table returns the routes of a table that is there.
func (f *fib) table(id uint32) *bart.Table[routes] { return f.tables[f.index(id)].routes }

// same reports whether f and o have the same routes in a table.
func (f *fib) same(o *fib, id uint32) bool {
	i, j := f.index(id), o.index(id)
	return i < 0 && j < 0 || i >= 0 && j >= 0 && f.tables[i].routes == o.tables[j].routes
}

// load adds a route of a list to a fib that nobody else reads yet. Equal ranks come in the kernel's order.
func (f *fib) load(c change) {
	i := f.index(c.table)
	if i < 0 || c.special {
		return
	}
	f.tables[i].routes.Modify(c.prefix, func(old routes, _ bool) (routes, bool) {
		now := old.insert(c.route)
		f.count(old, now)
		return now, false
	})
}

// update applies c to a fib that is in use, by copying what changes. It reports whether anything changed, and whether the
// result is known; if not, the caller lists the routes again.
func (f *fib) update(c change) (changed, known bool) {
	i := f.index(c.table)
	if i < 0 || c.special {
		return false, true
	}
	t := f.tables[i].routes
	old, _ := t.Get(c.prefix)
	rs, known := c.apply(old)
	switch {
	case !known || len(rs) == len(old) && slices.EqualFunc(rs, old, route.equal):
		return false, known
	case len(rs) == 0:
		t = t.DeletePersist(c.prefix)
	default:
		t = t.InsertPersist(c.prefix, rs)
	}
	f.tables = slices.Clone(f.tables)
	f.tables[i].routes = t
	f.count(old, rs)
	return true, true
}

// count keeps the counts of prefixes right when the routes to one of them change.
func (f *fib) count(old, now routes) {
	f.sourced += now.sourced() - old.sourced()
	f.typed += now.typed() - old.typed()
}

// sourced returns 1 if there is a route for one source only, and else 0; typed if there is one for a type of service.
func (rs routes) sourced() int {
	return number01(slices.ContainsFunc(rs, func(r route) bool { return r.src.Bits() > 0 }))
}

func (rs routes) typed() int {
	return number01(slices.ContainsFunc(rs, func(r route) bool { return r.tos != 0 }))
}

func number01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// way is what the routes say of a flow: a hop, or the reason why there is none.
type way struct {
	hop    hop
	reason drop.Reason
}

// outcome is what becomes of a look-up.
type outcome uint8

const (
	nothing outcome = iota // no route to this prefix counts: a shorter one may
	leave                  // the next table is to be asked
	decided
)

// verdict is what a table, or the routes to one prefix of it, say of a flow.
type verdict struct {
	way     way
	outcome outcome
	refuses bool // the route is of a type that sends packets nowhere
	bits    int  // length of its prefix
	device  int  // interface of its first hop
}

// find looks f up in a table: the longest prefix that has a route for it decides. How long that is costs another look-up.
func (t *fibTable) find(f *flow, index int, withPrefix bool) verdict {
	rs, ok := t.routes.Lookup(f.dst)
	if !ok {
		return verdict{outcome: leave}
	}
	if v := rs.find(f, index); !withPrefix && v.outcome != nothing {
		return v
	}
	p, rs, ok := t.routes.LookupPrefixLPM(netip.PrefixFrom(f.dst, f.dst.BitLen()))
	for ok {
		if v := rs.find(f, index); v.outcome != nothing {
			v.bits = p.Bits()
			return v
		}
		if p.Bits() == 0 {
			break
		}
		p, rs, ok = t.routes.LookupPrefixLPM(netip.PrefixFrom(f.dst, p.Bits()-1).Masked())
	}
	return verdict{outcome: leave}
}

// find applies the first route that decides: one without a live hop does not count. As for the kernel, routes for some
// sources hide those for all that lead to the same prefix, even from packets of other sources; but not default routes.
func (rs routes) find(f *flow, index int) verdict {
	for i := range rs {
		r := &rs[i]
		if rs[0].src.IsValid() && !r.src.Contains(f.src) || r.tos != 0 && r.tos != f.tos&tosMask {
			continue
		}
		v := verdict{outcome: decided}
		if len(r.hops) > 0 {
			v.device = r.hops[0].index
		}
		switch r.kind {
		case unix.RTN_UNICAST:
			if len(r.hops) == 0 {
				continue
			}
			v.way = rs[i:].choose(f.dst, index)
		case unix.RTN_LOCAL:
			v.way.reason = drop.HostAddress
		case unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
			v.way.reason = drop.NoRoute
		case unix.RTN_THROW:
			v.outcome = leave
		default: // blackhole, unreachable, prohibit
			v.way.reason, v.refuses = drop.NoRoute, true
		}
		return v
	}
	return verdict{}
}

// choose takes the first route. Only an IPv6 subnet may be on several links with one metric, as fe80::/64 always is;
// there the route that leaves by the interface index counts.
func (rs routes) choose(dst netip.Addr, index int) way {
	for i := range rs {
		if rs[i].kind != unix.RTN_UNICAST || !rs[i].beside(&rs[0]) {
			break
		}
		if w := rs[i].choose(dst, index); w.reason == drop.None || dst.Is4() {
			return w
		}
	}
	return way{reason: drop.OtherInterface}
}

// choose spreads destinations over those hops of a multipath route that leave by the interface index. One destination
// always takes the same hop, so that its packets stay in order; weights are not looked at.
func (r *route) choose(dst netip.Addr, index int) way {
	ours := 0
	for i := range r.hops {
		if r.hops[i].index == index {
			ours++
		}
	}
	if ours == 0 {
		return way{reason: drop.OtherInterface}
	}
	skip := 0
	if ours > 1 {
		skip = int(spread(dst) % uint32(ours))
	}
	for i := range r.hops {
		if r.hops[i].index != index {
			continue
		}
		if skip == 0 {
			return way{hop: r.hops[i]}
		}
		skip--
	}
	return way{reason: drop.OtherInterface}
}
