//go:build linux

package daemon

import (
	"net/netip"
	"slices"

	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
)

// takenLocked returns the transport addresses of the gateway: pool4 and static rows. The caller holds d.admin, unless
// nothing runs yet.
func (d *Daemon) takenLocked() []pool4.Entry {
	return merged(append(d.pool.Entries(), mapped(d.admin.static)...))
}

// merged returns the same transport addresses in as few ranges as possible.
func merged(es []pool4.Entry) []pool4.Entry { return minus(es, nil) }

// minus returns the transport addresses of a that are not in b.
func minus(a, b []pool4.Entry) []pool4.Entry {
	rest := pool4.New([16]byte{}) // used to merge and split ranges
	_, _, _ = rest.Add(a)
	cutOut(rest, b)
	return rest.Entries()
}

// cutOut removes the transport addresses that are in a pool.
func cutOut(pool *pool4.Pool, es []pool4.Entry) {
	type row struct {
		addr  netip.Addr
		proto packet.Proto
	}
	byRow := make(map[row][]pool4.Entry)
	for _, e := range es {
		byRow[row{e.Addr, e.Proto}] = append(byRow[row{e.Addr, e.Proto}], e)
	}
	var gone []pool4.Entry
	for _, have := range pool.Entries() {
		for _, e := range byRow[row{have.Addr, have.Proto}] {
			if have.Lo <= e.Hi && e.Lo <= have.Hi {
				gone = append(gone, pool4.Entry{Addr: e.Addr, Proto: e.Proto, Lo: max(have.Lo, e.Lo), Hi: min(have.Hi, e.Hi)})
			}
		}
	}
	_, _ = pool.Remove(gone) // cannot fail: only the holder of admin changes pool4
}

func portCount(e pool4.Entry) int { return int(e.Hi) - int(e.Lo) + 1 }

// proxiedLocked returns the addresses for which nat64d may answer ARP. The caller holds d.admin, unless nothing runs
// yet.
func (d *Daemon) proxiedLocked() []netip.Addr {
	var addrs []netip.Addr
	for _, e := range d.takenLocked() {
		if len(addrs) == 0 || addrs[len(addrs)-1] != e.Addr {
			addrs = append(addrs, e.Addr)
		}
	}
	return addrs
}

// union returns the union of two lists.
func union(a, b []pool6.Prefix) []pool6.Prefix {
	all := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}
