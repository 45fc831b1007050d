package session_test

import (
	"slices"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// inboundRow is the model of a session opened by IPv4: its rank (0 unanswered, 1 answered, 2 never evicted) and when
// it got that rank.
type inboundRow struct {
	rank, since int
	prefix      packet.Addr6 // the client that it counts for
}

// Scopes of quotas.
const (
	inAll = iota
	ofClient
	ofBinding
)

// begin notes a new session in the books of inbound sessions.
func (m *model) begin(k sessionKey, from6 bool) {
	delete(m.inbound, k) // of one whose lifetime was over
	if m.begun++; !from6 {
		m.inbound[k] = &inboundRow{since: m.begun, prefix: m.prefix(k.client.Addr)}
	}
}

func (m *model) endSession(k sessionKey) {
	delete(m.sessions, k)
	delete(m.inbound, k)
}

// answer notes a packet from IPv6 in a session.
func (m *model) answer(k sessionKey, s session.State, ev packet.TCPEvent) {
	row := m.inbound[k]
	switch {
	case row == nil || row.rank > 0:
	case k.proto != packet.TCP:
		m.begun++
		row.rank, row.since = 1, m.begun
	case s != session.V4Init && (ev == packet.Other || ev == packet.FIN):
		row.rank = 2
	}
}

// in reports whether an inbound session counts for the quota of k's session in a scope.
func (m *model) in(other, k sessionKey, scope int) bool {
	return scope == inAll || scope == ofClient && m.inbound[other].prefix == m.prefix(k.client.Addr) ||
		scope == ofBinding && other.binding6 == k.binding6
}

// evict ends the next session to evict, if there is one. For a quota (rank 1), the packet already holds its binding.
func (m *model) evict(k sessionKey, scope, last int) bool {
	var first sessionKey
	var best *inboundRow
	for other, row := range m.inbound {
		if row.rank > last || !m.in(other, k, scope) {
			continue
		}
		if best == nil || row.rank < best.rank || row.rank == best.rank && row.since < best.since {
			first, best = other, row
		}
	}
	if best == nil {
		return false
	}
	m.endSession(first)
	if last == 0 || first.binding6 != k.binding6 {
		m.endBinding(first.binding6)
	}
	return true
}

// admitted returns why a session may not be, before its binding is looked at.
func (m *model) admitted(k sessionKey, from6 bool) drop.Reason {
	switch {
	case len(m.sessions) == maxSessions && !m.evict(k, inAll, 0):
		return drop.SessionLimit
	case m.conf.MaxPerClient != 0 && m.sessionsOf(k.client.Addr) >= m.conf.MaxPerClient:
		for m.sessionsOf(k.client.Addr) >= m.conf.MaxPerClient {
			if !m.evict(k, ofClient, 0) {
				return drop.ClientSessions
			}
		}
	}
	if from6 && !m.spend(k.client.Addr) {
		return drop.ClientRate
	}
	return drop.None
}

// fits reports whether k's binding can have one more session, after evictions.
func (m *model) fits(k sessionKey) bool {
	for m.conf.MaxPerBinding != 0 && m.through(k.binding6) >= m.conf.MaxPerBinding {
		if !m.evict(k, ofBinding, 0) {
			return false
		}
	}
	return true
}

// quota makes room for a session that IPv4 begins, if it can. One eviction in a scope suffices where the quota was
// lowered below the sessions there.
func (m *model) quota(k sessionKey) bool {
	for scope, most := range slices.Backward(m.quotas()) {
		for evicted := false; ; evicted = true {
			n := 0
			for other := range m.inbound {
				if m.in(other, k, scope) {
					n++
				}
			}
			if n < most || evicted && n > most {
				break
			}
			if !m.evict(k, scope, 1) {
				return false
			}
		}
	}
	return true
}

func (m *model) quotas() []int {
	var q [3]int
	or := func(n, share int) int {
		if n != 0 {
			return n
		}
		return share
	}
	q[inAll] = or(m.conf.MaxInbound, (maxSessions+3)/4)
	q[ofClient] = or(m.conf.MaxInboundPerClient, (q[inAll]+1)/2)
	q[ofBinding] = or(m.conf.MaxInboundPerBinding, (q[inAll]+3)/4)
	return q[:]
}
