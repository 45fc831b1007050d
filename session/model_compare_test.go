package session_test

import (
	"pgregory.net/rapid"

	"nat64d/packet"
	"nat64d/session"
)

func (m *model) addStatic(t *rapid.T) {
	k := binding6{packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto")), drawClient(t)}
	at := endpoint4("192.0.2.1", rapid.Uint16Range(firstPort, lastPort).Draw(t, "mapped"))
	_, bound := m.byMapped(k.proto, at)
	possible := !bound && len(m.bindings) < maxSessions
	if b := m.bindings[k]; b != nil {
		possible = !b.static && b.mapped == at
	}
	if err := m.gateway.sessions.AddStatic(k.proto, k.client, at); (err == nil) != possible {
		t.Fatalf("AddStatic(%v, %v): %v, want success %v", k, at, err, possible)
	}
	if !possible {
		return
	}
	m.bindings[k] = &boundTo{at, true}
	if k.proto == packet.TCP {
		m.forget(at)
	}
	m.forgetBuckets()
}

// forget discards what waits at a transport address.
func (m *model) forget(at packet.Endpoint4) {
	var rest []storedSYN
	for _, s := range m.syns {
		if s.mapped != at {
			rest = append(rest, s)
		}
	}
	m.syns = rest
}

// log keeps what lives according to the events. A binding is known by its transport addresses.
func (m *model) log(batch []session.Event, lost uint64) {
	if lost != 0 {
		panic("events were lost")
	}
	for _, e := range batch {
		f := session.Flow{Proto: e.Proto, Client: e.Client, Mapped: e.Mapped, Remote: e.Remote}
		k := logged{f, e.Kind == session.SessionMade || e.Kind == session.SessionEnded}
		made := e.Kind == session.SessionMade || e.Kind == session.BindingMade
		if _, there := m.logged[k]; made == there {
			panic("told twice: " + e.Kind.String())
		}
		if made != (e.Cause == session.NoCause) {
			panic(e.Kind.String() + " for the cause " + e.Cause.String())
		}
		if delete(m.logged, k); made {
			m.logged[k] = struct{}{}
		}
	}
}

// logged is a session or a binding.
type logged struct {
	flow    session.Flow
	session bool
}

func (m *model) compare(t *rapid.T) {
	m.gateway.sessions.Deliver()
	live := 0
	for k := range m.sessions {
		if m.alive(k) != nil {
			live++
		}
	}
	all := m.list(m.now)
	if len(all) != live {
		t.Fatalf("%d sessions listed, want %d", len(all), live)
	}
	population := *m.gateway.sessions.Population(m.now)
	for _, s := range all {
		m.compareSession(t, &s)
		population[s.Proto][s.State]--
	}
	if population != (session.Population{}) {
		t.Fatalf("the counts of sessions differ from the list by %v", population)
	}
	sessions, bindings := m.sizes()
	if sessions != len(m.sessions) || bindings != len(m.bindings) || len(m.listBindings()) != bindings {
		t.Fatalf("%d sessions and %d bindings, want %d and %d", sessions, bindings, len(m.sessions), len(m.bindings))
	}
	if len(m.logged) != sessions+bindings {
		t.Fatalf("%d sessions and %d bindings, but %d in the log", sessions, bindings, len(m.logged))
	}
	m.compareSYNs(t)
	m.comparePool(t)
}

func (m *model) compareSession(t *rapid.T, s *session.Session) {
	k := sessionKey{binding6{s.Proto, s.Client}, s.Remote}
	c := m.alive(k)
	if c == nil {
		t.Fatalf("listed %+v, which does not live", s)
	}
	b := m.bindings[k.binding6]
	left := (m.end(c) - m.now).Duration()
	if s.State != c.state || s.Remaining != left || s.Mapped != b.mapped || s.Static != b.static || s.Prefix != c.pref {
		t.Fatalf("listed %+v, want %v, %v left, %v", s, c.state, left, *b)
	}
	m.epochs.Enter(0)
	defer m.epochs.Leave(0)
	f := session.Flow{Proto: s.Proto, Mapped: s.Mapped, Remote: s.Remote}
	if ok := m.gateway.sessions.Peek4(&f); !ok || f.Client != s.Client || f.Prefix != s.Prefix || !m.gateway.sessions.Alive(&f) {
		t.Fatalf("Peek4 of %+v: %v, %+v", s, ok, f)
	}
	if !m.gateway.sessions.Known(session.Flow{Proto: s.Proto, Mapped: s.Mapped, Remote: s.Remote}) {
		t.Fatalf("%+v is not known", s)
	}
	made := logged{session.Flow{Proto: s.Proto, Client: s.Client, Mapped: s.Mapped, Remote: s.Remote}, true}
	if _, there := m.logged[made]; !there {
		t.Fatalf("%+v is not in the log", s)
	}
}

func (m *model) compareSYNs(t *rapid.T) {
	stored := m.gateway.syns.List(m.now.Duration())
	for _, s := range m.syns {
		if !m.waits(s) {
			continue
		}
		if len(stored) == 0 || stored[0].Dst != s.mapped || stored[0].Src != s.remote {
			t.Fatalf("stored are %v, want %v", stored, m.syns)
		}
		stored = stored[1:]
	}
	if len(stored) != 0 {
		t.Fatalf("still stored are %v", stored)
	}
}

// comparePool compares what pool4 says of its ports.
func (m *model) comparePool(t *rapid.T) {
	for _, u := range m.pool.Usage() {
		used, held := 0, 0
		for port := u.Lo; port <= u.Hi; port++ {
			at := endpoint4("192.0.2.1", port)
			if _, bound := m.byMapped(u.Proto, at); bound {
				used++
			} else if m.isHeld(u.Proto, at) {
				held++
			}
		}
		if u.Used != used || u.Held != held {
			t.Fatalf("%v: %d used, %d held, want %d and %d", u.Entry, u.Used, u.Held, used, held)
		}
	}
}
