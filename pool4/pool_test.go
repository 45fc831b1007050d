package pool4

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// newPool returns a pool with ranges: addresses and ports in turn, for all protocols.
func newPool(t testing.TB, ranges ...string) *Pool {
	t.Helper()
	p := New([16]byte{1, 2, 3})
	for i := 0; i+1 < len(ranges); i += 2 {
		if _, _, err := p.Add(parse(t, ranges[i], ranges[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func parse(t testing.TB, addresses, ports string, protos ...packet.Proto) []Entry {
	t.Helper()
	entries, err := ParseRange(addresses, ports, protos...)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// request returns a request of client number n from a source port.
func request(proto packet.Proto, client uint32, port uint16) Request {
	q := Request{Proto: proto, Remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 53}}
	q.Client = packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8}, Port: port}
	binary.BigEndian.PutUint32(q.Client.Addr[12:], client)
	return q
}

func TestAddReportsMergedRanges(t *testing.T) {
	t.Parallel()
	p := newPool(t)
	for _, c := range []struct{ ports, added, merged, all string }{
		{"7000-8000", "7000-8000", "", "7000-8000"},
		{"9000", "9000", "", "7000-8000 9000"},
		{"7500-8500", "7500-8500", "7000-8500", "7000-8500 9000"},
		{"7100-7200", "", "7000-8500", "7000-8500 9000"},
		{"8501-8999", "8501-8999", "7000-9000", "7000-9000"},
		{"1-65535", "1-65535", "1-65535", "1-65535"},
	} {
		added, merged, err := p.Add(parse(t, "192.0.2.1", c.ports, packet.TCP))
		if err != nil {
			t.Fatal(err)
		}
		if list(added) != c.added || c.merged != list(merged) && c.merged != c.ports || list(p.Entries()) != c.all {
			t.Errorf("add %s: added %q, merged %q, now %q; want %+v", c.ports, list(added), list(merged), list(p.Entries()), c)
		}
	}
}

func TestRemovePunchesHoles(t *testing.T) {
	t.Parallel()
	p := newPool(t)
	if _, _, err := p.Add(parse(t, "192.0.2.1", "7000-8000", packet.TCP)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ports, err, all string }{
		{"7500", "", "7000-7499 7501-8000"},
		{"7400-7600", "7501-8000", "7000-7499 7501-8000"},
		{"7000", "", "7001-7499 7501-8000"},
		{"9000", "7001-7499", "7001-7499 7501-8000"},
		{"7501-8000", "", "7001-7499"},
		{"7001-7499", "", ""},
		{"7001-7499", "has no tcp ports of 192.0.2.1", ""},
	} {
		_, err := p.Remove(parse(t, "192.0.2.1", c.ports, packet.TCP))
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("remove %s: error %v, want %q", c.ports, err, c.err)
		}
		if got := list(p.Entries()); got != c.all {
			t.Errorf("remove %s: now %q, want %q", c.ports, got, c.all)
		}
	}
}

func TestRemoveIsAllOrNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.1", "7000-8000")
	before := p.Usage()
	if _, err := p.Remove(append(parse(t, "192.0.2.1", "7000"), parse(t, "192.0.2.2", "7000")...)); err == nil {
		t.Error("no error")
	}
	if !slices.Equal(p.Usage(), before) {
		t.Errorf("now %v", p.Usage())
	}
}

func list(entries []Entry) string {
	var all []string
	for _, e := range entries {
		f := strings.Fields(e.String())
		all = append(all, f[len(f)-1])
	}
	return strings.Join(all, " ")
}

func TestAddressesAndEntriesAreSorted(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.9", "80", "192.0.2.1", "7000-8000", "192.0.2.9", "8001-9000")
	if _, err := p.Remove(parse(t, "192.0.2.1", "7000-8000", packet.ICMP)); err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9")}
	if got := p.Addresses(); !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	entries := p.Entries()
	if len(entries) != 2+3*2 || !slices.IsSortedFunc(entries, Entry.Compare) {
		t.Errorf("entries %v, want 8, sorted", entries)
	}
	p.Flush()
	if a, e := p.Addresses(), p.Entries(); len(a) != 0 || len(e) != 0 {
		t.Errorf("an empty pool has addresses %v and entries %v", a, e)
	}
}

// TestClassAndParity allocates all of a pool of ten ports on either side of 1024: RFC 6146 section 3.5.1.1 for UDP, section
// 3.5.2.3 for TCP.
func TestClassAndParity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		proto packet.Proto
		x     uint16
		want  string // the kinds of ports in the order in which they go
	}{
		{packet.UDP, 500, "low even ×5, low odd ×5, high ×10"},
		{packet.UDP, 501, "low odd ×5, low even ×5, high ×10"},
		{packet.UDP, 5000, "high even ×5, high odd ×5, low ×10"},
		{packet.UDP, 5001, "high odd ×5, high even ×5, low ×10"},
		{packet.TCP, 500, "low ×10, high ×10"},
		{packet.TCP, 5001, "high ×10, low ×10"},
		{packet.ICMP, 500, "any ×20"},
	} {
		p := newPool(t, "192.0.2.1", "1014-1033")
		seen := make(map[uint16]bool)
		for _, step := range strings.Split(c.want, ", ") {
			var kind string
			var n int
			at := strings.LastIndex(step, " ×")
			kind = step[:at]
			fmt.Sscanf(step[at:], " ×%d", &n)
			for range n {
				e, r := p.Allocate(request(c.proto, 1, c.x))
				if r != drop.None || seen[e.Port] || !isKind(e.Port, kind) {
					t.Fatalf("%v from port %d: got %v, %v; want a port that is %s", c.proto, c.x, e, r, kind)
				}
				seen[e.Port] = true
			}
		}
		if _, r := p.Allocate(request(c.proto, 1, c.x)); r != drop.PoolExhausted {
			t.Errorf("%v: reason %v when nothing is left", c.proto, r)
		}
	}
}

func isKind(port uint16, kind string) bool {
	return (!strings.Contains(kind, "low") || port < 1024) && (!strings.Contains(kind, "high") || port >= 1024) &&
		(!strings.Contains(kind, "even") || port%2 == 0) && (!strings.Contains(kind, "odd") || port%2 == 1)
}

func TestEmptyPool(t *testing.T) {
	t.Parallel()
	p := newPool(t)
	if _, r := p.Allocate(request(packet.TCP, 1, 5000)); r != drop.PoolEmpty {
		t.Errorf("reason %v from an empty pool", r)
	}
	if _, _, err := p.Add(parse(t, "192.0.2.1", "7000", packet.UDP)); err != nil {
		t.Fatal(err)
	}
	if _, r := p.Allocate(request(packet.TCP, 1, 5000)); r != drop.PoolEmpty {
		t.Errorf("reason %v from a pool without TCP ports", r)
	}
}

// TestAddressFollowsFromClient checks that a client always gets the same address, that clients spread over the pool,
// and that new clients of a full address get the next one, while clients that have the address get no other.
func TestAddressFollowsFromClient(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.0/28", "1-100")
	per := make(map[packet.Addr4]int)
	for client := range uint32(160) {
		a, _ := p.Allocate(request(packet.TCP, client, 5000))
		b, _ := p.Allocate(request(packet.TCP, client, 5001))
		if a.Addr != b.Addr {
			t.Fatalf("client %d has %v and %v", client, a.Addr, b.Addr)
		}
		per[a.Addr] += 2
	}
	for addr, n := range per {
		if n > 60 {
			t.Errorf("%v has %d of 320 ports", addr, n)
		}
	}
	if len(per) != 16 {
		t.Errorf("%d of 16 addresses are used", len(per))
	}

	first, _ := p.Allocate(request(packet.UDP, 1, 5000))
	for range 99 {
		p.Allocate(request(packet.UDP, 1, 5000))
	}
	next, r := p.Allocate(request(packet.UDP, 1, 5000))
	if r != drop.None || next.Addr == first.Addr {
		t.Errorf("a new client gets %v, %v from a full address %v", next, r, first.Addr)
	}
	paired := request(packet.UDP, 1, 5000)
	paired.Paired = first.Addr
	if e, r := p.Allocate(paired); r != drop.PoolExhausted {
		t.Errorf("a client that has %v gets %v, %v", first.Addr, e, r)
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	p := newPool(t)
	if _, _, err := p.Add(parse(t, "192.0.2.1", "7000-7001", packet.UDP)); err != nil {
		t.Fatal(err)
	}
	at := func(port uint16) packet.Endpoint4 {
		return packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 1}, Port: port}
	}
	for _, c := range []struct {
		proto packet.Proto
		e     packet.Endpoint4
		says  string
	}{
		{packet.UDP, at(7000), ""},
		{packet.UDP, at(7000), "in use"},
		{packet.UDP, at(80), ""},
		{packet.TCP, at(7000), ""},
		{packet.TCP, at(0), "no port 0"},
		{packet.ICMP, at(0), ""},
		{packet.UDP, packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 2}, Port: 80}, "not in pool4"},
	} {
		err := p.Reserve(c.proto, c.e)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("Reserve(%v, %v): %v, want %q", c.proto, c.e, err, c.says)
		}
	}
	if e, r := p.Allocate(request(packet.UDP, 1, 7000)); r != drop.None || e != at(7001) {
		t.Errorf("allocated %v, %v with a reserved port", e, r)
	}
	// A reserved port that joins the pool later is not free either.
	if _, _, err := p.Add(parse(t, "192.0.2.1", "80", packet.UDP)); err != nil {
		t.Fatal(err)
	}
	if e, r := p.Allocate(request(packet.UDP, 1, 7000)); r != drop.PoolExhausted {
		t.Errorf("allocated %v, %v though everything is reserved", e, r)
	}
	p.Release(packet.UDP, at(80))
	if e, r := p.Allocate(request(packet.UDP, 1, 7000)); r != drop.None || e != at(80) {
		t.Errorf("allocated %v, %v after the release", e, r)
	}
}

// TestConcurrentUse allocates from several goroutines while the pool changes: no port may have two owners.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.0/30", "2000-2200")
	var owners sync.Map
	var wg sync.WaitGroup
	for w := range uint32(4) {
		wg.Go(func() {
			var mine []packet.Endpoint4
			for i := range 5000 {
				e, r := p.Allocate(request(packet.UDP, w, uint16(2000+i)))
				if r == drop.None {
					if other, taken := owners.LoadOrStore(e, w); taken {
						t.Errorf("%v belongs to %v and %v", e, other, w)
					}
					mine = append(mine, e)
				}
				p.Contains(packet.UDP, e)
				if len(mine) > 150 || r != drop.None && len(mine) > 0 {
					owners.Delete(mine[0])
					p.Release(packet.UDP, mine[0])
					mine = mine[1:]
				}
			}
		})
	}
	wg.Go(func() {
		hole := parse(t, "192.0.2.1-192.0.2.2", "2000-2200", packet.UDP)
		for range 100 {
			if _, err := p.Remove(hole); err != nil {
				t.Error(err)
			}
			p.Usage()
			if _, _, err := p.Add(hole); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func TestNoAllocations(t *testing.T) {
	p := newPool(t, "192.0.2.1", "")
	q := request(packet.UDP, 1, 5000)
	e, _ := p.Allocate(q)
	p.Release(packet.UDP, e)
	if n := testing.AllocsPerRun(1000, func() { p.Contains(packet.UDP, e) }); n != 0 {
		t.Errorf("Contains: %v allocations", n)
	}
	divided := newPool(t, "192.0.2.1", "")
	divided.Configure(Config{Fields: AllFields, BlockSize: 64})
	for _, p := range []*Pool{p, divided} {
		// Blocks of ports are made once, 63 of them: AllocsPerRun rounds them down to none.
		if n := testing.AllocsPerRun(1000, func() {
			e, _ := p.Allocate(q)
			p.Release(packet.UDP, e)
		}); n != 0 {
			t.Errorf("Allocate: %v allocations", n)
		}
	}
}
