// Package session holds the conversations that go on through bindings, their lifetimes and the TCP state machine
// (RFC 6146 section 3.5).
package session

import (
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// Timeouts are the lifetimes of sessions (RFC 6146 section 4).
type Timeouts struct {
	UDP            time.Duration
	ICMP           time.Duration
	TCPEstablished time.Duration
	TCPTransitory  time.Duration
	TCPSyn         time.Duration
}

// Config is what may be changed while packets flow.
type Config struct {
	Timeouts        Timeouts
	AllowInboundTCP bool
}

// State is the state of a session.
type State uint8

// String returns its name.
func (s State) String() string { return "" }

// Session is a copy of one session, for listings.
type Session struct {
	Proto     packet.Proto
	Client    packet.Endpoint6
	Mapped    packet.Endpoint4
	Remote    packet.Endpoint4
	State     State
	Prefix    uint8
	Static    bool          // its binding is static
	Remaining time.Duration // until it expires
}

// Probe is a TCP segment to be sent by the caller.
type Probe struct {
	Proto  packet.Proto
	Client packet.Endpoint6
	Mapped packet.Endpoint4
	Remote packet.Endpoint4
	Prefix uint8
}

// Table is the three session tables.
type Table struct{}

// New returns an empty table.
func New(b *bib.Table, e *table.Epochs, max int, c Config) *Table { return &Table{} }

// Configure replaces the configuration.
func (t *Table) Configure(c Config) {}

// From6 takes a packet from IPv6.
func (t *Table) From6(p packet.Proto, src packet.Endpoint6, dst packet.Endpoint4, pref uint8, ev packet.TCPEvent, now table.Time) (packet.Endpoint4, drop.Reason) {
	return packet.Endpoint4{}, drop.PoolEmpty
}

// From4 takes a packet from IPv4.
func (t *Table) From4(p packet.Proto, src, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (packet.Endpoint6, uint8, drop.Reason) {
	return packet.Endpoint6{}, 0, drop.NotPool4
}

// Sweep frees expired sessions.
func (t *Table) Sweep(now table.Time, budget int, probe func(Probe)) (more bool) { return false }

// Purge removes the bindings that match, and their sessions.
func (t *Table) Purge(match func(bib.Binding) bool) (bindings, sessions int) { return 0, 0 }

// Len returns the number of sessions of a protocol.
func (t *Table) Len(p packet.Proto) int { return 0 }

// List calls yield for sessions from the cursor on and returns the next cursor, 0 at the end.
func (t *Table) List(cursor uint32, limit int, now table.Time, yield func(Session)) (next uint32) {
	return 0
}
