package session

import (
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Trial is what a packet would do to a table that Try6 and Try4 leave as it is. The packet takes the way of From6 and From4; where
// that changes something, the trial notes the change, and the rest of the way sees it. So a new session that needs room ends others,
// in the trial, and gets the port that the next packet of its flow gets if nothing else happens before that.
//
// One goroutine may use a trial, in one batch. A packet that hairpins takes both of its ways in the same trial.
type Trial struct {
	Ended     []Flow        // sessions that end to make room
	Remaining time.Duration // of the lifetime of the session of the last Try6 or Try4, after the packet

	bib      *bib.Trial
	made     *entry              // the last session that it has made, or nil
	sessions int64               // how many more there are
	ended    map[uint32]bool     // slots of sessions that have ended
	inbound  map[uint32]uint32   // how many of them are in a group of inbound
	passed   map[*closedList]int // how many places of a list it has taken
}

// triedRecord is the record of inbound of a session that a trial makes: none has this number.
const triedRecord = ^uint32(0)

// Trial returns a new trial. The caller is in a batch.
func (t *Table) Trial() *Trial {
	return &Trial{
		bib: t.bib.Trial(), ended: make(map[uint32]bool), inbound: make(map[uint32]uint32), passed: make(map[*closedList]int),
	}
}

// Try6 is From6 in a trial. A session that the packet would make has no name.
func (t *Table) Try6(f *Flow, p *Packet, tr *Trial) drop.Reason {
	tr.Remaining = 0
	q := event{proto: f.Proto, from: v6, remote: peer(f.Proto, f.Remote), prefix: f.Prefix, tcp: p.Event, now: p.Now + origin, segment: p.Segment, trial: tr}
	id, r := t.enter6(&f.Client, &q)
	f.slot, f.generation, f.Remote = q.slot, q.generation, q.remote
	q.outcome(p.Outcome)
	if r != drop.None {
		return t.missed(r)
	}
	f.Mapped = tr.bib.Mapped(id)
	return r
}

// Try4 is From4 in a trial.
func (t *Table) Try4(f *Flow, p *Packet, tr *Trial) drop.Reason {
	tr.Remaining = 0
	q := event{proto: f.Proto, from: v4, remote: peer(f.Proto, f.Remote), tcp: p.Event, now: p.Now + origin, segment: p.Segment, trial: tr}
	id, r := t.enter4(f.Mapped, &q)
	f.slot, f.generation, f.Remote, f.Prefix = q.slot, q.generation, q.remote, q.prefix
	q.outcome(p.Outcome)
	if r != drop.None {
		return t.missed(r)
	}
	f.Client = *tr.bib.Client(id)
	return r
}

// found notes that a packet meets a session in a state, and leaves it with the word w. It reports false if the session has ended in the
// trial.
func (tr *Trial) found(slot uint32, e *entry, before State, w word, l *limits, q *event) bool {
	if tr.ended[slot] {
		return false
	}
	tr.Remaining = w.remaining(l, q.now)
	q.prefix, q.before, q.after = w.prefix(), before, w.state()
	q.identify(slot, e, w)
	return true
}

// insert notes that a packet makes a session, instead of an expired one that the sweep has not removed yet if there is one.
func (tr *Trial) insert(t *Table, id bib.ID, q *event) drop.Reason {
	if slot, e := t.find(t.index.Find(t.hash(id, q.remote)), id, q.remote); e != nil && !tr.ended[slot] {
		tr.cancelAdmission(tr.bib.Client(id).Addr, q)
		tr.bib.Release(id)
		if t.update(slot, e, q) { // another packet has revived it
			return drop.None
		}
	}
	w := q.first()
	tr.made = &entry{binding: id, remote: q.remote.Addr, port: q.remote.Port, proto: q.proto}
	tr.made.word.Store(uint64(w))
	q.begun(w)
	tr.Remaining = w.remaining(&t.policy.Load().limits, q.now)
	return drop.None
}

// meets passes a packet from IPv4 through the session that the trial has made, and reports whether it belongs to that: the client has
// sent to its own IPv4 transport address.
func (tr *Trial) meets(t *Table, id bib.ID, q *event) bool {
	return tr.made != nil && id != 0 && tr.made.is(id, q.remote) && t.update(0, tr.made, q)
}

func (tr *Trial) admit(t *Table, client packet.Addr6, q *event) (r drop.Reason) {
	if r = t.full(t.total.Load()+tr.sessions, t.room.Load()); r != drop.None {
		return r
	}
	if q.counted, r = tr.bib.Admit(client, q.from == v6, q.now); r == drop.None {
		tr.sessions++
	}
	return r
}

func (tr *Trial) cancelAdmission(client packet.Addr6, q *event) {
	tr.bib.Leave(client, q.counted)
	tr.sessions--
}

// unlinkLocked notes that a session ends. The caller holds the lock of its shard, and calls finalize after it has released the lock.
func (tr *Trial) unlinkLocked(t *Table, slot uint32, e *entry, w word) end {
	tr.ended[slot] = true
	tr.Ended = append(tr.Ended, t.name(slot, e, w))
	if e.inbound != 0 {
		for _, g := range t.inbound.groupsOf(e.inbound) {
			tr.inbound[g]++
		}
	}
	return end{e.binding, packet.Endpoint4{Addr: e.remote, Port: e.port}, e.proto, e.client}
}

// finalize gives back what a session that has ended had.
func (tr *Trial) finalize(t *Table, x end) {
	tr.bib.Leave(t.bib.Client(x.binding).Addr, x.client)
	tr.sessions--
	tr.bib.Release(x.binding)
}

// groupsOf returns the groups of a session of an IPv4 host.
func (x *inbound) groupsOf(n uint32) [scopes]uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.records.at(n).groups
}

// hasEnded reports whether the session in a slot has ended in a trial. tr may be nil.
func (tr *Trial) hasEnded(slot uint32) bool { return tr != nil && tr.ended[slot] }

// endedIn returns how many sessions of a group of inbound have ended in a trial. tr may be nil.
func (tr *Trial) endedIn(group uint32) uint32 {
	if tr == nil {
		return 0
	}
	return tr.inbound[group]
}

// take is take of a list, or in a trial, for which the list stays as it is, the next place. tr may be nil.
func (tr *Trial) take(l *closedList, latest table.Time) (c closedSession, ok bool) {
	if tr == nil {
		return l.take(latest)
	}
	if c, ok = l.peek(tr.passed[l], latest); ok {
		tr.passed[l]++
	}
	return c, ok
}

// The functions below are what a new session asks of the bindings, and of the trial of them if q is in one.

func (t *Table) advance(q *event) {
	if q.trial == nil {
		t.observers.advance(q.now)
	}
}

func (t *Table) acquire6(r pool4.Request, q *event) (bib.ID, drop.Reason) {
	if q.trial != nil {
		return q.trial.bib.Acquire6(r)
	}
	return t.bib.Acquire6(r)
}

func (t *Table) acquire(id bib.ID, q *event) drop.Reason {
	if q.trial != nil {
		return q.trial.bib.Acquire(id)
	}
	return t.bib.Acquire(id)
}

func (t *Table) release(id bib.ID, q *event) {
	if q.trial != nil {
		q.trial.bib.Release(id)
		return
	}
	t.bib.Release(id)
}

func (t *Table) find6(c *packet.Endpoint6, q *event) bib.ID {
	if q.trial != nil {
		return q.trial.bib.Find6(q.proto, c)
	}
	return t.bib.Find6(q.proto, c)
}

func (t *Table) client(id bib.ID, q *event) *packet.Endpoint6 {
	if q.trial != nil {
		return q.trial.bib.Client(id)
	}
	return t.bib.Client(id)
}

func (t *Table) paired(c packet.Addr6, q *event) (packet.Addr4, bool) {
	if q.trial != nil {
		return q.trial.bib.Paired(c)
	}
	return t.bib.Paired(c)
}

func (t *Table) pool(q *event) *pool4.Pool {
	if q.trial != nil {
		return q.trial.bib.Pool()
	}
	return t.bib.Pool()
}

// claim takes out the stored SYN that a SYN of a client meets, and reports whether there is one.
func (t *Table) claim(id bib.ID, q *event) bool {
	now := (q.now - origin).Duration()
	if q.trial != nil {
		return t.syns.Waits(q.trial.bib.Mapped(id), q.remote, now)
	}
	return t.syns.Claim(t.bib.Mapped(id), q.remote, now)
}
