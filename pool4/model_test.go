package pool4

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
)

// TestModel compares a pool with plain sets of ports: those in it, those in use and those held down.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			pool:    New([16]byte{9}),
			in:      make(map[transport]bool),
			used:    make(map[transport]bool),
			held:    make(map[transport]*time.Duration),
			first:   1015,
			longest: 6,
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":      m.add,
			"remove":   m.remove,
			"allocate": m.allocate,
			"release":  m.release,
			"retire":   m.retire,
			"expire":   m.expire,
			"hold":     m.configure,
			"reserve":  m.reserve,
			"flush": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "really") == 0 {
					m.pool.Flush()
					clear(m.in)
				}
			},
			"": m.compare,
		})
	})
}

type transport struct {
	proto packet.Proto
	at    packet.Endpoint4
}

type model struct {
	pool     *Pool
	in, used map[transport]bool
	held     map[transport]*time.Duration // and since when; nil before the next call of Expire
	queue    []transport                  // those in held, the oldest first
	hold     time.Duration
	most     int // of held
	now      time.Duration

	first, longest uint16 // what entries are drawn: from there, or a bit later, with so many ports more at most
}

func (m *model) free(x transport) bool {
	_, held := m.held[x]
	return m.in[x] && !m.used[x] && !held
}

// entry draws an entry, small enough to be filled, around the border of the classes and of a chunk.
func (m *model) entry(t *rapid.T) Entry {
	lo := rapid.Uint16Range(m.first, m.first+15).Draw(t, "lo")
	return Entry{
		Addr:  addrOf(0xc0000200 + uint32(rapid.IntRange(0, 2).Draw(t, "addr"))),
		Proto: packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto")),
		Lo:    lo,
		Hi:    lo + rapid.Uint16Range(0, m.longest).Draw(t, "n"),
	}
}

func each(e Entry, f func(transport)) {
	for port := e.Lo; port <= e.Hi; port++ {
		f(transport{e.Proto, packet.Endpoint4{Addr: e.Addr.As4(), Port: port}})
	}
}

func (m *model) add(t *rapid.T) {
	e := m.entry(t)
	if _, _, err := m.pool.Add([]Entry{e}); err != nil {
		t.Fatal(err)
	}
	each(e, func(x transport) { m.in[x] = true })
}

func (m *model) remove(t *rapid.T) {
	e := m.entry(t)
	whole := true
	each(e, func(x transport) { whole = whole && m.in[x] })
	if _, err := m.pool.Remove([]Entry{e}); (err == nil) != whole {
		t.Fatalf("Remove(%v): %v, want success %v", e, err, whole)
	}
	if whole {
		each(e, func(x transport) { delete(m.in, x) })
	}
}

func (m *model) allocate(t *rapid.T) {
	proto := packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto"))
	x := rapid.Uint16Range(1000, 1050).Draw(t, "source port")
	q := request(proto, rapid.Uint32Range(0, 50).Draw(t, "client"), x)
	q.Wanted = m.wanted(t)
	e, r := m.pool.Allocate(q)
	var free []uint16 // of this address; with r, of the pool
	any := false
	for k := range m.in {
		if k.proto == proto {
			any = true
			if m.free(k) && (r != drop.None || k.at.Addr == e.Addr) {
				free = append(free, k.at.Port)
			}
		}
	}
	switch {
	case !any && r != drop.PoolEmpty, any && len(free) == 0 && r != drop.PoolExhausted, len(free) > 0 && r != drop.None:
		t.Fatalf("reason %v with %v free", r, free)
	case r == drop.None:
		if !slices.Contains(free, e.Port) {
			t.Fatalf("%v is not free: %v", e, free)
		}
		m.best(t, proto, x, e, free, q.Wanted)
		m.used[transport{proto, e}] = true
	}
}

// wanted draws up to two transport addresses for Request.Wanted.
func (m *model) wanted(t *rapid.T) (wanted []packet.Endpoint4) {
	for range rapid.IntRange(0, 2).Draw(t, "wanted") {
		e := m.entry(t)
		wanted = append(wanted, packet.Endpoint4{Addr: e.Addr.As4(), Port: e.Lo})
	}
	return wanted
}

// best checks that no better port was free.
func (m *model) best(t *rapid.T, proto packet.Proto, x uint16, e packet.Endpoint4, free []uint16, wanted []packet.Endpoint4) {
	for _, w := range wanted {
		if (w.Port < 1024) == (x < 1024) && m.free(transport{proto, w}) {
			if e != w {
				t.Fatalf("got %v, though %v was wanted and free", e, w)
			}
			return
		}
	}
	got := e.Port
	rank := func(port uint16) int {
		switch {
		case proto == packet.ICMP:
			return 0
		case (port < 1024) != (x < 1024):
			return 2
		case proto == packet.UDP && port%2 != x%2:
			return 1
		}
		return 0
	}
	for _, f := range free {
		if rank(f) < rank(got) {
			t.Fatalf("%v from %d: got %d though %d is free", proto, x, got, f)
		}
	}
}

func (m *model) release(t *rapid.T) {
	for x := range m.used {
		delete(m.used, x)
		m.pool.Release(x.proto, x.at)
		return
	}
}

func (m *model) retire(t *rapid.T) {
	for x := range m.used {
		delete(m.used, x)
		if _, held := m.held[x]; !held && m.hold != 0 && x.proto != packet.TCP {
			m.held[x] = nil
			m.queue = append(m.queue, x)
			m.letGo(m.most != 0 && len(m.queue) > m.most)
		}
		m.pool.Retire(x.proto, x.at)
		return
	}
}

// letGo frees the port that has been held the longest, and reports whether MaxHeld demands it.
func (m *model) letGo(should bool) bool {
	if should {
		delete(m.held, m.queue[0])
		m.queue = m.queue[1:]
	}
	return should
}

// expire lets time pass. The result does not depend on the number of ports that a call frees.
func (m *model) expire(t *rapid.T) {
	m.now += time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second
	for x, since := range m.held {
		if now := m.now; since == nil {
			m.held[x] = &now
		}
	}
	for m.letGo(len(m.queue) > 0 && (m.now-*m.held[m.queue[0]] > m.hold || m.most != 0 && len(m.queue) > m.most)) {
	}
	for m.pool.Expire(m.now, rapid.IntRange(1, 3).Draw(t, "budget")) {
	}
}

func (m *model) configure(t *rapid.T) {
	m.hold = time.Duration(rapid.SampledFrom([]int{0, 50, 120}).Draw(t, "hold-down")) * time.Second
	m.most = rapid.SampledFrom([]int{0, 2, 5}).Draw(t, "held at most")
	m.pool.Configure(Config{HoldDown: m.hold, MaxHeld: m.most, Fields: Fields(rapid.IntRange(0, 15).Draw(t, "fields"))})
}

func (m *model) reserve(t *rapid.T) {
	e := m.entry(t)
	x := transport{e.Proto, packet.Endpoint4{Addr: e.Addr.As4(), Port: e.Lo}}
	held := false
	for k := range m.in {
		held = held || k.at.Addr == x.at.Addr
	}
	if err := m.pool.Reserve(x.proto, x.at); (err == nil) != (held && !m.used[x]) {
		t.Fatalf("Reserve(%v): %v", x, err)
	} else if err == nil {
		m.used[x] = true
	}
}

func (m *model) compareFree(t *rapid.T) {
	for proto := range packet.Protos {
		free, all := 0, 0
		for x := range m.in {
			if x.proto == proto {
				all++
				if m.free(x) {
					free++
				}
			}
		}
		if gotFree, gotAll := m.pool.Free(proto); gotFree != free || gotAll != all {
			t.Fatalf("%v: %d of %d free, want %d of %d", proto, gotFree, gotAll, free, all)
		}
	}
}

func (m *model) compare(t *rapid.T) {
	in := make(map[transport]bool)
	for _, u := range m.pool.Usage() {
		used, held := 0, 0
		each(u.Entry, func(x transport) {
			in[x] = true
			switch {
			case m.used[x]:
				used++
			case !m.free(x):
				held++
			}
			if !m.pool.Contains(x.proto, x.at) || !m.pool.Holds(x.proto, x.at.Addr) {
				t.Fatalf("%v is listed but not contained", x)
			}
		})
		if u.Used != used || u.Held != held {
			t.Fatalf("%v: %d used and %d held, want %d and %d", u.Entry, u.Used, u.Held, used, held)
		}
	}
	m.compareFree(t)
	if len(in) != len(m.in) {
		t.Fatalf("%d ports in the pool, want %d", len(in), len(m.in))
	}
	for x := range m.in {
		if !in[x] {
			t.Fatalf("%v is missing", x)
		}
	}
}
