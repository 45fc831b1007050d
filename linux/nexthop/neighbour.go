//go:build linux

package nexthop

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// neighbour is what the kernel knows of one next hop. One that it is still looking for has no entry here. The MAC and
// failed never change, so that the neighbour is part of an immutable snapshot; the marks do.
type neighbour struct {
	mac    [6]byte
	failed bool // it does not answer

	stale atomic.Bool // the kernel has not heard of it for a while
	used  atomic.Bool // packets go there, or would

	refreshed time.Time // when the kernel was last asked to check; belongs to Run's goroutine
}

// use notes that a packet goes to n, which may be nil. It writes only once between two looks of Run, so that the
// workers share the cache line.
func (n *neighbour) use() {
	if n != nil && !n.used.Load() {
		n.used.Store(true)
	}
}

// valid are the states of RFC 4861 section 7.3.2 (and the kernel's own two) in which a link-layer address is usable.
const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_STALE |
	netlink.NUD_DELAY | netlink.NUD_PROBE

// next returns the neighbour after the kernel's message m: n itself, when the answer to a look-up stays the same, and
// nil when there is none to give. n may be nil.
func (n *neighbour) next(m *netlink.Neigh) *neighbour {
	switch {
	case m.State&valid != 0 && len(m.HardwareAddr) == 6:
		stale := m.State&netlink.NUD_STALE != 0
		if n == nil || n.failed || n.mac != [6]byte(m.HardwareAddr) {
			n = &neighbour{mac: [6]byte(m.HardwareAddr)}
			n.stale.Store(stale)
			return n
		}
		if stale && !n.stale.Load() {
			n.used.Store(false) // what counts is use from now on
		}
		n.stale.Store(stale)
		return n
	case m.State&netlink.NUD_FAILED != 0:
		if n != nil && n.failed {
			return n
		}
		return &neighbour{failed: true}
	case n != nil && n.failed:
		return n // tried once more: still failed until it answers
	}
	return nil
}

// load adds a neighbour to a table that nobody else reads yet.
func (n *nic) load(m *netlink.Neigh, old *nic) {
	p, ok := hostPrefix(m)
	if !ok || m.LinkIndex != n.Index {
		return
	}
	var before *neighbour
	if old.Index == n.Index && old.neighbours != nil {
		before, _ = old.neighbours.Get(p)
	}
	if after := before.next(m); after != nil {
		n.neighbours.Insert(p, after)
	}
}

// update applies a message about a neighbour of n and says whether an answer has changed.
func (n *nic) update(m *netlink.Neigh, del bool) bool {
	p, ok := hostPrefix(m)
	if !ok || m.LinkIndex != n.Index {
		return false
	}
	before, _ := n.neighbours.Get(p)
	var after *neighbour
	if !del {
		after = before.next(m)
	}
	switch {
	case after == before:
		return false
	case after == nil:
		n.neighbours = n.neighbours.DeletePersist(p)
	default:
		n.neighbours = n.neighbours.InsertPersist(p, after)
	}
	return true
}

// hostPrefix returns a neighbour's address as a key; false for entries of bridges and for those that the kernel
// answers for in another's place.
func hostPrefix(m *netlink.Neigh) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(m.IP)
	if !ok || m.Flags&netlink.NTF_PROXY != 0 || m.Family != unix.AF_INET && m.Family != unix.AF_INET6 {
		return netip.Prefix{}, false
	}
	if m.Family == unix.AF_INET {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// The kernel is asked about a neighbour in use at most so often: about one that has failed when a packet to it comes.
const (
	refreshStale  = 30 * time.Second
	refreshFailed = time.Second // RFC 1122 section 2.3.2.1
)

// due says whether the kernel should be asked to check n now, and if so notes that it is. The packets of a tap never
// confirm a neighbour nor start a probe, so an entry in use would stay stale for ever, even with a dead host behind it.
func (n *neighbour) due(now time.Time) bool {
	if n.failed || !n.stale.Load() || !n.used.Load() || now.Sub(n.refreshed) < refreshStale {
		return false
	}
	n.used.Store(false)
	n.refreshed = now
	return true
}
