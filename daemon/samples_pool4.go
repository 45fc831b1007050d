//go:build linux

package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/pool4"
)

// maxPools is the number of rows of a protocol that have metrics of their own: our own choice. Each has four time series.
const maxPools = 100

// poolUse is how much of a row of pool4 is in use. A row is all consecutive addresses with the same ports.
type poolUse struct {
	proto             packet.Proto
	first, last       netip.Addr
	lo, hi            uint16
	ports, used, held int
}

// name returns the row in the notation of pool4.
func (u *poolUse) name() string {
	switch {
	case !u.first.IsValid():
		return "other"
	case u.first == u.last:
		return fmt.Sprintf("%v:%d-%d", u.first, u.lo, u.hi)
	}
	return fmt.Sprintf("%v-%v:%d-%d", u.first, u.last, u.lo, u.hi)
}

// poolUses joins the entries of pool4 to rows. Those beyond maxPools of a protocol are one, without an address.
func poolUses(entries []pool4.Usage) (list []poolUse) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b pool4.Usage) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi), a.Addr.Compare(b.Addr))
	})
	rows := [packet.Protos]int{}
	for _, e := range entries {
		n := len(list)
		switch {
		case n > 0 && list[n-1].continues(&e.Entry):
			list[n-1].last = e.Addr
		case n > 0 && list[n-1].proto == e.Proto && rows[e.Proto] >= maxPools:
			if rows[e.Proto]++; list[n-1].first.IsValid() {
				list = append(list, poolUse{proto: e.Proto})
			}
		default:
			rows[e.Proto]++
			list = append(list, poolUse{proto: e.Proto, first: e.Addr, last: e.Addr, lo: e.Lo, hi: e.Hi})
		}
		u := &list[len(list)-1]
		u.ports += portCount(e.Entry)
		u.used += e.Used
		u.held += e.Held
	}
	return list
}

// continues reports whether an entry belongs to the row, as its next address.
func (u *poolUse) continues(e *pool4.Entry) bool {
	return u.proto == e.Proto && u.lo == e.Lo && u.hi == e.Hi && u.last.IsValid() && u.last.Next() == e.Addr
}

// poolSamples are those of pool4.
func (d *Daemon) poolSamples() (list []metrics.Sample) {
	uses := d.readings.pools.get(func() []poolUse { return poolUses(d.pool.Usage()) })
	for i := range uses {
		u := &uses[i]
		name, proto := u.name(), u.proto.String()
		list = append(list, metrics.Pool4Ports.With(uint64(u.ports), name, proto), metrics.Pool4Used.With(uint64(u.used), name, proto),
			metrics.Pool4Held.With(uint64(u.held), name, proto), metrics.Pool4Free.With(uint64(max(u.ports-u.used-u.held, 0)), name, proto))
	}
	return list
}
