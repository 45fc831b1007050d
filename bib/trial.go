package bib

import (
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Trial returns what a table would return, and changes only itself: copies of the counts and of the rows that it needs. So it shows
// which binding a packet would get, also after others have ended. One goroutine in a batch may use a trial, in that batch.
type Trial struct {
	t      *Table
	ledger ledger
	counts counts
	words  map[ID]uint32 // refs of the bindings whose counts it has changed
	made   Binding       // of Tried
}

// Tried is the ID of the binding that Trial.Acquire6 would make. Only methods of that trial accept it.
const Tried ID = 1<<32 - 1

// Trial returns a new trial. The caller is in a batch.
func (t *Table) Trial() *Trial {
	tr := &Trial{t: t, words: make(map[ID]uint32)}
	tr.ledger = t.ledger()
	tr.counts.total.Store(t.total.Load())
	for p := range t.count {
		tr.counts.count[p].Store(t.count[p].Load())
	}
	l := &tr.ledger
	l.counts, l.pool, l.clients = &tr.counts, l.pool.Trial(), clients{l.clients.rows.Trial()}
	if l.subscribers != nil {
		l.subscribers = l.subscribers.trial()
	}
	return tr
}

// trial returns a copy that changes only copies of the rows.
func (s *subscribers) trial() *subscribers {
	c := &subscribers{generation: s.generation, bits: s.bits, sessions: s.sessions, rows: s.rows.Trial()}
	for p := range s.active {
		c.active[p].Store(s.active[p].Load())
	}
	return c
}

// Pool returns the trial of the table's pool.
func (tr *Trial) Pool() *pool4.Pool { return tr.ledger.pool }

// word returns the refs of a binding.
func (tr *Trial) word(id ID) uint32 {
	if w, changed := tr.words[id]; changed {
		return w
	}
	return tr.t.entries.At(uint32(id)).refs.Load()
}

// Find6 and Find4 return what those of the table return.
func (tr *Trial) Find6(p packet.Proto, c *packet.Endpoint6) ID {
	if id := tr.t.Find6(p, c); id != 0 && alive(tr.word(id)) {
		return id
	}
	if alive(tr.words[Tried]) && tr.made.Proto == p && tr.made.Client == *c {
		return Tried
	}
	return 0
}

func (tr *Trial) Find4(p packet.Proto, m packet.Endpoint4) ID {
	if id := tr.t.Find4(p, m); id != 0 && alive(tr.word(id)) {
		return id
	}
	if alive(tr.words[Tried]) && tr.made.Proto == p && tr.made.Mapped == m {
		return Tried
	}
	return 0
}

// Client and Mapped return what those of the table return.
func (tr *Trial) Client(id ID) *packet.Endpoint6 {
	if id == Tried {
		return &tr.made.Client
	}
	return tr.t.Client(id)
}

func (tr *Trial) Mapped(id ID) packet.Endpoint4 {
	if id == Tried {
		return tr.made.Mapped
	}
	return tr.t.Mapped(id)
}

// Acquire6 is Acquire6 of the table.
func (tr *Trial) Acquire6(q pool4.Request) (ID, drop.Reason) {
	if id := tr.Find6(q.Proto, &q.Client); id != 0 {
		return id, tr.Acquire(id)
	}
	counted, r := tr.ledger.admit(&q)
	if r != drop.None {
		return 0, r
	}
	m, r := tr.ledger.allocate(q)
	if r != drop.None {
		tr.ledger.cancel(&q, counted)
		return 0, r
	}
	tr.made = Binding{Proto: q.Proto, Client: q.Client, Mapped: m}
	tr.words[Tried] = 1
	return Tried, drop.None
}

// Acquire is Acquire of the table.
func (tr *Trial) Acquire(id ID) drop.Reason {
	w := tr.word(id)
	r := acquirable(w, uint32(tr.ledger.conf.SessionsPerBinding))
	if r == drop.None {
		tr.words[id] = w + 1
	}
	return r
}

// Release is Release of the table.
func (tr *Trial) Release(id ID) {
	w := tr.word(id) - 1
	tr.words[id] = w
	if w != 0 {
		return
	}
	tr.words[id] = gone
	tr.ledger.end(tr.t.copyOf(id))
}

// copyOf returns a binding of the table as it is when it has ended.
func (t *Table) copyOf(id ID) *end {
	e := t.entries.At(uint32(id))
	s := t.index6.Lock(t.hash(e.proto, &e.client))
	defer s.Unlock()
	return &end{Binding{Proto: e.proto, Client: e.client, Mapped: e.mapped}, e.counted}
}

// Admit, Leave and Paired are those of the table.
func (tr *Trial) Admit(c packet.Addr6, begins bool, now table.Time) (table.Generation, drop.Reason) {
	return tr.ledger.admitSession(c, begins, now)
}

func (tr *Trial) Leave(c packet.Addr6, counted table.Generation) {
	tr.ledger.subscribers.leave(c, counted, forSession)
}

func (tr *Trial) Paired(addr packet.Addr6) (packet.Addr4, bool) {
	return tr.ledger.clients.paired(addr)
}
