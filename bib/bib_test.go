package bib_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// tables is a BIB and its pool. Worker 0 is in a batch during each call of a method.
type tables struct {
	*bib.Table
	pool   *pool4.Pool
	epochs *table.Epochs
}

func newTables(t testing.TB, workers, limit int, addresses, ports string) *tables {
	t.Helper()
	b := &tables{pool: pool4.New([16]byte{1}), epochs: table.NewEpochs(workers)}
	b.Table = bib.New(b.pool, b.epochs, limit, [16]byte{2}, nil)
	entries, err := pool4.ParseRange(addresses, ports)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	return b
}

// hold is Acquire6 in a batch of its own.
func (b *tables) hold(p packet.Proto, c packet.Endpoint6) (bib.ID, packet.Endpoint4, drop.Reason) {
	b.epochs.Enter(0)
	defer b.epochs.Leave(0)
	id, r := b.Acquire6(pool4.Request{Proto: p, Client: c, Remote: endpoint4("198.51.100.1", 53)})
	if r != drop.None {
		return 0, packet.Endpoint4{}, r
	}
	return id, b.Mapped(id), r
}

// all lists all bindings.
func (b *tables) all() (all []bib.Binding) {
	buf := make([]bib.Binding, 7)
	for cursor := uint32(0); ; {
		var n int
		n, cursor = b.List(cursor, buf)
		all = append(all, buf[:n]...)
		if cursor == 0 {
			return all
		}
	}
}

func endpoint6(addr string, port uint16) packet.Endpoint6 {
	return packet.Endpoint6{Addr: netip.MustParseAddr(addr).As16(), Port: port}
}

func endpoint4(addr string, port uint16) packet.Endpoint4 {
	return packet.Endpoint4{Addr: netip.MustParseAddr(addr).As4(), Port: port}
}

func TestBindingEndsWithLastRelease(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 100, "192.0.2.1", "7000-7009")
	c := endpoint6("2001:db8::1", 5000)
	first, m, r := b.hold(packet.UDP, c)
	if r != drop.None {
		t.Fatal(r)
	}
	if second, n, _ := b.hold(packet.UDP, c); second != first || n != m {
		t.Errorf("the second session's binding is %v to %v, want %v to %v", second, n, first, m)
	}
	b.Release(first)
	if got, ok := b.Lookup6(packet.UDP, c); !ok || got != m {
		t.Errorf("Lookup6 with one session left: %v, %v", got, ok)
	}
	if got, ok := b.Lookup4(packet.UDP, m); !ok || got != c {
		t.Errorf("Lookup4 with one session left: %v, %v", got, ok)
	}
	b.Release(first)
	if got, ok := b.Lookup6(packet.UDP, c); ok {
		t.Errorf("Lookup6 without a session: %v", got)
	}
	if got, ok := b.Lookup4(packet.UDP, m); ok {
		t.Errorf("Lookup4 without a session: %v", got)
	}
	if b.Len(packet.UDP) != 0 || b.pool.Usage()[1].Used != 0 {
		t.Errorf("%d bindings, pool %v", b.Len(packet.UDP), b.pool.Usage())
	}
}

// TestPairedAddress checks RFC 6888 REQ-2: all flows of a client, in all protocols, have one address.
func TestPairedAddress(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 1000, "192.0.2.0/28", "1024-65535")
	var addr packet.Addr4
	for x := range uint16(100) {
		_, m, r := b.hold(packet.Proto(x%3), endpoint6("2001:db8::1", x))
		if r != drop.None {
			t.Fatal(r)
		}
		if x > 0 && m.Addr != addr {
			t.Fatalf("flow %d has address %v, the others %v", x, m.Addr, addr)
		}
		addr = m.Addr
	}
}

func TestStaticBindingPairsAddress(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 1000, "192.0.2.0/28", "1024-65535")
	for i := range uint16(16) {
		c := endpoint6("2001:db8::", 80)
		c.Addr[15] = byte(i)
		m := endpoint4("192.0.2.0", 80)
		m.Addr[3] = byte(i)
		if err := b.AddStatic(packet.TCP, c, m); err != nil {
			t.Fatal(err)
		}
		c.Port = 5000
		if _, got, _ := b.hold(packet.UDP, c); got.Addr != m.Addr {
			t.Errorf("the client of static %v gets %v", m, got)
		}
	}
}

func TestStaticBindings(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 100, "192.0.2.1", "7000-7001")
	c1, c2 := endpoint6("2001:db8::1", 80), endpoint6("2001:db8::2", 80)
	web, in := endpoint4("192.0.2.1", 80), endpoint4("192.0.2.1", 7000)
	for _, s := range []struct {
		c    packet.Endpoint6
		m    packet.Endpoint4
		says string
	}{
		{c1, web, ""},
		{c1, web, "remove that first"},
		{c1, in, "remove that first"},
		{c2, web, "in use"},
		{c2, endpoint4("192.0.2.2", 80), "not in pool4"},
		{c2, endpoint4("192.0.2.1", 0), "no port 0"},
		{c2, in, ""},
	} {
		err := b.AddStatic(packet.TCP, s.c, s.m)
		if (err == nil) != (s.says == "") || err != nil && !strings.Contains(err.Error(), s.says) {
			t.Errorf("AddStatic(%v, %v): %v, want %q", s.c, s.m, err, s.says)
		}
	}
	id, m, _ := b.hold(packet.TCP, c1)
	if m != web {
		t.Errorf("the client's packet uses %v, want %v", m, web)
	}
	b.Release(id)
	if _, ok := b.Lookup4(packet.TCP, web); !ok {
		t.Error("a static binding has ended with its last session")
	}
	// 7000 is bound: only 7001 is left.
	if _, m, r := b.hold(packet.TCP, endpoint6("2001:db8::3", 9)); r != drop.None || m.Port != 7001 {
		t.Errorf("allocated %v, %v with a static binding", m, r)
	}
	if _, _, r := b.hold(packet.TCP, endpoint6("2001:db8::4", 9)); r != drop.PoolExhausted {
		t.Errorf("reason %v from an exhausted pool", r)
	}
}

// TestDynamicBindingBecomesStatic makes a dynamic binding static: it outlives its sessions, and only Unlink ends it.
func TestDynamicBindingBecomesStatic(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 100, "192.0.2.1", "7000-7001")
	c := endpoint6("2001:db8::1", 80)
	id, m, _ := b.hold(packet.TCP, c)
	if err := b.AddStatic(packet.TCP, c, m); err != nil {
		t.Fatal(err)
	}
	if all := b.all(); len(all) != 1 || !all[0].Static || all[0].Sessions != 1 {
		t.Errorf("a dynamic row has become %+v", all)
	}
	if n := b.Static(packet.TCP); n != 1 || b.Clients() != 1 {
		t.Errorf("%d bindings are static, and %d clients have one", n, b.Clients())
	}
	b.Release(id)
	if got, ok := b.Lookup6(packet.TCP, c); !ok || got != m {
		t.Errorf("after its last session it is %v, %v", got, ok)
	}
	if n := b.Unlink(func(x bib.Binding) bool { return x.Static }); n != 1 || b.Len(packet.TCP) != 0 {
		t.Errorf("%d rows taken away, %d left", n, b.Len(packet.TCP))
	}
	if n := b.Static(packet.TCP); n != 0 || b.Clients() != 0 {
		t.Errorf("in the end %d bindings are static, and %d clients have one", n, b.Clients())
	}
}

func TestFullTable(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 2, "192.0.2.1", "")
	b.hold(packet.TCP, endpoint6("2001:db8::1", 1))
	id, _, _ := b.hold(packet.UDP, endpoint6("2001:db8::1", 1))
	if _, _, r := b.hold(packet.UDP, endpoint6("2001:db8::1", 2)); r != drop.BindingLimit {
		t.Errorf("reason %v from a full table", r)
	}
	if err := b.AddStatic(packet.UDP, endpoint6("2001:db8::1", 2), endpoint4("192.0.2.1", 80)); err == nil {
		t.Error("a full table takes a static row")
	}
	b.Release(id)
	if _, _, r := b.hold(packet.UDP, endpoint6("2001:db8::1", 2)); r != drop.None {
		t.Errorf("reason %v after a binding has ended", r)
	}
}

// TestUnlink unlinks bindings that sessions have acquired.
func TestUnlink(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 100, "192.0.2.1", "7000-7001")
	c := endpoint6("2001:db8::1", 80)
	old, m, _ := b.hold(packet.UDP, c)
	if n := b.Unlink(func(x bib.Binding) bool { return x.Mapped == m }); n != 1 {
		t.Fatalf("%d bindings unlinked", n)
	}
	if b.Linked(old) || b.Len(packet.UDP) != 0 || len(b.all()) != 0 {
		t.Errorf("linked %v, %d bindings, %v", b.Linked(old), b.Len(packet.UDP), b.all())
	}
	next, _, r := b.hold(packet.UDP, c)
	if r != drop.None || next == old {
		t.Errorf("the client's next binding is %v, %v; the old one, still held, is %v", next, r, old)
	}
	b.Release(old)
	if _, ok := b.Lookup6(packet.UDP, c); !ok {
		t.Error("the end of the old binding ended the new one")
	}
}

// TestAddressIsForgotten ends all bindings of a client, which then is a new client to pool4.
func TestAddressIsForgotten(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 100, "192.0.2.1-192.0.2.2", "7000")
	c := endpoint6("2001:db8::1", 5000)
	id, first, _ := b.hold(packet.UDP, c)
	b.Release(id)
	for x := range byte(100) { // other clients take its port
		other := c
		other.Addr[8] = x + 1
		id, m, r := b.hold(packet.UDP, other)
		if r != drop.None {
			t.Fatal(r)
		}
		if m == first {
			break
		}
		b.Release(id)
	}
	if _, m, r := b.hold(packet.UDP, c); r != drop.None || m == first {
		t.Errorf("got %v, %v, with %v taken by another client", m, r, first)
	}
}

// TestUnlinkedBindingsAreFreed makes and unlinks more bindings than the table has slots.
func TestUnlinkedBindingsAreFreed(t *testing.T) {
	t.Parallel()
	b := newTables(t, 1, 2, "192.0.2.1", "7000")
	for i := range 30_000 {
		id, _, r := b.hold(packet.UDP, endpoint6("2001:db8::1", 5000))
		if r != drop.None {
			t.Fatalf("turn %d: %v", i, r)
		}
		b.Unlink(func(bib.Binding) bool { return true })
		b.Release(id)
	}
}

// TestConcurrentUse lets workers make and end the same few bindings, while other goroutines look them up, list and
// unlink them. No transport address may have two owners.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const (
		workers = 4
		rounds  = 20_000
	)
	b := newTables(t, workers, 10_000, "192.0.2.1", "2000-2030")
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				b.epochs.Enter(w)
				c := endpoint6("2001:db8::1", uint16(2000+i%40))
				if id, r := b.Acquire6(pool4.Request{Proto: packet.UDP, Client: c}); r == drop.None {
					if got := b.Client(id); *got != c {
						t.Errorf("the binding of %v belongs to %v", c, got)
					}
					if got, ok := b.Lookup4(packet.UDP, b.Mapped(id)); ok && got != c && b.Linked(id) {
						t.Errorf("%v belongs to %v and %v", b.Mapped(id), c, got)
					}
					b.Release(id)
				}
				b.epochs.Leave(w)
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			b.all()
			b.Unlink(func(x bib.Binding) bool { return int(x.Client.Port)%40 == i%40 })
			m := endpoint4("192.0.2.1", uint16(100+i))
			if b.AddStatic(packet.UDP, endpoint6("2001:db8::1", uint16(2000+i%40)), m) == nil {
				b.Unlink(func(x bib.Binding) bool { return x.Mapped == m })
			}
		}
	})
	wg.Wait()
	if n := b.Len(packet.UDP); n != 0 {
		t.Errorf("%d bindings are left", n)
	}
	for _, u := range b.pool.Usage() {
		if u.Used != 0 {
			t.Errorf("%v: %d ports are still in use", u.Entry, u.Used)
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	b := newTables(t, 1, 100, "192.0.2.1", "")
	c := endpoint6("2001:db8::1", 5000)
	_, m, _ := b.hold(packet.UDP, c)
	if n := testing.AllocsPerRun(1000, func() {
		b.Lookup6(packet.UDP, c)
		b.Lookup4(packet.UDP, m)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	t := newTables(b, 1, 100_000, "192.0.2.0/29", "")
	var at [100_000]packet.Endpoint4
	c := endpoint6("2001:db8::1", 0)
	client := func(i uint32) packet.Endpoint6 {
		c.Addr[10], c.Addr[11], c.Port = byte(i>>16), byte(i>>8), uint16(i)
		return c
	}
	for i := range uint32(len(at)) {
		_, m, r := t.hold(packet.UDP, client(i))
		if r != drop.None {
			b.Fatal(r)
		}
		at[i] = m
	}
	i := uint32(0)
	b.Run("6", func(b *testing.B) {
		for b.Loop() {
			t.Lookup6(packet.UDP, client(i*7919%100_000))
			i++
		}
	})
	b.Run("4", func(b *testing.B) {
		for b.Loop() {
			t.Lookup4(packet.UDP, at[i*7919%100_000])
			i++
		}
	})
}
