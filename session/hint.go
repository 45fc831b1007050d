package session

import (
	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// Flow6 says what From6 or TCP6 will look for.
type Flow6 struct {
	Proto packet.Proto
	Src   packet.Endpoint6
	Dst   packet.Endpoint4
}

// Flow4 says what From4 or TCP4 will look for.
type Flow4 struct {
	Proto    packet.Proto
	Src, Dst packet.Endpoint4
}

// Hint says where a packet of a batch will probably find its binding and its session. It is good for the batch in which
// it was made and only saves time: what it says is verified, and if it is wrong, or zero, the packet looks for itself.
type Hint struct {
	home    table.Home // of what is looked for next
	binding bib.ID
	session uint32 // slot
}

// Ahead6 makes the hints for a batch of packets from IPv6; there are as many of both. In a large table a look-up is
// four waits for memory, of which two depend on others. Here all packets take a step before the first takes the next
// one, so that the processor waits for many at once. What more than table.MaxLines/2 packets need is not fetched ahead. It
// is for workers in a batch.
func (t *Table) Ahead6(flows []Flow6, hints []Hint) {
	var lines table.Lines
	for i := range flows {
		home, line := t.bib.Line6(flows[i].Proto, &flows[i].Src)
		hints[i].home = home
		lines.Add(line)
	}
	lines.Fetch()
	for i := range flows {
		t.guess(&hints[i], t.bib.Guess6(hints[i].home), peer(flows[i].Proto, flows[i].Dst), &lines)
	}
	t.guessSessions(hints[:len(flows)], &lines)
}

// Ahead4 is Ahead6 for packets from IPv4.
func (t *Table) Ahead4(flows []Flow4, hints []Hint) {
	var lines table.Lines
	for i := range flows {
		lines.Add(t.bib.Line4(flows[i].Proto, flows[i].Dst))
	}
	lines.Fetch()
	for i := range flows {
		t.guess(&hints[i], t.bib.Guess4(flows[i].Proto, flows[i].Dst), peer(flows[i].Proto, flows[i].Src), &lines)
	}
	t.guessSessions(hints[:len(flows)], &lines)
}

// guess notes a binding and what to look for next, and where both are.
func (t *Table) guess(h *Hint, id bib.ID, remote packet.Endpoint4, lines *table.Lines) {
	h.binding, h.session = id, 0
	if id == 0 {
		return
	}
	lines.Add(t.bib.Line(id))
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

// Hinted is a table for one packet that there is a hint for. Its methods are those of the table.
type Hinted struct {
	t *Table
	h *Hint
}

// With returns the table with a hint, which may be nil, made in this batch.
func (t *Table) With(h *Hint) Hinted { return Hinted{t, h} }

// From6 is Table.From6.
func (x Hinted) From6(p packet.Proto, src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, ev packet.TCPEvent, now table.Time) (packet.Endpoint4, drop.Reason) {
	return x.t.enter6(src, &event{proto: p, remote: peer(p, dst), from: v6, prefix: pref, tcp: ev, now: now, hint: x.h})
}

// TCP6 is Table.TCP6.
func (x Hinted) TCP6(src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, s *Segment, now table.Time) (packet.Endpoint4, drop.Reason) {
	return x.t.enter6(src, &event{proto: packet.TCP, remote: dst, from: v6, prefix: pref, tcp: s.Event, now: now, segment: s, hint: x.h})
}

// From4 is Table.From4.
func (x Hinted) From4(p packet.Proto, src, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (*packet.Endpoint6, uint8, drop.Reason) {
	return x.t.enter4(dst, &event{proto: p, remote: peer(p, src), from: v4, tcp: ev, now: now, hint: x.h})
}

// TCP4 is Table.TCP4.
func (x Hinted) TCP4(src, dst packet.Endpoint4, s *Segment, now table.Time) (*packet.Endpoint6, uint8, drop.Reason) {
	return x.t.enter4(dst, &event{proto: packet.TCP, remote: src, from: v4, tcp: s.Event, now: now, segment: s, hint: x.h})
}

// enter6 and enter4 take a packet through its binding and its session.
func (t *Table) enter6(src *packet.Endpoint6, q *event) (packet.Endpoint4, drop.Reason) {
	var id bib.ID
	if h := q.hint; h != nil && h.binding != 0 && t.bib.Matches6(h.binding, q.proto, src) {
		id = h.binding
	} else {
		id = t.bib.Find6(q.proto, src)
	}
	if id != 0 {
		if _, ok := t.pass(id, q); ok {
			return t.bib.Mapped(id), drop.None
		}
	}
	return t.closed6(id, src, q)
}

func (t *Table) enter4(dst packet.Endpoint4, q *event) (*packet.Endpoint6, uint8, drop.Reason) {
	var id bib.ID
	if h := q.hint; h != nil && h.binding != 0 && t.bib.Matches4(h.binding, q.proto, dst) {
		id = h.binding
	} else {
		id = t.bib.Find4(q.proto, dst)
	}
	if id != 0 {
		if pref, ok := t.pass(id, q); ok {
			return t.bib.Client(id), pref, drop.None
		}
	}
	return t.closed4(id, dst, q)
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
