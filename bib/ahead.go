package bib

import (
	"nat64d/packet"
	"nat64d/table"
)

// A batch of packets looks for its bindings in steps, so that the processor fetches from memory for many packets at
// once: Ahead6 or Ahead4 for each of them, then Guess6 or Guess4, then Confirm6 or Confirm4. All are for workers in a
// batch, and their results are valid in the same batch. Lines for which lines has no room are not prefetched.

// Ahead6 adds the place in the index where Guess6 will look, and returns it.
func (t *Table) Ahead6(p packet.Proto, c *packet.Endpoint6, lines *table.Lines) table.Home {
	home := t.index6.Home(t.hash(p, c))
	lines.Add(t.index6.Line(home))
	return home
}

// Ahead4 adds the place in the index where Guess4 will look.
func (t *Table) Ahead4(p packet.Proto, m packet.Endpoint4, lines *table.Lines) {
	if c := t.index4.cell(p, m); c != nil {
		lines.Add(table.Line(c))
	}
}

// AheadRestore adds the places in the indexes to which a binding will be added.
func (t *Table) AheadRestore(p packet.Proto, c *packet.Endpoint6, m packet.Endpoint4, lines *table.Lines) {
	lines.Add(t.index6.Line(t.index6.Home(t.hash(p, c))))
	lines.Add(t.clients.rows.Line(addrKey(c.Addr)))
	if cell := t.index4.cell(p, m); cell != nil {
		lines.Add(table.Line(cell))
	}
}

// Guess6 returns the binding that probably is the client's, and adds its place, or returns 0.
func (t *Table) Guess6(home table.Home, lines *table.Lines) ID {
	return t.addLine(t.index6.Guess(home), lines)
}

// Guess4 returns the binding that probably has an IPv4 transport address, and adds its place, or returns 0.
func (t *Table) Guess4(p packet.Proto, m packet.Endpoint4, lines *table.Lines) ID {
	return t.addLine(t.index4.get(p, m), lines)
}

func (t *Table) addLine(slot uint32, lines *table.Lines) ID {
	if slot != 0 {
		lines.Add(t.entries.Line(slot))
	}
	return ID(slot)
}

// Confirm6 returns what Find6 returns. It saves the search if guess, which Guess6 has returned or which is 0, is right.
func (t *Table) Confirm6(guess ID, p packet.Proto, c *packet.Endpoint6) ID {
	if b := t.entries.At(uint32(guess)); guess != 0 && b.client == *c && b.proto == p && alive(b.refs.Load()) {
		return guess
	}
	return t.Find6(p, c)
}

// Confirm4 returns what Find4 returns. It saves the search if guess, which Guess4 has returned or which is 0, is right.
func (t *Table) Confirm4(guess ID, p packet.Proto, m packet.Endpoint4) ID {
	if b := t.entries.At(uint32(guess)); guess != 0 && b.mapped == m && b.proto == p && alive(b.refs.Load()) {
		return guess
	}
	return t.Find4(p, m)
}
