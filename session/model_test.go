package session_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// TestModel compares the tables with plain maps, in which time passes exactly: a session is gone when its lifetime is
// over, a binding when a sweep has come by after the end of its last session.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			gateway:  newGateway(t, 1, maxSessions, defaults, "192.0.2.1", "1020-1023"),
			conf:     defaults,
			bindings: make(map[binding6]*boundTo),
			sessions: make(map[sessionKey]*conversation),
		}
		rt.Repeat(map[string]func(*rapid.T){
			"from 6":    m.from6,
			"from 4":    m.from4,
			"time":      m.wait,
			"sweep":     m.sweepAll,
			"purge":     m.purge,
			"configure": m.configure,
			"static":    m.addStatic,
			"":          m.compare,
		})
	})
}

const maxSessions = 12

type binding6 struct {
	proto  packet.Proto
	client packet.Endpoint6
}

type boundTo struct {
	mapped packet.Endpoint4
	static bool
}

type sessionKey struct {
	binding6
	remote packet.Endpoint4
}

// conversation is what the model knows of a session: rather than a table of transitions, what RFC 6146 section 3.5.2
// says of each state.
type conversation struct {
	state session.State
	since table.Time
	life  func(*session.Timeouts) time.Duration
}

type model struct {
	*gateway
	conf     session.Config
	now      table.Time
	bindings map[binding6]*boundTo
	sessions map[sessionKey]*conversation
}

func lifeUDP(t *session.Timeouts) time.Duration   { return t.UDP }
func lifeICMP(t *session.Timeouts) time.Duration  { return t.ICMP }
func lifeEst(t *session.Timeouts) time.Duration   { return t.TCPEstablished }
func lifeTrans(t *session.Timeouts) time.Duration { return t.TCPTransitory }

// end returns the last tick of a session.
func (m *model) end(c *conversation) table.Time {
	return c.since + table.TimeOf(c.life(&m.conf.Timeouts))
}

// alive returns a session that lives, ESTABLISHED ones that have been idle moved on to TRANS.
func (m *model) alive(k sessionKey) *conversation {
	c := m.sessions[k]
	if c == nil {
		return nil
	}
	if c.state == session.Established && m.now > m.end(c) {
		c = &conversation{session.Trans, m.end(c), lifeTrans}
	}
	if m.now > m.end(c) {
		return nil
	}
	return c
}

func (m *model) draw(t *rapid.T) (k sessionKey, ev packet.TCPEvent) {
	k.proto = packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto"))
	k.client = endpoint6("2001:db8::1", rapid.Uint16Range(1020, 1025).Draw(t, "port"))
	k.remote = endpoint4("198.51.100.1", rapid.Uint16Range(1, 2).Draw(t, "remote port"))
	if k.proto == packet.ICMP {
		k.remote.Port = 0
	}
	return k, packet.TCPEvent(rapid.IntRange(0, 3).Draw(t, "event"))
}

func (m *model) from6(t *rapid.T) {
	k, ev := m.draw(t)
	b := m.bindings[k.binding6]
	at, r := m.gateway.from6(k.proto, k.client, k.remote, ev, m.now)
	if c := m.alive(k); c != nil {
		m.expect(t, r, drop.None)
		m.sessions[k] = m.next(c, true, ev, k.proto)
	} else if k.proto == packet.TCP && ev != packet.SYN {
		if b == nil {
			m.expect(t, r, drop.NoSession)
			return
		}
		m.expect(t, r, drop.None)
	} else {
		m.opened(t, k, r, session.V6Init)
		if r != drop.None {
			return
		}
		if b == nil {
			b = &boundTo{mapped: at}
			m.bindings[k.binding6] = b
		}
	}
	if at != b.mapped {
		t.Fatalf("%v left from %v, want %v", k, at, b.mapped)
	}
}

func (m *model) from4(t *rapid.T) {
	k, ev := m.draw(t)
	b := m.bindings[k.binding6]
	if b == nil {
		unbound := endpoint4("192.0.2.1", rapid.Uint16Range(1018, 1025).Draw(t, "unbound"))
		if _, bound := m.byMapped(k.proto, unbound); !bound {
			_, r := m.gateway.from4(k.proto, k.remote, unbound, ev, m.now)
			m.expect(t, r, map[bool]drop.Reason{true: drop.NoBinding, false: drop.NotPool4}[m.pool.Contains(k.proto, unbound)])
		}
		return
	}
	client, r := m.gateway.from4(k.proto, k.remote, b.mapped, ev, m.now)
	switch c := m.alive(k); {
	case c != nil:
		m.expect(t, r, drop.None)
		m.sessions[k] = m.next(c, false, ev, k.proto)
	case k.proto == packet.TCP && ev != packet.SYN:
		m.expect(t, r, drop.None)
	case k.proto == packet.TCP && !m.conf.AllowInboundTCP:
		m.expect(t, r, drop.Filtered)
	default:
		m.opened(t, k, r, session.V4Init)
	}
	if r == drop.None && client != k.client {
		t.Fatalf("%v reached %v", k, client)
	}
}

func (m *model) byMapped(p packet.Proto, at packet.Endpoint4) (binding6, bool) {
	for k, b := range m.bindings {
		if k.proto == p && b.mapped == at {
			return k, true
		}
	}
	return binding6{}, false
}

// opened notes a new session, or checks the reason why there is none.
func (m *model) opened(t *rapid.T, k sessionKey, r drop.Reason, tcp session.State) {
	_, again := m.sessions[k] // over, but not swept
	bound := 0
	for other := range m.bindings {
		if other.proto == k.proto {
			bound++
		}
	}
	switch {
	case len(m.sessions) == maxSessions:
		if again && r == drop.None {
			t.Fatal("a full table made a session")
		}
		m.expect(t, r, drop.SessionLimit)
		return
	case m.bindings[k.binding6] == nil && len(m.bindings) == maxSessions:
		m.expect(t, r, drop.BindingLimit)
		return
	case m.bindings[k.binding6] == nil && m.poolFull(k.proto):
		m.expect(t, r, drop.PoolExhausted)
		return
	}
	m.expect(t, r, drop.None)
	m.sessions[k] = map[packet.Proto]*conversation{
		packet.TCP:  {tcp, m.now, lifeTrans},
		packet.UDP:  {session.Active, m.now, lifeUDP},
		packet.ICMP: {session.Active, m.now, lifeICMP},
	}[k.proto]
}

func (m *model) poolFull(p packet.Proto) bool {
	for port := uint16(1020); port <= 1023; port++ {
		if _, bound := m.byMapped(p, endpoint4("192.0.2.1", port)); !bound {
			return false
		}
	}
	return true
}

func (m *model) expect(t *rapid.T, got, want drop.Reason) {
	if got != want {
		t.Fatalf("reason %v, want %v", got, want)
	}
}

// next is RFC 6146 section 3.5.2.2 as prose, with RFC 7857 section 2.2 and the rule for reconnections.
func (m *model) next(c *conversation, from6 bool, ev packet.TCPEvent, p packet.Proto) *conversation {
	est := func(s session.State) *conversation { return &conversation{s, m.now, lifeEst} }
	trans := func(s session.State) *conversation { return &conversation{s, m.now, lifeTrans} }
	switch {
	case p != packet.TCP:
		return &conversation{c.state, m.now, c.life}
	case c.state == session.V4Init && from6 && ev == packet.SYN, c.state == session.V6Init && !from6 && ev == packet.SYN:
		return est(session.Established)
	case c.state == session.V6Init && from6 && ev == packet.SYN:
		return trans(session.V6Init)
	case c.state == session.V4Init, c.state == session.V6Init:
		return c
	case c.state == session.V4FinV6FinRcv, c.state == session.Trans:
		if from6 && ev == packet.SYN {
			return trans(session.V6Init)
		}
		if c.state == session.Trans && ev != packet.RST {
			return est(session.Established)
		}
		return c
	case ev == packet.RST && c.state == session.Established:
		return trans(session.Trans)
	case ev == packet.RST:
		return trans(c.state)
	case ev == packet.FIN && c.state == session.Established:
		return &conversation{map[bool]session.State{true: session.V6FinRcv, false: session.V4FinRcv}[from6], c.since, c.life}
	case ev == packet.FIN && (c.state == session.V4FinRcv) == from6:
		return trans(session.V4FinV6FinRcv)
	}
	return est(c.state)
}

func (m *model) wait(t *rapid.T) {
	step := rapid.SampledFrom([]time.Duration{table.Tick, time.Second, 59 * time.Second, 100 * time.Second, 241 * time.Second, 2 * time.Hour})
	m.now += table.TimeOf(step.Draw(t, "wait"))
}

func (m *model) sweepAll(t *rapid.T) {
	want := 0
	for k, c := range m.sessions {
		live := m.alive(k)
		if live == nil {
			delete(m.sessions, k)
			m.endBinding(k.binding6)
		} else if live != c {
			m.sessions[k] = live
			want++
		}
	}
	if got := m.sweep(m.now); got != want {
		t.Fatalf("%d probes, want %d", got, want)
	}
}

// endBinding ends a dynamic binding without sessions.
func (m *model) endBinding(k binding6) {
	for s := range m.sessions {
		if s.binding6 == k {
			return
		}
	}
	if !m.bindings[k].static {
		delete(m.bindings, k)
	}
}

func (m *model) purge(t *rapid.T) {
	port := rapid.Uint16Range(1020, 1023).Draw(t, "purged port")
	wantB, wantS := 0, 0
	for k, b := range m.bindings {
		if b.mapped.Port != port {
			continue
		}
		wantB++
		delete(m.bindings, k)
		for s := range m.sessions {
			if s.binding6 == k {
				wantS++
				delete(m.sessions, s)
			}
		}
	}
	bindings, sessions := m.gateway.sessions.Purge(func(b bib.Binding) bool { return b.Mapped.Port == port })
	if bindings != wantB || sessions != wantS {
		t.Fatalf("purged %d bindings and %d sessions, want %d and %d", bindings, sessions, wantB, wantS)
	}
}

func (m *model) configure(t *rapid.T) {
	m.conf.AllowInboundTCP = rapid.Bool().Draw(t, "inbound")
	m.conf.Timeouts.UDP = time.Duration(rapid.IntRange(120, 300).Draw(t, "udp")) * time.Second
	m.gateway.sessions.Configure(m.conf)
}

func (m *model) addStatic(t *rapid.T) {
	k, _ := m.draw(t)
	at := endpoint4("192.0.2.1", k.client.Port)
	if m.gateway.bindings.AddStatic(k.proto, k.client, at) != nil {
		return
	}
	if b := m.bindings[k.binding6]; b != nil && b.mapped != at {
		t.Fatalf("%v has %v and now %v", k, b.mapped, at)
	}
	m.bindings[k.binding6] = &boundTo{at, true}
}

func (m *model) compare(t *rapid.T) {
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
	for _, s := range all {
		k := sessionKey{binding6{s.Proto, s.Client}, s.Remote}
		c := m.alive(k)
		if c == nil {
			t.Fatalf("listed %+v, which does not live", s)
		}
		b := m.bindings[k.binding6]
		left := (m.end(c) - m.now).Duration()
		if s.State != c.state || s.Remaining != left || s.Mapped != b.mapped || s.Static != b.static {
			t.Fatalf("listed %+v, want %v, %v left, %v", s, c.state, left, *b)
		}
	}
	sessions, bindings := m.sizes()
	if sessions != len(m.sessions) || bindings != len(m.bindings) || len(m.listBindings()) != bindings {
		t.Fatalf("%d sessions and %d bindings, want %d and %d", sessions, bindings, len(m.sessions), len(m.bindings))
	}
}
