package bib

import (
	"nat64d/packet"
	"nat64d/table"
)

// Touch6 has the processor fetch what Guess6 needs, and does not wait for it. It returns the hash to give to Guess6.
func (t *Table) Touch6(p packet.Proto, c *packet.Endpoint6) (hash uint64) {
	hash = t.hash(p, c)
	t.index6.Touch(hash)
	return hash
}

// Guess6 returns a binding that may be the client's, or 0. Whether it is, and lives,
// Is6 says. Guess6 and Guess4 are for workers in a batch; what they return is good for the same batch.
func (t *Table) Guess6(hash uint64) ID {
	p := t.index6.Find(hash)
	return ID(p.Next())
}

// Touch4 has the processor fetch what Guess4 needs, and does not wait for it.
func (t *Table) Touch4(p packet.Proto, m packet.Endpoint4) {
	if c := t.index4.cell(p, m); c != nil {
		table.Touch(c)
	}
}

// Guess4 returns a binding that may have an IPv4 transport address, or 0.
func (t *Table) Guess4(p packet.Proto, m packet.Endpoint4) ID { return ID(t.index4.get(p, m)) }

// Touch has the processor fetch a binding, and does not wait for it.
func (t *Table) Touch(id ID) { t.entries.Touch(uint32(id)) }

// Is6 reports whether a binding that was guessed in this batch is what Find6 looks for.
func (t *Table) Is6(id ID, p packet.Proto, c *packet.Endpoint6) bool {
	b := t.entries.At(uint32(id))
	return b.client == *c && b.proto == p && alive(b.refs.Load())
}

// Is4 reports whether a binding that was guessed in this batch is what Find4 looks for.
func (t *Table) Is4(id ID, p packet.Proto, m packet.Endpoint4) bool {
	b := t.entries.At(uint32(id))
	return b.mapped == m && b.proto == p && alive(b.refs.Load())
}
