//go:build linux

package nexthop

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// neighbour is the kernel's state of a next hop. There is none while the kernel is still resolving the address for
// the first time. MAC and failed never change, so a neighbour can be part of an immutable snapshot; the marks are
// atomic.
type neighbour struct {
	mac    [6]byte
	failed bool // it does not answer

	stale atomic.Bool // the kernel has not confirmed it recently
	used  atomic.Bool // packets are sent to it, or would be

	refreshed time.Time // when the kernel was last asked to probe it; only Run's goroutine uses it
}

// use marks n, which may be nil, as used. It writes only once per check by Run, so that the workers share the cache
// line.
func (n *neighbour) use() {
	if n != nil && !n.used.Load() {
		n.used.Store(true)
	}
}

// valid are the states with a usable link-layer address: those of RFC 4861 section 7.3.2 and two of the kernel.
const valid = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_STALE |
	netlink.NUD_DELAY | netlink.NUD_PROBE

// next returns the neighbour after message m of the kernel: n itself if the answer to a look-up does not change, and
// nil if there is none. n may be nil.
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
			n.used.Store(false) // only later use counts
		}
		n.stale.Store(stale)
		return n
	case m.State&netlink.NUD_FAILED != 0:
		if n != nil && n.failed {
			return n
		}
		return &neighbour{failed: true}
	case n != nil && n.failed:
		return n // the kernel is retrying: still failed until it answers
	}
	return nil
}

// load adds a neighbour to an unpublished table.
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

// update applies a message about a neighbour of n. It reports whether an answer has changed, and whether a known link-layer
// address was deleted.
func (n *nic) update(m *netlink.Neigh, del bool) (changed, lost bool) {
	p, ok := hostPrefix(m)
	if !ok || m.LinkIndex != n.Index {
		return false, false
	}
	before, _ := n.neighbours.Get(p)
	var after *neighbour
	if !del {
		after = before.next(m)
	}
	switch {
	case after == before:
		return false, false
	case after == nil:
		n.neighbours = n.neighbours.DeletePersist(p)
	default:
		n.neighbours = n.neighbours.InsertPersist(p, after)
	}
	return true, after == nil && !before.failed
}

// lacks reports whether old has a link-layer address that n does not have.
func (n *nic) lacks(old *nic) bool {
	for p, before := range old.neighbours.All() {
		if now, _ := n.neighbours.Get(p); now == nil && !before.failed {
			return true
		}
	}
	return false
}

// hostPrefix returns the key of a neighbour's address. It returns false for bridge entries and for proxy entries.
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

// Minimum intervals between requests to the kernel to probe a neighbour in use, and to retry a failed one to which a
// packet is sent.
const (
	refreshStale  = 30 * time.Second
	refreshFailed = time.Second // RFC 1122 section 2.3.2.1
)

// due reports whether the kernel should probe n now, and if so records the time. Packets of a packet socket neither
// confirm a neighbour nor start a probe, so an entry in use would stay stale for ever, even if its host is down.
func (n *neighbour) due(now time.Time) bool {
	if n.failed || !n.stale.Load() || !n.used.Load() || now.Sub(n.refreshed) < refreshStale {
		return false
	}
	n.used.Store(false)
	n.refreshed = now
	return true
}
