//go:build linux

package nexthop

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"nat64d/drop"
)

// defaultTables are the tables of the kernel's default rules, in order.
var defaultTables = [...]uint32{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}

// fib contains the routes of the tables that the rules use for forwarded packets, the default tables first. It is
// persistent: a change creates a new fib that shares most of its memory with the old one.
type fib struct {
	tables  []fibTable
	sourced int // number of prefixes with routes for a specific source
	typed   int // number of prefixes with routes for a specific type of service
}

// fibTable contains routes of both families.
type fibTable struct {
	id     uint32
	routes *bart.Table[routes]
}

// newFIB returns a fib with empty default tables.
func newFIB() (f fib) {
	for _, id := range defaultTables {
		f.add(id)
	}
	return f
}

// add returns the index of a table. It adds the table if necessary.
func (f *fib) add(id uint32) int {
	if i := f.index(id); i >= 0 {
		return i
	}
	f.tables = append(f.tables, fibTable{id, new(bart.Table[routes])})
	return len(f.tables) - 1
}

// index returns the index of a table, or -1 if no rule refers to it.
func (f *fib) index(id uint32) int {
	return slices.IndexFunc(f.tables, func(t fibTable) bool { return t.id == id })
}

// table returns the routes of a table, which must exist.
func (f *fib) table(id uint32) *bart.Table[routes] { return f.tables[f.index(id)].routes }

// same reports whether f and o have the same routes in a table.
func (f *fib) same(o *fib, id uint32) bool {
	i, j := f.index(id), o.index(id)
	return i < 0 && j < 0 || i >= 0 && j >= 0 && f.tables[i].routes == o.tables[j].routes
}

// load adds a route from a dump to an unpublished fib. Routes of equal rank keep the kernel's order.
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

// update applies c to a published fib by copying the affected nodes. changed reports whether anything changed. known
// is false if the result is ambiguous; the caller then dumps the routes again.
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

// count updates the counters when the routes to a prefix change.
func (f *fib) count(old, now routes) {
	f.sourced += now.sourced() - old.sourced()
	f.typed += now.typed() - old.typed()
}

// sourced returns 1 if a route is for a specific source, otherwise 0. typed does the same for a type of service.
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

// way is the result of routing a flow: a hop, or the reason why there is none.
type way struct {
	hop    hop
	reason drop.Reason
}

// outcome is the kind of result of a look-up.
type outcome uint8

const (
	nothing outcome = iota // no route to this prefix applies: try a shorter prefix
	leave                  // continue with the next table
	decided
)

// verdict is the result of a look-up in a table, or among the routes to one prefix.
type verdict struct {
	way     way
	outcome outcome
	refuses bool // the type of the route discards packets
	bits    int  // length of the prefix
	device  int  // interface of the first hop
}

// find looks up f in a table: the longest prefix with a route for f decides. withPrefix requests its length, which
// costs another look-up.
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

// find applies the first route with a live hop. As in the kernel, routes for specific sources hide the routes for any
// source to the same prefix, even from packets of other sources; but they do not hide default routes.
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

// choose returns the first route. Only an IPv6 subnet may be on several links with the same metric, as fe80::/64
// always is; then the route through the interface index is used.
func (rs routes) choose(dst netip.Addr, index int) way {
	for i := range rs {
		if rs[i].kind != unix.RTN_UNICAST || !rs[i].sameKey(&rs[0]) {
			break
		}
		if w := rs[i].choose(dst, index); w.reason == drop.None || dst.Is4() {
			return w
		}
	}
	return way{reason: drop.OtherInterface}
}

// choose distributes destinations over the hops of a multipath route that use the interface index. A destination
// always takes the same hop, so that its packets stay in order. Weights are ignored.
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
