//go:build linux

package nexthop

import (
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gaissmai/bart"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
)

// host returns the addresses of neighbour n, which is on the link of both interfaces.
func host(n byte) (packet.Addr6, packet.Addr4, [6]byte) {
	return packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: n}, packet.Addr4{192, 0, 2, n}, [6]byte{2, 0, 0, 0, 0, n}
}

// table returns a Table without a kernel: 2001:db8::/64 and 192.0.2.0/24 are on the links of interfaces 6 and 4;
// host(1) to host(9) are known neighbours.
func table() *Table {
	t := &Table{asks: make(chan ask, maxAsks), asked: askFilter{seed: maphash.MakeSeed()}}
	s := &snapshot{fib: newFIB()}
	for d, c := range [sides]struct {
		link   Link
		prefix string
	}{
		v6: {Link{Index: 6, MAC: [6]byte{6}, MTU: 1500, Up: true}, "2001:db8::/64"},
		v4: {Link{Index: 4, MAC: [6]byte{4}, MTU: 1400, Up: true}, "192.0.2.0/24"},
	} {
		s.nics[d] = nic{Link: c.link, neighbours: new(bart.Table[*neighbour])}
		s.rules[d] = s.fib.compile(defaultRules(), &s.nics, side(d))
		s.fib.table(unix.RT_TABLE_MAIN).Insert(netip.MustParsePrefix(c.prefix), routes{{kind: unix.RTN_UNICAST, hops: []hop{{index: c.link.Index}}}})
	}
	for n := range byte(9) {
		a6, a4, mac := host(n + 1)
		s.nics[v6].neighbours.Insert(netip.PrefixFrom(netip.AddrFrom16(a6), 128), &neighbour{mac: mac})
		s.nics[v4].neighbours.Insert(netip.PrefixFrom(netip.AddrFrom4(a4), 32), &neighbour{mac: mac})
	}
	t.publish(s)
	return t
}

func TestCacheAgreesWithTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab := table()
		cache := NewCache(tab)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			n := rapid.ByteRange(0, 12).Draw(t, "host")
			a6, a4, _ := host(n)
			if rapid.IntRange(0, 4).Draw(t, "change") == 0 { // the neighbour gets another MAC, fails or is deleted
				s := *tab.state.Load()
				m := netlink.Neigh{
					Family: unix.AF_INET, LinkIndex: 4, IP: a4[:], HardwareAddr: []byte{2, 0, 0, 0, 1, n},
					State: rapid.SampledFrom([]int{netlink.NUD_REACHABLE, netlink.NUD_FAILED}).Draw(t, "state"),
				}
				if changed, _ := s.nics[v4].update(&m, rapid.Bool().Draw(t, "del")); changed {
					tab.publish(&s)
				}
			}
			f4, f6 := packet.Selector4{Dst: a4}, packet.Selector6{Dst: a6}
			want := tab.state.Load().answer(v4, flow4(&f4))
			if h, p, r := cache.Hop4(&f4); h != want.hop || p != want.pending || r != want.reason {
				t.Fatalf("%v: cache: %v %v %v, table: %+v", a4, h, p, r, want)
			}
			want = tab.state.Load().answer(v6, flow6(&f6))
			if h, p, r := cache.Hop6(&f6); h != want.hop || p != want.pending || r != want.reason {
				t.Fatalf("%v: cache: %v %v %v, table: %+v", a6, h, p, r, want)
			}
		}
	})
}

func TestCacheHits(t *testing.T) {
	tab := table()
	cache := NewCache(tab)
	a6, a4, mac := host(3)
	stranger6, stranger4, _ := host(77)
	f6, f4 := packet.Selector6{Dst: a6}, packet.Selector4{Dst: a4}
	for name, f := range map[string]func() bool{
		"Cache.Hop6": func() bool {
			h, p, r := cache.Hop6(&f6)
			return h == packet.Hop{Dst: mac, Src: [6]byte{6}, MTU: 1500} && !p && r == drop.None
		},
		"Cache.Hop4": func() bool {
			h, p, r := cache.Hop4(&f4)
			return h == packet.Hop{Dst: mac, Src: [6]byte{4}, MTU: 1400} && !p && r == drop.None
		},
		"a miss, v6": func() bool {
			return tab.state.Load().answer(v6, flow6(&f6)).hop == packet.Hop{Dst: mac, Src: [6]byte{6}, MTU: 1500}
		},
		"a miss, v4": func() bool {
			return tab.state.Load().answer(v4, flow4(&f4)).hop == packet.Hop{Dst: mac, Src: [6]byte{4}, MTU: 1400}
		},
		"a stranger": func() bool { _, p, r := cache.Hop6(&packet.Selector6{Dst: stranger6}); return p && r == drop.Neighbour },
		"Resolve4":   func() bool { tab.Resolve4(packet.Selector4{Dst: stranger4}, client); return len(tab.asks) == 1 },
	} {
		if !f() {
			t.Errorf("%s: wrong answer", name)
		}
		if n := testing.AllocsPerRun(100, func() { f() }); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// client is the client of all requests in these tests.
var client = packet.Client{Addr: packet.Addr6{15: 1}}

func TestResolveCoalescesRequests(t *testing.T) {
	t.Parallel()
	tab := table()
	_, known, _ := host(1)
	_, a, _ := host(20)
	_, b, _ := host(21)
	slot := func(a packet.Addr4) *atomic.Uint64 {
		s, _ := tab.asked.slot(ask{v4, netip.AddrFrom4(a), client})
		return s
	}
	for slot(a) == slot(b) { // otherwise both would pass each time
		b[3]++
	}
	tab.Resolve4(packet.Selector4{Dst: packet.Addr4{203, 0, 113, 1}}, client) // no route: no next hop to resolve
	for range 3 {
		tab.Resolve4(packet.Selector4{Dst: a}, client)
		tab.Resolve4(packet.Selector4{Dst: b}, client)
	}
	if len(tab.asks) != 2 {
		t.Errorf("%d requests for two addresses", len(tab.asks))
	}
	before := len(tab.asks)
	tab.asked.epoch.Add(1)
	tab.Resolve4(packet.Selector4{Dst: a}, client)
	if len(tab.asks) != before+1 {
		t.Error("no request in the next second")
	}
	for len(tab.asks) < maxAsks {
		tab.asks <- ask{}
	}
	tab.Resolve4(packet.Selector4{Dst: known}, client) // the channel is full
	<-tab.asks
	tab.Resolve4(packet.Selector4{Dst: known}, client)
	if len(tab.asks) != maxAsks {
		t.Error("a request that did not fit into the channel is not repeated")
	}
}

// The requests of a client per second are limited, independently of other clients.
func TestResolveLimitsRequestsPerClient(t *testing.T) {
	t.Parallel()
	tab := table()
	other := packet.Client{Addr: packet.Addr6{15: 2}}
	for spent := func(c packet.Client) uint64 { // the two must not share a counter
		return maphash.Comparable(tab.asked.seed, spender{c.Addr, 0}) % uint64(len(tab.asked.spent))
	}; spent(client) == spent(other); {
		other.Addr[0]++
	}
	for i := range 2 * asksPerClient {
		_, a, _ := host(byte(10 + i%200))
		a[2] += byte(i / 200)
		tab.Resolve4(packet.Selector4{Dst: a}, client)
	}
	if n := len(tab.asks); n > asksPerClient || n < asksPerClient/2 {
		t.Errorf("%d requests of one client, want at most %d", n, asksPerClient)
	}
	before := len(tab.asks)
	_, a, _ := host(20)
	tab.Resolve4(packet.Selector4{Dst: a}, other)
	if len(tab.asks) != before+1 {
		t.Error("another client may not ask for the same")
	}
}

// A client that searches for few neighbours gets its searches even if many clients search for many. All searches
// together use only a part of the kernel's table.
func TestSearchesAreSharedAmongClients(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	s := newSearches(v4)
	s.limit = 512
	begin := func(client byte, number int) (start, refused bool) {
		a := netip.AddrFrom4([4]byte{10, client, byte(number >> 8), byte(number)})
		return s.begin(&ask{v4, a, packet.Client{Addr: packet.Addr6{15: client}, Prefix: packet.Addr6{client / 4}}}, now)
	}
	most := 0
	for number := range 1000 {
		for client := range byte(20) { // five prefixes, each with one address without searches
			if client%4 == 3 {
				continue
			}
			if start, _ := begin(client, number); start && client == 0 {
				most++
			}
		}
	}
	if most > 128 {
		t.Errorf("one client has %d searches", most)
	}
	if len(s.of) >= s.limit {
		t.Errorf("%d searches, want room in %d", len(s.of), s.limit)
	}
	for _, client := range []byte{3, 100} { // the prefix of the first one has other clients
		if start, refused := begin(client, 1); !start || refused {
			t.Errorf("client %d is refused its first search", client)
		}
	}
	if start, refused := begin(100, 1); start || refused {
		t.Error("a second search for the same neighbour started")
	}
	s.heard(&netlink.Neigh{Family: unix.AF_INET, IP: net.IP{10, 100, 0, 1}, State: netlink.NUD_INCOMPLETE}, false)
	if start, _ := begin(100, 1); start {
		t.Error("a search ended before there was an answer")
	}
	s.heard(&netlink.Neigh{Family: unix.AF_INET, IP: net.IP{10, 100, 0, 1}, State: netlink.NUD_FAILED}, false)
	if start, _ := begin(100, 1); !start {
		t.Error("a failed search has not ended")
	}
	s.expire(now.Add(searchTime + 1))
	if len(s.of) != 0 || len(s.prefixes) != 0 || len(s.addrs) != 0 {
		t.Errorf("%d searches of %d clients remain", len(s.of), len(s.prefixes))
	}
}

func TestRefreshIsDue(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	n := &neighbour{}
	n.use()
	if n.due(now) {
		t.Error("a reachable neighbour is refreshed")
	}
	n = n.next(&netlink.Neigh{State: netlink.NUD_STALE, HardwareAddr: n.mac[:]})
	if n.due(now) {
		t.Error("a neighbour that went stale is refreshed without use since")
	}
	n.use()
	if !n.due(now) {
		t.Error("a stale neighbour in use is not refreshed")
	}
	n.use()
	if n.due(now.Add(refreshStale - 1)) {
		t.Error("a stale neighbour is refreshed twice within 30 s")
	}
	if !n.due(now.Add(refreshStale)) {
		t.Error("a stale neighbour in use is not refreshed again after 30 s")
	}
}

func TestNeighbourStates(t *testing.T) {
	t.Parallel()
	mac, other := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	known, failed := &neighbour{mac: [6]byte(mac)}, &neighbour{failed: true}
	for _, c := range []struct {
		name   string
		before *neighbour
		state  int
		mac    []byte
		same   bool // the identical *neighbour remains
		want   *neighbour
	}{
		{"found", nil, netlink.NUD_REACHABLE, mac, false, known},
		{"still there", known, netlink.NUD_PROBE, mac, true, known},
		{"moved", known, netlink.NUD_REACHABLE, other, false, &neighbour{mac: [6]byte(other)}},
		{"searched for", nil, netlink.NUD_INCOMPLETE, nil, false, nil},
		{"searched for once more", known, netlink.NUD_INCOMPLETE, nil, false, nil},
		{"not found", nil, netlink.NUD_FAILED, nil, false, failed},
		{"lost", known, netlink.NUD_FAILED, mac, false, failed},
		{"still not found", failed, netlink.NUD_FAILED, nil, true, failed},
		{"searched for after failing", failed, netlink.NUD_INCOMPLETE, nil, true, failed},
		{"back", failed, netlink.NUD_STALE, mac, false, known},
		{"without a link-layer address", nil, netlink.NUD_NOARP, nil, false, nil},
	} {
		got := c.before.next(&netlink.Neigh{State: c.state, HardwareAddr: c.mac})
		switch {
		case (got == nil) != (c.want == nil):
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		case got != nil && (got.mac != c.want.mac || got.failed != c.want.failed):
			t.Errorf("%s: %x failed: %v, want %x failed: %v", c.name, got.mac, got.failed, c.want.mac, c.want.failed)
		case c.same != (got != nil && got == c.before):
			t.Errorf("%s: the identical neighbour remains: %v", c.name, !c.same)
		}
	}
}

func TestForeignNeighbourMessagesAreIgnored(t *testing.T) {
	t.Parallel()
	good := netlink.Neigh{Family: unix.AF_INET, LinkIndex: 4, IP: []byte{192, 0, 2, 50}, HardwareAddr: make([]byte, 6), State: netlink.NUD_REACHABLE}
	bridge, proxy, elsewhere, short := good, good, good, good
	bridge.Family = unix.AF_BRIDGE
	proxy.Flags = netlink.NTF_PROXY
	elsewhere.LinkIndex = 5
	short.IP = short.IP[:3]
	for i, m := range []netlink.Neigh{bridge, proxy, elsewhere, short} {
		s := *table().state.Load()
		if changed, _ := s.nics[v4].update(&m, false); changed {
			t.Errorf("message %d changes an answer", i)
		}
	}
	s := *table().state.Load()
	if changed, lost := s.nics[v4].update(&good, false); !changed || lost {
		t.Error("a good message changes nothing")
	}
	if changed, lost := s.nics[v4].update(&good, true); !changed || !lost {
		t.Error("the neighbour is not lost when it is deleted")
	}
}

// TestPrimary4 selects the address that an interface is known by.
func TestPrimary4(t *testing.T) {
	t.Parallel()
	address := func(p string, index, flags int) own {
		return own{prefix: netip.MustParsePrefix(p), index: index, flags: flags}
	}
	list := primary4([]own{
		address("169.254.3.4/16", 1, 0),
		address("192.0.2.1/24", 2, 0), address("198.51.100.1/24", 2, 0), address("192.0.2.2/24", 2, unix.IFA_F_SECONDARY),
		address("192.0.2.3/24", 3, unix.IFA_F_DEPRECATED), address("192.0.2.4/24", 3, unix.IFA_F_SECONDARY), address("192.0.2.5/24", 3, unix.IFA_F_SECONDARY),
		address("192.0.2.6/24", 4, unix.IFA_F_DEPRECATED), address("2001:db8::1/64", 4, 0),
		{prefix: netip.MustParsePrefix("127.0.0.1/8"), index: 5, host: true}, address("203.0.113.1/32", 5, 0),
	})
	for index, want := range map[int]string{2: "192.0.2.1", 3: "192.0.2.4", 4: "192.0.2.6", 5: "203.0.113.1"} {
		if list[index].String() != want {
			t.Errorf("interface %d has %v, want %s", index, list[index], want)
		}
	}
	if a, ok := list[1]; ok {
		t.Errorf("the link-local address %v is selected", a)
	}
}

// TestCandidates selects source addresses.
func TestCandidates(t *testing.T) {
	t.Parallel()
	address := func(p string, index, flags int) own {
		return own{prefix: netip.MustParsePrefix(p), index: index, flags: flags}
	}
	owns := []own{
		address("fe80::1/64", 6, 0),
		address("2001:db8::dead/64", 6, unix.IFA_F_DEPRECATED),
		address("2001:db8::1/64", 6, 0),
		address("2001:db8::2/64", 6, unix.IFA_F_TENTATIVE),
		address("2001:db8::3/64", 6, unix.IFA_F_DADFAILED),
		address("2001:db8:ffff::1/64", 5, 0),
		address("198.51.100.1/24", 5, 0),
	}
	c := sources(owns, 6, v6)
	want := candidates{{owns[0].prefix.Addr(), false}, {owns[2].prefix.Addr(), false}, {owns[1].prefix.Addr(), true}}
	if !slices.Equal(c, want) {
		t.Errorf("candidates are %v, want %v", c, want)
	}
	if a, ok := c.best(netip.MustParseAddr("2001:db8::dea0")); !ok || a != owns[2].prefix.Addr() {
		t.Errorf("the deprecated address, which shares more bits, wins: %v", a)
	}
	if a, ok := c[2:].best(netip.MustParseAddr("2001:db8::dea0")); !ok || a != owns[1].prefix.Addr() {
		t.Errorf("the only address, a deprecated one, is not used: %v", a)
	}
	if c := sources(owns, 4, v4); len(c) != 1 || c[0].addr != owns[6].prefix.Addr() {
		t.Errorf("without an address of the interface the candidates are %v", c)
	}
	if c := sources(owns[:1], 6, v6); len(c) != 1 {
		t.Errorf("candidates are %v", c)
	} else if a, ok := c.best(netip.MustParseAddr("2001:db8::9")); ok {
		t.Errorf("an error leaves the link with source %v", a)
	}
}

// TestLostMessagesLeadToAFullRead passes the error of an overrun socket to the loop.
func TestLostMessagesLeadToAFullRead(t *testing.T) {
	t.Parallel()
	f := &follower{t: &Table{log: slog.New(slog.DiscardHandler)}}
	if err := f.take(batch{err: unix.ENOBUFS}); err != nil || !f.stale {
		t.Errorf("error %v, stale: %v", err, f.stale)
	}
	if err := f.take(batch{err: unix.EBADF}); err == nil {
		t.Error("the error of a broken socket is ignored")
	}
}

func BenchmarkCacheHop6(b *testing.B) {
	cache := NewCache(table())
	a, _, _ := host(3)
	for b.Loop() {
		cache.Hop6(&packet.Selector6{Dst: a})
	}
}

func BenchmarkCacheHop4(b *testing.B) {
	cache := NewCache(table())
	_, a, _ := host(3)
	for b.Loop() {
		cache.Hop4(&packet.Selector4{Dst: a})
	}
}

func BenchmarkCacheMiss6(b *testing.B) {
	t := table()
	a, _, _ := host(3)
	for b.Loop() {
		t.state.Load().answer(v6, flow6(&packet.Selector6{Dst: a}))
	}
}

// A View has the answers of a Cache, and marks no neighbour as used.
func TestViewAgreesWithCache(t *testing.T) {
	t.Parallel()
	tab := table()
	view, cache := NewView(tab), NewCache(tab)
	for n := range byte(12) {
		a6, a4, _ := host(n + 1)
		f6, f4 := packet.Selector6{Dst: a6, Proto: packet.NumUDP}, packet.Selector4{Dst: a4, Proto: packet.NumUDP}
		h6, pending6, r6 := view.Hop6(&f6)
		h4, pending4, r4 := view.Hop4(&f4)
		if known, _ := tab.state.Load().nics[v4].neighbours.Get(netip.PrefixFrom(netip.AddrFrom4(a4), 32)); known != nil && known.used.Load() {
			t.Errorf("host %d counts as used", n+1)
		}
		if h, pending, r := cache.Hop6(&f6); h != h6 || pending != pending6 || r != r6 {
			t.Errorf("host %d: %v, %v, %v; the cache has %v, %v, %v", n+1, h6, pending6, r6, h, pending, r)
		}
		if h, pending, r := cache.Hop4(&f4); h != h4 || pending != pending4 || r != r4 {
			t.Errorf("host %d: %v, %v, %v; the cache has %v, %v, %v", n+1, h4, pending4, r4, h, pending, r)
		}
		if via := view.Via4(&f4); via != netip.AddrFrom4(a4) {
			t.Errorf("host %d is reached via %v", n+1, via)
		}
	}
	if via := view.Via4(&packet.Selector4{Dst: packet.Addr4{203, 0, 113, 1}}); via.IsValid() {
		t.Errorf("a host without a route is reached via %v", via)
	}
}
