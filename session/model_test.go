package session_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
)

// TestModel compares the tables with plain maps, in which time passes exactly: a session is gone when its lifetime is
// over, a binding when a sweep has come by after the end of its last session.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t)
		rt.Repeat(map[string]func(*rapid.T){
			"from 6":       m.from6,
			"from 4":       m.from4,
			"from 4 again": m.from4,
			"from 4 more":  m.from4,
			"time":         m.wait,
			"sweep":        m.sweepAll,
			"purge":        m.purge,
			"purge prefix": m.purgePrefix,
			"configure":    m.configure,
			"add static":   m.addStatic,
			"":             m.compare,
		})
	})
}

const (
	maxSessions = 12
	firstPort   = 1020 // of pool4
	lastPort    = 1023
)

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
	pref  uint8
}

type model struct {
	*gateway
	conf     session.Config
	limits   synstore.Limits
	now      table.Time
	bindings map[binding6]*boundTo
	sessions map[sessionKey]*conversation
	inbound  map[sessionKey]*inboundRow // those that IPv4 has begun
	begun    int                        // sessions so far
	syns     []storedSYN                // oldest first
	held     map[transport]*table.Time  // ports in hold-down, and since when, nil before the next sweep
	spent    map[packet.Addr6]*bucket   // of clients that have something
	logged   map[logged]struct{}        // what lives according to the events
}

type transport struct {
	proto packet.Proto
	at    packet.Endpoint4
}

func newModel(t *testing.T) *model {
	m := &model{
		conf:     defaults,
		bindings: make(map[binding6]*boundTo),
		sessions: make(map[sessionKey]*conversation),
		inbound:  make(map[sessionKey]*inboundRow),
		held:     make(map[transport]*table.Time),
		spent:    make(map[packet.Addr6]*bucket),
		logged:   make(map[logged]struct{}),
	}
	m.conf.Timeouts.TCPOpening = 150 * time.Second // not that of closing
	m.conf.ClientPrefixLen = 64
	m.limits = synstore.Limits{Total: 3, PerSource: 2, Lifetime: 6 * time.Second}
	m.gateway = newGateway(t, 1, maxSessions, m.conf, "192.0.2.1", "1020-1023")
	m.gateway.sessions.Observe(session.KindsOf(session.BindingMade, session.BindingEnded, session.SessionMade, session.SessionEnded), m.log)
	m.gateway.syns.Configure(m.limits)
	return m
}

func lifeUDP(t *session.Timeouts) time.Duration     { return t.UDP }
func lifeICMP(t *session.Timeouts) time.Duration    { return t.ICMP }
func lifeEst(t *session.Timeouts) time.Duration     { return t.TCPEstablished }
func lifeOpening(t *session.Timeouts) time.Duration { return t.TCPOpening }
func lifeTrans(t *session.Timeouts) time.Duration   { return t.TCPTransitory }

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
		c = &conversation{session.Trans, m.end(c), lifeTrans, c.pref}
	}
	if m.now > m.end(c) {
		return nil
	}
	return c
}

func drawClient(t *rapid.T) packet.Endpoint6 {
	addr := rapid.SampledFrom([]string{"2001:db8::1", "2001:db8::2", "2001:db8:1::1"}).Draw(t, "client")
	return endpoint6(addr, rapid.Uint16Range(firstPort, lastPort+2).Draw(t, "port"))
}

// bound returns what has a binding, in an order that is always the same.
func (m *model) bound() []binding6 {
	return slices.SortedFunc(maps.Keys(m.bindings), func(a, b binding6) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
}

func (m *model) draw(t *rapid.T) (k sessionKey, ev packet.TCPEvent) {
	k.proto = packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto"))
	k.client = drawClient(t)
	if have := m.bound(); len(have) > 0 && rapid.Bool().Draw(t, "bound") {
		k.binding6 = rapid.SampledFrom(have).Draw(t, "binding")
	}
	remote := rapid.SampledFrom([]string{"198.51.100.1", "198.51.100.2"}).Draw(t, "remote")
	k.remote = endpoint4(remote, rapid.Uint16Range(1, 2).Draw(t, "remote port"))
	if k.proto == packet.ICMP {
		k.remote.Port = 0
	}
	return k, packet.TCPEvent(rapid.IntRange(0, 3).Draw(t, "event"))
}

func (m *model) from6(t *rapid.T) {
	k, ev := m.draw(t)
	pref := uint8(rapid.IntRange(0, 1).Draw(t, "prefix"))
	b := m.bindings[k.binding6]
	other, _ := m.draw(t)
	hinted := rapid.SampledFrom([]sessionKey{k, other}).Draw(t, "hinted") // a wrong hint must not matter
	m.epochs.Enter(0)
	var hint [1]session.Hint
	m.gateway.sessions.Ahead6([]session.Flow{{Proto: hinted.proto, Client: hinted.client, Remote: hinted.remote}}, hint[:])
	at, r := m.gateway.hinted6(&hint[0], k.proto, &k.client, k.remote, pref, ev, m.now)
	m.epochs.Leave(0)
	switch c := m.alive(k); {
	case c != nil:
		m.expect(t, r, drop.None)
		m.answer(k, c.state, ev)
		m.sessions[k] = m.next(c, true, ev, k.proto)
		m.sessions[k].pref = pref
	case k.proto == packet.TCP && ev != packet.SYN:
		m.expect(t, r, map[bool]drop.Reason{true: drop.NoSession, false: drop.None}[b == nil])
	default:
		m.open6(t, k, pref, at, r)
	}
	if b := m.bindings[k.binding6]; r == drop.None && at != b.mapped {
		t.Fatalf("%v left from %v, want %v", k, at, b.mapped)
	}
}

// open6 notes a session that a client's packet makes, and the binding.
func (m *model) open6(t *rapid.T, k sessionKey, pref uint8, at packet.Endpoint4, r drop.Reason) {
	if !m.opened(t, k, r, session.V6Init, true) {
		return
	}
	wanted, met := m.meeting(k)
	if m.bindings[k.binding6] == nil {
		if wanted != nil && at != *wanted {
			t.Fatalf("%v left from %v, but its peer waits at %v", k, at, *wanted)
		}
		if _, bound := m.byMapped(k.proto, at); bound || m.isHeld(k.proto, at) {
			t.Fatalf("%v left from %v, which is not free", k, at)
		}
		m.bindings[k.binding6] = &boundTo{mapped: at}
	}
	m.sessions[k].pref = pref
	if met(at) {
		m.sessions[k].state, m.sessions[k].life = session.Established, lifeEst
	}
}

func (m *model) from4(t *rapid.T) {
	k, ev := m.draw(t)
	b := m.bindings[k.binding6]
	if b == nil {
		m.unbound(t, k, ev)
		return
	}
	client, r := m.gateway.from4(k.proto, k.remote, b.mapped, ev, m.now)
	syn := k.proto == packet.TCP && ev == packet.SYN
	switch c := m.alive(k); {
	case c != nil:
		m.expect(t, r, drop.None)
		m.sessions[k] = m.next(c, false, ev, k.proto)
	case syn && !m.conf.AllowInboundTCP:
		m.expect(t, r, drop.Filtered)
	case m.conf.AddressDependent && !m.spokenTo(k):
		if syn {
			m.expect(t, r, m.store(b.mapped, k.remote))
		} else {
			m.expect(t, r, drop.FilteredAddress)
		}
	case k.proto == packet.TCP && ev != packet.SYN:
		m.expect(t, r, drop.None)
	default:
		m.opened(t, k, r, session.V4Init, false)
	}
	if r == drop.None && client != k.client {
		t.Fatalf("%v reached %v", k, client)
	}
}

// unbound sends a packet from IPv4 to an address and port without a binding.
func (m *model) unbound(t *rapid.T, k sessionKey, ev packet.TCPEvent) {
	at := endpoint4("192.0.2.1", rapid.Uint16Range(firstPort-2, lastPort+2).Draw(t, "unbound"))
	if _, bound := m.byMapped(k.proto, at); bound {
		return
	}
	_, r := m.gateway.from4(k.proto, k.remote, at, ev, m.now)
	switch {
	case at.Port < firstPort || at.Port > lastPort:
		m.expect(t, r, drop.NotPool4)
	case k.proto == packet.TCP && ev == packet.SYN && m.conf.AllowInboundTCP:
		m.expect(t, r, m.store(at, k.remote))
	default:
		m.expect(t, r, drop.NoBinding)
	}
}

func (m *model) spokenTo(k sessionKey) bool {
	for other := range m.sessions {
		if other.binding6 == k.binding6 && other.remote.Addr == k.remote.Addr {
			return true
		}
	}
	return false
}

// through counts the sessions of a binding.
func (m *model) through(b binding6) (n int) {
	for k := range m.sessions {
		if k.binding6 == b {
			n++
		}
	}
	return n
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
func (m *model) opened(t *rapid.T, k sessionKey, r drop.Reason, tcp session.State, from6 bool) bool {
	want := m.admitted(k, from6)
	switch {
	case want != drop.None:
	case !m.fits(k):
		want = drop.BindingSessions
	case !from6 && m.bindings[k.binding6] == nil: // it has lost its last session just now
		want = drop.NoBinding
	case !from6 && !m.quota(k):
		want = drop.InboundLimit
	case m.bindings[k.binding6] != nil:
	case len(m.bindings) == maxSessions:
		want = drop.BindingLimit
	case m.conf.MaxBindingsPerClient != 0 && m.bindingsOf(k.client.Addr) >= m.conf.MaxBindingsPerClient:
		want = drop.ClientBindings
	case m.poolFull(k.proto):
		want = drop.PoolExhausted
	}
	m.expect(t, r, want)
	if r != drop.None {
		m.forgetBuckets()
		return false
	}
	m.begin(k, from6)
	m.sessions[k] = map[packet.Proto]*conversation{
		packet.TCP:  {tcp, m.now, lifeOpening, 0},
		packet.UDP:  {session.Active, m.now, lifeUDP, 0},
		packet.ICMP: {session.Active, m.now, lifeICMP, 0},
	}[k.proto]
	return true
}

func (m *model) poolFull(p packet.Proto) bool {
	for port := uint16(firstPort); port <= lastPort; port++ {
		at := endpoint4("192.0.2.1", port)
		if _, bound := m.byMapped(p, at); !bound && !m.isHeld(p, at) {
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
