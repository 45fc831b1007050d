package bib_test

import (
	"testing"

	"pgregory.net/rapid"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// TestModel compares the BIBs with plain maps (RFC 6146 section 3.1: each transport address at most once).
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{tables: newTables(t, 1, 20, "192.0.2.1-192.0.2.2", "1020-1027"), rows: make(map[key6]*row)}
		rt.Repeat(map[string]func(*rapid.T){
			"hold":       m.hold,
			"drop":       m.drop,
			"add static": m.addStatic,
			"unlink":     m.unlink,
			"configure":  m.configure,
			"":           m.compare,
		})
	})
}

type key6 struct {
	proto  packet.Proto
	client packet.Endpoint6
}

type row struct {
	mapped packet.Endpoint4
	static bool
	held   []bib.ID
}

type model struct {
	*tables
	rows map[key6]*row
	lost []bib.ID // acquired, but unlinked
	most int      // sessions of a binding
}

func drawKey(t *rapid.T) key6 {
	c := endpoint6("2001:db8::", rapid.Uint16Range(1020, 1030).Draw(t, "port"))
	c.Addr[15] = byte(rapid.IntRange(0, 2).Draw(t, "client"))
	return key6{packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto")), c}
}

func (m *model) mapped(p packet.Proto) map[packet.Endpoint4]bool {
	used := make(map[packet.Endpoint4]bool)
	for k, r := range m.rows {
		if k.proto == p {
			used[r.mapped] = true
		}
	}
	return used
}

func (m *model) hold(t *rapid.T) {
	k := drawKey(t)
	id, at, r := m.tables.hold(k.proto, k.client)
	old := m.rows[k]
	switch {
	case old != nil && m.most != 0 && len(old.held) >= m.most:
		if r != drop.BindingSessions {
			t.Fatalf("reason %v for a binding with %d sessions", r, len(old.held))
		}
		return
	case old != nil && (r != drop.None || at != old.mapped):
		t.Fatalf("%v has %v, but got %v, %v", k, old.mapped, at, r)
	case old == nil && len(m.rows) == 20 && r != drop.BindingLimit:
		t.Fatalf("reason %v from a full table", r)
	case old == nil && r == drop.None && (m.mapped(k.proto)[at] || !m.pool.Contains(k.proto, at)):
		t.Fatalf("%v got %v, which is not free", k, at)
	}
	if r != drop.None {
		m.refused(t, k, r)
		return
	}
	if old == nil {
		old = &row{mapped: at}
		m.rows[k] = old
	}
	old.held = append(old.held, id)
}

// refused checks the reason: without a free port, none may be left on the client's address, or in all of pool4.
func (m *model) refused(t *rapid.T, k key6, r drop.Reason) {
	if r == drop.BindingLimit && len(m.rows) == 20 {
		return
	}
	paired := make(map[packet.Addr4]bool)
	for other, row := range m.rows {
		if other.client.Addr == k.client.Addr {
			paired[row.mapped.Addr] = true
		}
	}
	used := m.mapped(k.proto)
	full := func(addr packet.Addr4) bool {
		for port := uint16(1020); port <= 1027; port++ {
			if !used[packet.Endpoint4{Addr: addr, Port: port}] {
				return false
			}
		}
		return true
	}
	one, two := packet.Addr4{192, 0, 2, 1}, packet.Addr4{192, 0, 2, 2}
	if r != drop.PoolExhausted || !(full(one) && full(two) || paired[one] && full(one) || paired[two] && full(two)) {
		t.Fatalf("reason %v for %v, with %d of 16 ports in use", r, k, len(used))
	}
}

func (m *model) drop(t *rapid.T) {
	if n := len(m.lost); n > 0 {
		m.Release(m.lost[n-1])
		m.lost = m.lost[:n-1]
		return
	}
	k := drawKey(t)
	r := m.rows[k]
	if r == nil || len(r.held) == 0 {
		t.Skip("nothing held")
	}
	m.Release(r.held[0])
	r.held = r.held[1:]
	m.end(k)
}

func (m *model) end(k key6) {
	if r := m.rows[k]; len(r.held) == 0 && !r.static {
		delete(m.rows, k)
	}
}

func (m *model) addStatic(t *rapid.T) {
	k := drawKey(t)
	at := endpoint4("192.0.2.1", rapid.Uint16Range(1018, 1028).Draw(t, "mapped"))
	old := m.rows[k]
	want := old == nil && !m.mapped(k.proto)[at] && len(m.rows) < 20 || old != nil && !old.static && old.mapped == at
	if err := m.AddStatic(k.proto, k.client, at); (err == nil) != want {
		t.Fatalf("AddStatic(%v, %v): %v, want success %v", k, at, err, want)
	}
	if want && old == nil {
		m.rows[k] = &row{mapped: at, static: true}
	} else if want {
		old.static = true
	}
}

func (m *model) configure(t *rapid.T) {
	m.most = rapid.IntRange(0, 3).Draw(t, "sessions of a binding")
	m.Configure(bib.Config{SessionsPerBinding: m.most, Pool: pool4.Config{Fields: pool4.AllFields}}, func() {})
}

func (m *model) unlink(t *rapid.T) {
	port := rapid.Uint16Range(1018, 1028).Draw(t, "mapped")
	want := 0
	for k, r := range m.rows {
		if r.mapped.Port == port {
			want++
			m.lost = append(m.lost, r.held...)
			delete(m.rows, k)
		}
	}
	if n := m.Unlink(func(b bib.Binding) bool { return b.Mapped.Port == port }); n != want {
		t.Fatalf("%d unlinked, want %d", n, want)
	}
}

func (m *model) compare(t *rapid.T) {
	all := m.all()
	n := 0
	for p := range packet.Protos {
		n += m.Len(p)
	}
	if len(all) != len(m.rows) || n != len(m.rows) {
		t.Fatalf("%d listed, %d counted, want %d", len(all), n, len(m.rows))
	}
	for _, b := range all {
		r := m.rows[key6{b.Proto, b.Client}]
		if r == nil || r.mapped != b.Mapped || r.static != b.Static || len(r.held) != b.Sessions {
			t.Fatalf("listed %+v, want %+v", b, r)
		}
		if at, ok := m.Lookup6(b.Proto, b.Client); !ok || at != b.Mapped {
			t.Fatalf("Lookup6(%v) = %v, %v", b, at, ok)
		}
		if c, ok := m.Lookup4(b.Proto, b.Mapped); !ok || c != b.Client {
			t.Fatalf("Lookup4(%v) = %v, %v", b, c, ok)
		}
	}
	m.strangers(t)
	used := 0
	for _, u := range m.pool.Usage() {
		used += u.Used
	}
	inRange := 0
	for k, r := range m.rows {
		if m.pool.Contains(k.proto, r.mapped) {
			inRange++
		}
	}
	if used != inRange {
		t.Fatalf("pool4 counts %d, want %d", used, inRange)
	}
}

// strangers checks that look-ups of transport addresses without a binding find none.
func (m *model) strangers(t *rapid.T) {
	for p := range packet.Protos {
		bound := m.mapped(p)
		for port := uint16(1018); port <= 1030; port++ {
			for last := byte(1); last <= 2; last++ {
				at := packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, last}, Port: port}
				if c, ok := m.Lookup4(p, at); ok && !bound[at] {
					t.Fatalf("%v %v leads to %v", p, at, c)
				}
			}
			c := packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 2}, Port: port}
			if at, ok := m.Lookup6(p, c); ok && m.rows[key6{p, c}] == nil {
				t.Fatalf("%v %v has %v", p, c, at)
			}
		}
	}
}
