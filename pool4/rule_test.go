package pool4

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
)

// ruled is a pool with rules and what it should do, computed plainly.
type ruled struct {
	pool  *Pool
	in    map[netip.Addr]bool // addresses of the pool, each with the ports 2048-2051
	rules []Rule
	used  map[packet.Endpoint4]bool
}

// sources are nested, so that the longest match decides.
var sources = []netip.Prefix{
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("2001:db8:1:1::/64"),
	netip.MustParsePrefix("2001:db8:2::/48"),
}

var ruledClients = []netip.Addr{
	netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1:1::1"),
	netip.MustParseAddr("2001:db8:2::1"), netip.MustParseAddr("fd00::1"),
}

func ruledAddress(n int) netip.Addr { return addrOf(0xc0000200 + uint32(n)) }

// serves returns the addresses that a client may get.
func (m *ruled) serves(client netip.Addr) (list []netip.Addr) {
	best := -1
	for _, r := range m.rules {
		for _, p := range r.Sources {
			if p.Contains(client) {
				best = max(best, p.Bits())
			}
		}
	}
	for a := range m.in {
		i := slices.IndexFunc(m.rules, func(r Rule) bool { return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0 })
		ours := i < 0 || len(m.rules[i].Sources) == 0
		if best >= 0 {
			ours = i >= 0 && slices.ContainsFunc(m.rules[i].Sources, func(p netip.Prefix) bool { return p.Bits() == best && p.Contains(client) })
		}
		if ours {
			list = append(list, a)
		}
	}
	return list
}

func (m *ruled) change(t *rapid.T) {
	m.rules = nil
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		first := rapid.IntRange(0, 5).Draw(t, "first")
		m.rules = append(m.rules, Rule{
			Proto: packet.UDP, First: ruledAddress(first), Last: ruledAddress(first + rapid.IntRange(0, 2).Draw(t, "more")),
			Sources: rapid.SliceOfN(rapid.SampledFrom(sources), 0, 3).Draw(t, "sources"), Weight: rapid.IntRange(1, 5).Draw(t, "weight"),
		})
	}
	m.pool.SetRules(m.rules)
}

func (m *ruled) resize(t *rapid.T) {
	a := ruledAddress(rapid.IntRange(0, 7).Draw(t, "address"))
	e := []Entry{{Addr: a, Proto: packet.UDP, Lo: 2048, Hi: 2051}}
	var err error
	if m.in[a] {
		delete(m.in, a)
		_, err = m.pool.Remove(e)
	} else {
		m.in[a] = true
		_, _, err = m.pool.Add(e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *ruled) allocate(t *rapid.T) {
	client := rapid.SampledFrom(ruledClients).Draw(t, "client")
	q := Request{Proto: packet.UDP, Client: packet.Endpoint6{Addr: client.As16(), Port: rapid.Uint16().Draw(t, "port")}}
	paired := ruledAddress(rapid.IntRange(0, 7).Draw(t, "paired"))
	if rapid.Bool().Draw(t, "has an address") {
		q.Paired = paired.As4()
	}
	if rapid.Bool().Draw(t, "wants") {
		q.Wanted = []packet.Endpoint4{{Addr: ruledAddress(rapid.IntRange(0, 7).Draw(t, "wanted")).As4(), Port: 2048}}
	}
	may := m.serves(client)
	if got := m.pool.Serves(client.As16(), paired.As4()); got != slices.Contains(may, paired) {
		t.Fatalf("Serves(%v, %v) = %v", client, paired, got)
	}
	only := q.Paired != packet.Addr4{} && slices.Contains(may, paired)
	all := may
	if only {
		may = []netip.Addr{paired}
	}
	free := slices.DeleteFunc(slices.Clone(may), func(a netip.Addr) bool { return m.full(a) })
	e, r := m.pool.Allocate(q)
	switch {
	case len(all) == 0 && r != drop.PoolEmpty, len(all) > 0 && len(free) == 0 && r != drop.PoolExhausted, len(free) > 0 && r != drop.None:
		t.Fatalf("%v: reason %v with %v of %v free", client, r, free, all)
	case r == drop.None && !slices.Contains(free, netip.AddrFrom4(e.Addr)):
		t.Fatalf("%v got %v, want one of %v", client, e, free)
	case r == drop.None:
		m.used[e] = true
	}
}

func (m *ruled) full(a netip.Addr) bool {
	for port := uint16(2048); port <= 2051; port++ {
		if !m.used[packet.Endpoint4{Addr: a.As4(), Port: port}] {
			return false
		}
	}
	return true
}

func (m *ruled) release(t *rapid.T) {
	for e := range m.used {
		delete(m.used, e)
		m.pool.Release(packet.UDP, e)
		return
	}
}

// TestRulesModel compares the choice of addresses by rules with a plain search.
func TestRulesModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &ruled{pool: New([16]byte{3}), in: map[netip.Addr]bool{}, used: map[packet.Endpoint4]bool{}}
		t.Repeat(map[string]func(*rapid.T){"rules": m.change, "addresses": m.resize, "allocate": m.allocate, "release": m.release})
	})
}

// New clients spread over addresses in proportion to the weights, and a client always starts at the same address.
func TestWeights(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.0/30", "")
	p.SetRules([]Rule{
		{Proto: packet.TCP, First: ruledAddress(1), Last: ruledAddress(1), Weight: 5},
		{Proto: packet.TCP, First: ruledAddress(3), Last: ruledAddress(3), Weight: 3},
	})
	const clients = 20000
	got := map[packet.Addr4]int{}
	for n := range uint32(clients) {
		e, r := p.Allocate(request(packet.TCP, n, 5000))
		again, _ := p.Allocate(request(packet.TCP, n, 5001))
		if r != drop.None || again.Addr != e.Addr {
			t.Fatalf("client %d got %v and %v, %v", n, e, again, r)
		}
		got[e.Addr]++
		p.Release(packet.TCP, e)
		p.Release(packet.TCP, again)
	}
	for i, weight := range []int{1, 5, 1, 3} {
		n := got[ruledAddress(i).As4()]
		if want := clients * weight / 10; n < want*9/10 || n > want*11/10 {
			t.Errorf("%v has %d of %d new clients, want about %d", ruledAddress(i), n, clients, want)
		}
	}
	got = map[packet.Addr4]int{}
	for n := range uint32(400) { // other protocols have no rule
		e, _ := p.Allocate(request(packet.UDP, n, 5000))
		got[e.Addr]++
	}
	for a, n := range got {
		if n < 60 || n > 140 {
			t.Errorf("%v has %d of 400 new clients of a protocol without weights", a, n)
		}
	}
}

// A client whose addresses have no free port gets none of other clients, also not one that rests.
func TestRulesWithRestingPorts(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.0-192.0.2.1", "7000")
	p.Configure(Config{HoldDown: 120e9, RestAtLeast: 1, Fields: AllFields})
	p.SetRules([]Rule{{Proto: packet.UDP, First: ruledAddress(1), Last: ruledAddress(1), Sources: sources[:1]}})
	q := Request{Proto: packet.UDP, Client: packet.Endpoint6{Addr: ruledClients[0].As16(), Port: 1}}
	for range 2 {
		e, r := p.Allocate(q)
		if r != drop.None || e.Addr != ruledAddress(1).As4() {
			t.Fatalf("got %v, %v", e, r)
		}
		if _, r := p.Allocate(q); r != drop.PoolExhausted {
			t.Fatalf("a second port: %v", r)
		}
		p.Retire(packet.UDP, e)
		p.Expire(1e9, 10)
		p.Expire(2e9, 10)
	}
	if r, ok := p.RuleOf(packet.UDP, ruledAddress(1)); !ok || !slices.Equal(r.Sources, sources[:1]) {
		t.Errorf("the rule is %+v, %v", r, ok)
	}
	if _, ok := p.RuleOf(packet.UDP, ruledAddress(0)); ok {
		t.Error("an address without a rule has one")
	}
}

// Choosing by rules allocates no memory.
func TestRulesDoNotAllocate(t *testing.T) {
	p := newPool(t, "192.0.2.0/28", "")
	p.SetRules(manyRules())
	q := Request{Proto: packet.UDP, Client: packet.Endpoint6{Addr: ruledClients[2].As16(), Port: 1}}
	e, _ := p.Allocate(q) // makes the tables of its address
	p.Release(packet.UDP, e)
	if n := testing.AllocsPerRun(100, func() {
		e, r := p.Allocate(q)
		if r != drop.None {
			t.Fatal(r)
		}
		p.Release(packet.UDP, e)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// manyRules has a rule for each of 16 addresses, with 64 prefixes each.
func manyRules() (rules []Rule) {
	for i := range 16 {
		r := Rule{Proto: packet.UDP, First: ruledAddress(i), Last: ruledAddress(i), Weight: 1 + i%3, Sources: sources}
		for k := range 60 {
			r.Sources = append(slices.Clip(r.Sources), netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, byte(i + 16), byte(k)}), 48))
		}
		rules = append(rules, r)
	}
	return rules
}

func BenchmarkAllocateWithRules(b *testing.B) {
	for _, set := range []struct {
		name  string
		rules []Rule
	}{{"none", nil}, {"1024 prefixes", manyRules()}} {
		b.Run(set.name, func(b *testing.B) {
			p := newPool(b, "192.0.2.0/28", "")
			p.SetRules(set.rules)
			b.ReportAllocs()
			q := Request{Proto: packet.UDP, Client: packet.Endpoint6{Addr: ruledClients[2].As16(), Port: 1}}
			for b.Loop() {
				e, _ := p.Allocate(q)
				p.Release(packet.UDP, e)
			}
		})
	}
}
