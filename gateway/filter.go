package gateway

import (
	"encoding/binary"
	"net/netip"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// Filter selects packets for a Tap. The zero Filter selects all packets that are for the gateway.
type Filter struct {
	Client netip.Prefix // contains the IPv6 client; zero: any
	Peer   netip.Prefix // contains the IPv4 host; zero: any
	Ports  []uint16     // one of the ports or Identifiers on either side of the gateway; empty: any
	// Protocols are those of the packet or, of an ICMP error, of the packet that it is about; none: any.
	Protocols [packet.Protos]bool
	Reasons   [drop.Count]bool // why the packet was dropped or left to the host; none: any fate
	Drops     bool             // only packets that were dropped, stored SYNs among them
	Host      bool             // also packets that are left to the host
}

// matcher is a Filter in a form for comparisons of each packet.
type matcher struct {
	client         span
	peer, peerMask uint32
	ports          []uint16
	protocols      [packet.Protos]bool // those that it selects
	anyProtocol    bool
	reasons        [drop.Count]bool
	anyReason      bool
	drops, host    bool
}

// span is a prefix of addresses; the zero span contains all.
type span struct{ high, low, highMask, lowMask uint64 }

func newSpan(p netip.Prefix) (s span) {
	if !p.IsValid() {
		return s
	}
	a, bits := p.Addr().As16(), p.Bits()
	s.highMask, s.lowMask = ^(^uint64(0) >> min(bits, 64)), ^(^uint64(0) >> max(bits-64, 0))
	s.high, s.low = binary.BigEndian.Uint64(a[:8])&s.highMask, binary.BigEndian.Uint64(a[8:])&s.lowMask
	return s
}

func (s *span) contains(a *packet.Addr6) bool {
	return binary.BigEndian.Uint64(a[:8])&s.highMask == s.high && binary.BigEndian.Uint64(a[8:])&s.lowMask == s.low
}

func newMatcher(f *Filter) *matcher {
	m := &matcher{
		client: newSpan(f.Client), ports: f.Ports,
		protocols: f.Protocols, anyProtocol: f.Protocols == [packet.Protos]bool{},
		reasons: f.Reasons, anyReason: f.Reasons == [drop.Count]bool{},
		drops: f.Drops, host: f.Host,
	}
	if m.anyProtocol {
		m.protocols = [packet.Protos]bool{true, true, true}
	}
	if f.Peer.IsValid() {
		a := f.Peer.Addr().As4()
		m.peerMask = ^(^uint32(0) >> f.Peer.Bits())
		m.peer = binary.BigEndian.Uint32(a[:]) & m.peerMask
	}
	return m
}

// flow reports whether the filter may select a packet of f.
func (m *matcher) flow(f *session.Flow) bool {
	return m.protocols[f.Proto] && binary.BigEndian.Uint32(f.Remote.Addr[:])&m.peerMask == m.peer && m.client.contains(&f.Client.Addr) && m.port(f)
}

func (m *matcher) port(f *session.Flow) bool {
	for _, p := range m.ports {
		if p == f.Client.Port || p == f.Mapped.Port || p == f.Remote.Port {
			return true
		}
	}
	return len(m.ports) == 0
}

// fate reports whether the filter selects a packet with this result.
func (m *matcher) fate(v *Verdict) bool {
	switch {
	case !m.anyReason:
		return m.reasons[v.Reason] && v.Reason != drop.None
	case v.Fate == LeftToHost:
		return m.host && !m.drops
	case m.drops:
		return v.Fate == Dropped || v.Fate == StoredSYN // counted as dropped
	}
	return true
}

// verdict reports whether the filter selects a packet.
func (m *matcher) verdict(v *Verdict) bool {
	switch {
	case !m.fate(v):
		return false
	case m.flow(&v.Flow) && (v.known() || m.anyProtocol):
		return true
	case v.Passed.Has(Hairpins):
		return m.flow(&v.Turned)
	}
	return false
}

// known reports whether the protocol of the flow is that of the packet: a packet without a flow may have another, or none.
func (v *Verdict) known() bool {
	if v.Passed.Has(Looked) {
		return true
	}
	_, ok := proto(v.In.Number)
	return ok
}

// proto returns the protocol with a number.
func proto(number uint8) (packet.Proto, bool) {
	switch number {
	case packet.NumTCP:
		return packet.TCP, true
	case packet.NumUDP:
		return packet.UDP, true
	case packet.NumICMP, packet.NumICMPv6:
		return packet.ICMP, true
	}
	return 0, false
}
