package session

import (
	"nat64d/bib"
	"nat64d/packet"
	"nat64d/table"
)

// Hint is the probable binding and session of a packet. It is valid in the batch in which it was made, and only saves
// time: From6 and From4 verify it, and search if it is wrong or zero.
type Hint struct {
	home    table.Home // of the next look-up
	binding bib.ID
	session uint32 // slot
}

// Ahead6 makes the hints for a batch of packets from IPv6, whose flows have the fields that From6 needs; hints has the
// length of flows. In a large table a look-up has four cache misses, two of which depend on others. Ahead6 takes each
// step for all packets before the next, so that the misses of many packets overlap. It prefetches for table.MaxLines/2
// packets at most. It is for workers in a batch.
func (t *Table) Ahead6(flows []Flow, hints []Hint) {
	var lines table.Lines
	for i := range flows {
		hints[i].home = t.bib.Ahead6(flows[i].Proto, &flows[i].Client, &lines)
	}
	lines.Fetch()
	for i := range flows {
		t.guess(&hints[i], t.bib.Guess6(hints[i].home, &lines), peer(flows[i].Proto, flows[i].Remote), &lines)
	}
	t.guessSessions(hints[:len(flows)], &lines)
}

// Ahead4 is Ahead6 for packets from IPv4.
func (t *Table) Ahead4(flows []Flow, hints []Hint) {
	var lines table.Lines
	for i := range flows {
		t.bib.Ahead4(flows[i].Proto, flows[i].Mapped, &lines)
	}
	lines.Fetch()
	for i := range flows {
		t.guess(&hints[i], t.bib.Guess4(flows[i].Proto, flows[i].Mapped, &lines), peer(flows[i].Proto, flows[i].Remote), &lines)
	}
	t.guessSessions(hints[:len(flows)], &lines)
}

// guess stores the guessed binding and the home of its session, and adds the line of that.
func (t *Table) guess(h *Hint, id bib.ID, remote packet.Endpoint4, lines *table.Lines) {
	h.binding, h.session = id, 0
	if id == 0 {
		return
	}
	h.home = t.index.Home(t.hash(id, remote))
	lines.Add(t.index.Line(h.home))
}

// guessSessions prefetches the homes, guesses the sessions there, and prefetches those.
func (t *Table) guessSessions(hints []Hint, lines *table.Lines) {
	lines.Fetch()
	for i := range hints {
		h := &hints[i]
		if h.binding == 0 {
			continue
		}
		if h.session = t.index.Guess(h.home); h.session != 0 {
			lines.Add(t.entries.Line(h.session))
		}
	}
	lines.Fetch()
}

// guessed returns the binding of a hint, or 0.
func (h *Hint) guessed() bib.ID {
	if h == nil {
		return 0
	}
	return h.binding
}

// hinted returns the session of a hint if it has the key and has not ended.
func (t *Table) hinted(h *Hint, id bib.ID, remote packet.Endpoint4) (slot uint32, e *entry) {
	if h == nil || h.session == 0 {
		return 0, nil
	}
	e = t.entries.At(h.session)
	if !e.is(id, remote) || word(e.word.Load()).state() == Closed {
		return 0, nil
	}
	return h.session, e
}
