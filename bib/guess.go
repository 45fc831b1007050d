package bib

import (
	"nat64d/packet"
	"nat64d/table"
)

// Line6 returns what to give to Guess6, and where that will look, for table.Lines.
func (t *Table) Line6(p packet.Proto, c *packet.Endpoint6) (home table.Home, line uintptr) {
	home = t.index6.Home(t.hash(p, c))
	return home, t.index6.Line(home)
}

// Guess6 returns a binding that may be the client's, or 0. Matches6 reports whether it is, and lives. Guess6 and Guess4 are for
// workers in a batch; what they return is good for the same batch.
func (t *Table) Guess6(home table.Home) ID { return ID(t.index6.Guess(home)) }

// Line4 returns where Guess4 will look, or 0.
func (t *Table) Line4(p packet.Proto, m packet.Endpoint4) (line uintptr) {
	if c := t.index4.cell(p, m); c != nil {
		line = table.Line(c)
	}
	return line
}

// Guess4 returns a binding that may have an IPv4 transport address, or 0.
func (t *Table) Guess4(p packet.Proto, m packet.Endpoint4) ID { return ID(t.index4.get(p, m)) }

// Line returns where a binding is.
func (t *Table) Line(id ID) uintptr { return t.entries.Line(uint32(id)) }

// Matches6 reports whether a binding that was guessed in this batch is what Find6 looks for.
func (t *Table) Matches6(id ID, p packet.Proto, c *packet.Endpoint6) bool {
	b := t.entries.At(uint32(id))
	return b.client == *c && b.proto == p && alive(b.refs.Load())
}

// Matches4 reports whether a binding that was guessed in this batch is what Find4 looks for.
func (t *Table) Matches4(id ID, p packet.Proto, m packet.Endpoint4) bool {
	b := t.entries.At(uint32(id))
	return b.mapped == m && b.proto == p && alive(b.refs.Load())
}
