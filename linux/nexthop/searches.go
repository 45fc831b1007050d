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

// searches are the neighbours of one family that the kernel is currently resolving for nat64d. Each takes an entry of
// the kernel's neighbour table until it answers or, after three seconds, fails. The size of the table is limited
// (gc_thresh3). If unanswered requests fill it, the host cannot resolve any neighbour. Therefore nat64d uses only a
// part of the table. A client may have a quarter of the unused rest of that part, and one of its addresses a quarter
// of the client's unused rest. A client with few searches thus always finds room. Only Run's goroutine uses it.
type searches struct {
	limit    int
	of       map[netip.Addr]search
	prefixes map[packet.Addr6]int
	addrs    map[packet.Addr6]int
}

// search is one search.
type search struct {
	client packet.Client
	since  time.Time
}

const (
	// searchTime is the maximum duration of a search with the kernel's default settings, plus a margin.
	searchTime = 4 * time.Second
	// searchShare is the divisor for the unused rest.
	searchShare = 4
	// defaultEntries is the kernel's default of gc_thresh3, which only the initial network namespace can read.
	defaultEntries = 1024
)

func newSearches(d side) searches {
	return searches{limit: entries(d) / 2, of: map[netip.Addr]search{}, prefixes: map[packet.Addr6]int{}, addrs: map[packet.Addr6]int{}}
}

// entries returns the size of the kernel's neighbour table, which all interfaces share.
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

// begin reports whether the kernel should resolve a. refused means that the client has too many other searches; it
// may retry later.
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

// end removes the search for addr.
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

// expire removes searches without any result.
func (s *searches) expire(now time.Time) {
	for addr, one := range s.of {
		if now.Sub(one.since) > searchTime {
			s.end(addr)
		}
	}
}

// heard ends the search that a message of the kernel completes.
func (s *searches) heard(m *netlink.Neigh, del bool) {
	if p, ok := hostPrefix(m); ok && (del || m.State&(valid|netlink.NUD_FAILED) != 0) {
		s.end(p.Addr())
	}
}
