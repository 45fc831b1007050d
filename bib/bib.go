// Package bib holds the binding information bases: which IPv6 transport address owns which IPv4 one (RFC 6146
// sections 3.1 and 3.2).
package bib

import (
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Binding is one row of a BIB.
type Binding struct {
	Proto    packet.Proto
	Client   packet.Endpoint6 // (X',x)
	Mapped   packet.Endpoint4 // (T,t)
	Static   bool             // made by the administrator
	Sessions int
}

// Table is the three BIBs.
type Table struct{}

// New returns an empty table.
func New(p *pool4.Pool, e *table.Epochs, max int, key [16]byte) *Table { return &Table{} }

// Lookup6 returns the IPv4 transport address of a client.
func (t *Table) Lookup6(p packet.Proto, c packet.Endpoint6) (packet.Endpoint4, bool) {
	return packet.Endpoint4{}, false
}

// Lookup4 returns the client behind an IPv4 transport address.
func (t *Table) Lookup4(p packet.Proto, m packet.Endpoint4) (packet.Endpoint6, bool) {
	return packet.Endpoint6{}, false
}

// AddStatic adds a row that stays until it is removed.
func (t *Table) AddStatic(p packet.Proto, c packet.Endpoint6, m packet.Endpoint4) error { return nil }

// RemoveStatic ends a static row.
func (t *Table) RemoveStatic(p packet.Proto, m packet.Endpoint4) error { return nil }

// Len returns the number of bindings of a protocol.
func (t *Table) Len(p packet.Proto) int { return 0 }

// List calls yield for bindings from the cursor on and returns the next cursor, 0 at the end.
func (t *Table) List(cursor uint32, limit int, yield func(Binding)) (next uint32) { return 0 }
