//go:build linux

package nexthop

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"nat64d/packet"
)

// searches are the neighbours of one family that the kernel is looking for on our behalf. Each takes an entry of the
// kernel's table until it answers or, after three seconds, has failed. The table is bounded (gc_thresh3), and when it is full
// of unanswered requests no neighbour can be found any more, by nobody on the host. So a part of it is ours. A client may
// have a quarter of what is left of that part, and one of its addresses a quarter of what is left of the client's: whatever
// others look for, there is room for one that looks for little. It belongs to Run's goroutine.
type searches struct {
	limit    int
	of       map[netip.Addr]search
	prefixes map[packet.Addr6]int
	addrs    map[packet.Addr6]int
}

// search is one of them.
type search struct {
	client packet.Client
	since  time.Time
}

const (
	// searchTime is how long the kernel looks for a neighbour at most, with its default settings, and a little more.
	searchTime = 4 * time.Second
	// searchShare is the divisor of what is left.
	searchShare = 4
	// defaultEntries is the kernel's default of gc_thresh3. Only the first network namespace can read it.
	defaultEntries = 1024
)

func newSearches(d side) searches {
	return searches{limit: entries(d) / 2, of: map[netip.Addr]search{}, prefixes: map[packet.Addr6]int{}, addrs: map[packet.Addr6]int{}}
}

// entries returns how many neighbours the kernel's table holds, on all interfaces together.
func entries(d side) int {
	path := "/proc/sys/net/ipv4/neigh/default/gc_thresh3"
	if d == v6 {
		path = "/proc/sys/net/ipv6/neigh/default/gc_thresh3"
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return defaultEntries
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
		return n
	}
	return defaultEntries
}

// begin reports whether the kernel is to look for a. If it is not because the client looks for too many others, the
// client may ask again.
func (s *searches) begin(a *ask, now time.Time) (start, refused bool) {
	if _, under := s.of[a.addr]; under {
		return false, false
	}
	left := (s.limit-len(s.of))/searchShare - s.prefixes[a.client.Prefix]
	if left <= 0 || s.addrs[a.client.Addr] >= max(left/searchShare, 1) {
		return false, true
	}
	s.of[a.addr] = search{a.client, now}
	s.prefixes[a.client.Prefix]++
	s.addrs[a.client.Addr]++
	return true, false
}

// end notes that the kernel no longer looks for addr.
func (s *searches) end(addr netip.Addr) {
	one, under := s.of[addr]
	if !under {
		return
	}
	delete(s.of, addr)
	if s.prefixes[one.client.Prefix]--; s.prefixes[one.client.Prefix] == 0 {
		delete(s.prefixes, one.client.Prefix)
	}
	if s.addrs[one.client.Addr]--; s.addrs[one.client.Addr] == 0 {
		delete(s.addrs, one.client.Addr)
	}
}

// expire ends those that nothing has been heard of.
func (s *searches) expire(now time.Time) {
	for addr, one := range s.of {
		if now.Sub(one.since) > searchTime {
			s.end(addr)
		}
	}
}

// heard ends the search that a message of the kernel answers.
func (s *searches) heard(m *netlink.Neigh, del bool) {
	if p, ok := hostPrefix(m); ok && (del || m.State&(valid|netlink.NUD_FAILED) != 0) {
		s.end(p.Addr())
	}
}
