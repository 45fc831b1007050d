package session_test

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// next is RFC 6146 section 3.5.2.2 as prose, with RFC 7857 section 2.2 and the rule for reconnections. It
// may change what it is given.
func (m *model) next(c *conversation, from6 bool, ev packet.TCPEvent, p packet.Proto) *conversation {
	est := func(s session.State) *conversation { return &conversation{s, m.now, lifeEst, c.pref} }
	opening := func() *conversation { return &conversation{session.V6Init, m.now, lifeOpening, c.pref} }
	trans := func(s session.State) *conversation { return &conversation{s, m.now, lifeTrans, c.pref} }
	switch {
	case p != packet.TCP && from6 == m.conf.InternetIsV6 && !m.conf.InboundRefresh:
		return c
	case p != packet.TCP:
		return &conversation{c.state, m.now, c.life, c.pref}
	case c.state == session.V4Init && from6 && ev == packet.SYN, c.state == session.V6Init && !from6 && ev == packet.SYN:
		return est(session.Established)
	case c.state == session.V6Init && from6 && ev == packet.SYN:
		return opening()
	case c.state == session.V4Init, c.state == session.V6Init:
		return c
	case c.state == session.V4FinV6FinRcv, c.state == session.Trans:
		if from6 && ev == packet.SYN {
			return opening()
		}
		if c.state == session.Trans && ev != packet.RST {
			return est(session.Established)
		}
		return c
	case ev == packet.RST && c.state == session.Established:
		return trans(session.Trans)
	case ev == packet.RST && m.conf.RSTDuringFIN:
		return trans(c.state)
	case ev == packet.FIN && c.state == session.Established:
		return &conversation{map[bool]session.State{true: session.V6FinRcv, false: session.V4FinRcv}[from6], c.since, c.life, c.pref}
	case ev == packet.FIN && (c.state == session.V4FinRcv) == from6:
		return trans(session.V4FinV6FinRcv)
	}
	return est(c.state)
}

// storedSYN is a V4 SYN that waits.
type storedSYN struct {
	mapped, remote packet.Endpoint4
	since          table.Time
}

// store keeps a SYN, if there is room.
func (m *model) store(mapped, remote packet.Endpoint4) drop.Reason {
	source, address := 0, 0
	for _, s := range m.syns {
		if s.mapped == mapped && s.remote == remote {
			return drop.StoredSYN
		}
		if s.remote.Addr == remote.Addr {
			source++
		}
		if s.mapped.Addr == mapped.Addr {
			address++
		}
	}
	if perPool4 := m.limits.PerPool4; len(m.syns) == m.limits.Total ||
		source == m.limits.PerSource || perPool4 != 0 && address >= perPool4 {
		return drop.StoredSYNLimit
	}
	m.syns = append(m.syns, storedSYN{mapped, remote, m.now})
	return drop.StoredSYN
}

func (m *model) waits(s storedSYN) bool { return m.now <= s.since+table.TimeOf(m.limits.Lifetime) }

// meeting returns the transport address that a client's TCP SYN should leave from because its peer's SYN waits there,
// nil if there is none, and a function that takes out the SYN that it meets.
func (m *model) meeting(k sessionKey) (wanted *packet.Endpoint4, met func(packet.Endpoint4) bool) {
	if k.proto != packet.TCP {
		return nil, func(packet.Endpoint4) bool { return false }
	}
	for _, s := range m.syns {
		_, bound := m.byMapped(k.proto, s.mapped)
		if s.remote == k.remote && !bound && k.client.Port < 1024 && wanted == nil {
			wanted = &s.mapped
		}
	}
	return wanted, func(at packet.Endpoint4) bool {
		i := slices.IndexFunc(m.syns, func(s storedSYN) bool {
			return s.remote == k.remote && s.mapped == at && m.waits(s)
		})
		if i >= 0 {
			m.syns = slices.Delete(m.syns, i, i+1)
		}
		return i >= 0
	}
}

// bucket is what a client has spent of new_per_second.
type bucket struct {
	spent float64
	since table.Time
}

// prefix returns the client that an address belongs to.
func (m *model) prefix(a packet.Addr6) packet.Addr6 {
	if m.conf.ClientPrefixLen == 64 {
		clear(a[8:])
	}
	return a
}

func (m *model) limited() bool {
	return m.conf.MaxPerClient != 0 || m.conf.MaxBindingsPerClient != 0 || m.conf.NewPerSecond != 0
}

func (m *model) spend(a packet.Addr6) bool {
	rate := float64(m.conf.NewPerSecond)
	if rate == 0 {
		return true
	}
	b := m.spent[m.prefix(a)]
	if b == nil {
		b = new(bucket)
		m.spent[m.prefix(a)] = b
	}
	b.spent = max(0, b.spent-rate*(m.now-b.since).Duration().Seconds())
	b.since = m.now
	if b.spent+1 > rate {
		return false
	}
	b.spent++
	return true
}

// forgetBuckets forgets those of clients that have nothing.
func (m *model) forgetBuckets() {
	for p := range m.spent {
		if m.sessionsOf(p) == 0 && m.bindingsOf(p) == 0 {
			delete(m.spent, p)
		}
	}
}

func (m *model) sessionsOf(a packet.Addr6) (n int) {
	for k := range m.sessions {
		if m.prefix(k.client.Addr) == m.prefix(a) {
			n++
		}
	}
	return n
}

func (m *model) bindingsOf(a packet.Addr6) (n int) {
	for k, b := range m.bindings {
		if m.prefix(k.client.Addr) == m.prefix(a) && !b.static {
			n++
		}
	}
	return n
}

func (m *model) isHeld(p packet.Proto, at packet.Endpoint4) bool {
	_, held := m.held[transport{p, at}]
	return held
}

// release gives a transport address back.
func (m *model) release(p packet.Proto, b *boundTo) {
	at := transport{p, b.mapped}
	if p != packet.TCP && !b.static && m.conf.PortHoldDown != 0 && !m.isHeld(at.proto, at.at) {
		m.held[at] = nil
	}
}

func (m *model) expireHeld() {
	for at, since := range m.held {
		switch {
		case since == nil:
			now := m.now
			m.held[at] = &now
		case (m.now - *since).Duration() > m.conf.PortHoldDown:
			delete(m.held, at)
		}
	}
}

func (m *model) wait(t *rapid.T) {
	step := rapid.SampledFrom([]time.Duration{
		table.Tick, time.Second / 4, time.Second, 6 * time.Second, 59 * time.Second,
		100 * time.Second, 241 * time.Second, 2 * time.Hour,
	})
	m.now += table.TimeOf(step.Draw(t, "wait"))
}

func (m *model) sweepAll(t *rapid.T) {
	want, ended := 0, 0
	due := m.gateway.sessions.SweepDue()
	for k, c := range m.sessions {
		live := m.alive(k)
		if live == nil {
			ended++
			m.endSession(k)
			m.endBinding(k.binding6)
		} else if live != c {
			m.sessions[k] = live
			want++
		}
	}
	if got := m.sweep(m.now); got != want {
		t.Fatalf("%d probes, want %d", got, want)
	}
	if m.now < due && want+ended > 0 {
		t.Fatalf("%d probes and %d ends at %v, although the sweep is due only at %v", want, ended, m.now, due)
	}
	m.expireHeld()
	m.forgetBuckets()
	var refused []packet.Endpoint4
	for len(m.syns) > 0 && !m.waits(m.syns[0]) {
		s := m.syns[0]
		m.syns = m.syns[1:]
		b, _ := m.byMapped(packet.TCP, s.mapped)
		if m.sessions[sessionKey{b, s.remote}] == nil {
			refused = append(refused, s.mapped)
		}
	}
	for i, s := range m.sweepSYNs(m.now) {
		if i >= len(refused) || s.Dst != refused[i] || string(s.Packet) != "SYN" {
			t.Fatalf("refused %v, want %v", s, refused)
		}
		refused[i] = packet.Endpoint4{}
	}
	if slices.ContainsFunc(refused, func(e packet.Endpoint4) bool { return e.Port != 0 }) {
		t.Fatalf("not refused: %v", refused)
	}
}

// endBinding ends a dynamic binding without sessions.
func (m *model) endBinding(k binding6) {
	for s := range m.sessions {
		if s.binding6 == k {
			return
		}
	}
	if b := m.bindings[k]; !b.static {
		m.release(k.proto, b)
		delete(m.bindings, k)
	}
}

func (m *model) purge(t *rapid.T) {
	port := rapid.Uint16Range(firstPort, lastPort).Draw(t, "purged port")
	static := rapid.Bool().Draw(t, "static, too")
	wantB, wantS := 0, 0
	for k, b := range m.bindings {
		if b.mapped.Port != port || b.static && !static {
			continue
		}
		wantB++
		m.release(k.proto, b)
		delete(m.bindings, k)
		for s := range m.sessions {
			if s.binding6 == k {
				wantS++
				m.endSession(s)
			}
		}
	}
	m.forgetBuckets()
	bindings, sessions := m.gateway.sessions.Purge(func(b bib.Binding) bool {
		return b.Mapped.Port == port && (static || !b.Static)
	})
	if bindings != wantB || sessions != wantS {
		t.Fatalf("purged %d bindings and %d sessions, want %d and %d", bindings, sessions, wantB, wantS)
	}
}

func (m *model) purgePrefix(t *rapid.T) {
	pref := uint8(rapid.IntRange(0, 3).Draw(t, "prefix"))
	want := 0
	for k, c := range m.sessions {
		if c.pref == pref {
			want++
			m.endSession(k)
			m.endBinding(k.binding6)
		}
	}
	m.forgetBuckets()
	if n := m.gateway.sessions.PurgePrefix(pref); n != want {
		t.Fatalf("purged %d sessions, want %d", n, want)
	}
}

func (m *model) configure(t *rapid.T) {
	old, limited := m.conf.ClientPrefixLen, m.limited()
	c := &m.conf
	for _, b := range []*bool{&c.AllowInboundTCP, &c.AddressDependent, &c.InboundRefresh, &c.InternetIsV6, &c.RSTDuringFIN} {
		*b = rapid.Bool().Draw(t, "switch")
	}
	c.Timeouts.UDP = time.Duration(rapid.IntRange(120, 300).Draw(t, "udp")) * time.Second
	c.PortHoldDown = rapid.SampledFrom([]time.Duration{0, 2 * time.Second, 120 * time.Second}).Draw(t, "hold-down")
	c.MaxPerClient = rapid.SampledFrom([]int{0, 3, 6}).Draw(t, "sessions of a client")
	c.MaxBindingsPerClient = rapid.SampledFrom([]int{0, 2, 4}).Draw(t, "bindings of a client")
	c.MaxPerBinding = rapid.SampledFrom([]int{0, 2}).Draw(t, "sessions of a binding")
	c.MaxInbound = rapid.SampledFrom([]int{0, 2, maxSessions}).Draw(t, "inbound sessions")
	c.MaxInboundPerClient = rapid.SampledFrom([]int{0, 2}).Draw(t, "inbound sessions of a client")
	c.MaxInboundPerBinding = rapid.SampledFrom([]int{0, 2}).Draw(t, "inbound sessions of a binding")
	c.NewPerSecond = rapid.SampledFrom([]int{0, 2}).Draw(t, "new per second")
	m.limits.PerPool4 = rapid.SampledFrom([]int{0, 2}).Draw(t, "SYNs to an address")
	c.ClientPrefixLen = rapid.SampledFrom([]int{64, 128}).Draw(t, "client prefix")
	if !m.limited() || !limited || old != c.ClientPrefixLen {
		clear(m.spent)
	}
	m.gateway.syns.Configure(m.limits)
	m.gateway.sessions.Configure(m.conf)
}
