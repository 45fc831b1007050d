package session

import (
	"nat64d/bib"
	"nat64d/packet"
	"nat64d/table"
)

// Hint is the probable location of a packet's binding and session. It is valid for the batch in which it was made and
// only saves time: look-ups verify it, and search if it is wrong or zero.
type Hint struct {
	home    table.Home // of what is looked for next
	binding bib.ID
	session uint32 // slot
}

// Ahead6 computes the hints for a batch of packets from IPv6. flows contain what From6 needs; hints has the same
// length. In a large table a look-up has four cache misses, two of which depend on others. Ahead6 makes each step for
// all packets before the next step, so that the misses overlap. It prefetches for at most table.MaxLines/2 packets.
// The caller is a worker in a batch.
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

// guess notes a binding and what to look for next, and where both are.
func (t *Table) guess(h *Hint, id bib.ID, remote packet.Endpoint4, lines *table.Lines) {
	h.binding, h.session = id, 0
	if id == 0 {
		return
	}
	h.home = t.index.Home(t.hash(id, remote))
	lines.Add(t.index.Line(h.home))
}

// guessSessions notes sessions, when their places in the index have been fetched, and has them fetched.
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

// hinted returns the session of a hint if it is the one that is looked for, and has not ended.
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
