package session

import (
	"net/netip"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Refusal is the reason for which Restore has not installed a record.
type Refusal uint8

// The refusals.
const (
	_               Refusal = iota
	RefusedInvalid          // the record contradicts itself
	RefusedExpired          // its lifetime is over
	RefusedPrefix           // its NAT64 prefix is not configured
	RefusedPool4            // pool4 does not contain its transport address
	RefusedTaken            // another client has its transport address, or its port block, or the port is held down
	RefusedBinding          // its client has another transport address, or its static binding is missing
	RefusedExists           // the session or the held port exists already
	RefusedFull             // a table is full
	RefusedUnneeded         // no session has this dynamic binding, or no port this port block
	refusals
)

// Error returns the reason in words.
func (r Refusal) Error() string {
	return [refusals]string{
		RefusedInvalid:  "session: the record contradicts itself",
		RefusedExpired:  "session: the lifetime of the record is over",
		RefusedPrefix:   "session: the NAT64 prefix of the record is not configured",
		RefusedPool4:    "session: pool4 does not contain the transport address of the record",
		RefusedTaken:    "session: the transport address or the port block of the record is in use or held down",
		RefusedBinding:  "session: the client of the record has another transport address, or its static binding is missing",
		RefusedExists:   "session: the session or the held port of the record exists already",
		RefusedFull:     "session: a table is full",
		RefusedUnneeded: "session: no session has the binding, or no port the block, of the record",
	}[r]
}

// String returns the reason in a word or two, for counts.
func (r Refusal) String() string {
	return [refusals]string{
		RefusedInvalid: "invalid", RefusedExpired: "expired", RefusedPrefix: "prefix not configured", RefusedPool4: "not in pool4",
		RefusedTaken: "address taken", RefusedBinding: "other binding", RefusedExists: "exists", RefusedFull: "table full", RefusedUnneeded: "unneeded",
	}[r]
}

// refusalOf returns the Refusal for a reason to drop a packet.
func refusalOf(r drop.Reason) error {
	switch r {
	case drop.None:
		return nil
	case drop.NotPool4, drop.PoolEmpty:
		return RefusedPool4
	case drop.PoolExhausted:
		return RefusedTaken
	case drop.NoBinding:
		return RefusedBinding
	}
	return RefusedFull
}

// Restore installs a record with exactly its transport address, or returns a Refusal. It treats the record as a new
// session: bindings, pool4, port blocks, limits and quotas count it, and observers receive its events. But no limit
// refuses it and it evicts no session, because it was admitted when it began; and it does not count for
// Config.NewPerSecond. A lifetime that is longer than the timeout becomes the timeout.
// number returns the number of a NAT64 prefix. Any goroutine may call Restore, while packets flow.
func (t *Table) Restore(r *Record, now table.Time, number func(netip.Prefix) (uint8, bool)) (err error) {
	if r.check() != nil {
		return RefusedInvalid
	}
	t.observers.advance(now + origin)
	switch r.Kind {
	case BindingRecord:
		return t.restoreBinding(r)
	case HeldRecord:
		return t.restoreHeld(r, now)
	case BlockRecord:
		if owner, ok := t.bib.Pool().BlockOwner(r.Proto, r.Mapped); !ok || owner != r.Client.Addr {
			return RefusedUnneeded
		}
		return nil
	}
	t.epochs.Read(func() { err = t.restoreIn(r, now, number) })
	return err
}

// SetRestoring begins or ends a time in which sessions of an earlier process are being restored. Packets then make no session: a flow whose
// own is not restored yet would get another port. Any goroutine may call it, while packets flow.
func (t *Table) SetRestoring(on bool) { t.restoring.Store(on) }

// missed returns the reason to drop a packet that the tables refuse for r. While sessions are being restored, the packet may
// belong to one that is still missing, so neither an ICMP error nor a reset may answer it.
func (t *Table) missed(r drop.Reason) drop.Reason {
	if t.restoring.Load() && !r.Host() {
		return drop.Restoring
	}
	return r
}

// RestoreSessions is Restore for the records of sessions, and calls done with the result of each. It fetches from memory
// for many records at once, so rs should have some 32.
func (t *Table) RestoreSessions(rs []Record, now table.Time, number func(netip.Prefix) (uint8, bool), done func(error)) {
	t.observers.advance(now + origin)
	t.epochs.Read(func() {
		var lines table.Lines
		for i := range rs {
			t.bib.AheadRestore(rs[i].Proto, &rs[i].Client, rs[i].Mapped, &lines)
		}
		lines.Fetch()
		for i := range rs {
			if rs[i].check() != nil {
				done(RefusedInvalid)
				continue
			}
			done(t.restoreIn(&rs[i], now, number))
		}
	})
}

// restoreIn restores a session. The caller is in Epochs.Read: a change of the prefixes waits for readers, then purges.
func (t *Table) restoreIn(r *Record, now table.Time, number func(netip.Prefix) (uint8, bool)) error {
	n, ok := number(r.Prefix)
	switch {
	case !ok:
		return RefusedPrefix
	case r.Remaining < 0:
		return RefusedExpired
	}
	return t.restoreSession(r, &event{
		proto: r.Proto, remote: peer(r.Proto, r.Remote), prefix: n, now: now + origin, restored: r, from: v6,
	})
}

func (t *Table) restoreBinding(r *Record) error {
	client, bound := packet.Endpoint6{}, false
	t.epochs.Read(func() { client, bound = t.bib.Lookup4(r.Proto, r.Mapped) })
	switch {
	case bound && client != r.Client:
		return RefusedTaken
	case r.Static && t.AddStatic(r.Proto, r.Client, r.Mapped) != nil:
		return RefusedBinding
	case !r.Static && !bound:
		return RefusedUnneeded
	}
	return nil
}

func (t *Table) restoreHeld(r *Record, now table.Time) error {
	pool := t.bib.Pool()
	if r.Remaining < 0 {
		return RefusedExpired
	}
	if !pool.Contains(r.Proto, r.Mapped) {
		return RefusedPool4
	}
	bound := false
	t.epochs.Read(func() {
		id := t.bib.Find4(r.Proto, r.Mapped)
		bound = id != 0 && !t.bib.At(id).Static
	})
	if bound {
		return RefusedTaken
	}
	h := pool4.HeldPort{Proto: r.Proto, At: r.Mapped, Remaining: r.Remaining, Owned: r.Owned, Owner: r.Client.Addr}
	if !pool.HoldDown(&h, now.Duration()) {
		return RefusedExists
	}
	return nil
}

// restoreSession makes the session of q.restored. The caller is in Epochs.Read.
func (t *Table) restoreSession(r *Record, q *event) error {
	if t.reserve(r.Proto, t.max) != drop.None { // not t.limit
		return RefusedFull
	}
	id, err := t.restoredBinding(r)
	if err != nil {
		t.unreserve(r.Proto)
		return err
	}
	if r.Inbound {
		q.inbound = t.inbound.restore(id, r.Client.Addr)
	}
	why := t.insert(id, q)
	t.round.overtaken.Store(true)
	if why == drop.None && q.generation == 0 {
		return RefusedExists
	}
	return refusalOf(why)
}

// restoredBinding acquires the binding of a record, which it makes if the client has none.
func (t *Table) restoredBinding(r *Record) (bib.ID, error) {
	id := t.bib.Find6(r.Proto, &r.Client)
	if id == 0 && r.Static {
		return 0, RefusedBinding
	}
	id, why := t.bib.Acquire6(pool4.Request{Proto: r.Proto, Client: r.Client, Remote: r.Remote, Exact: r.Mapped})
	switch {
	case why != drop.None:
		return 0, refusalOf(why)
	case t.bib.Mapped(id) != r.Mapped:
		t.bib.Release(id)
		return 0, RefusedBinding
	}
	return id, nil
}

// word returns the word of a restored session.
func (r *Record) word(q *event, limits *limits) word {
	limit := limits[r.Lifetime]
	left := min(table.TimeOf(r.Remaining), limit)
	w := makeWord(q.now-min(q.now, limit-left), q.prefix, r.State, lifetime(r.Lifetime))
	if r.Unanswered {
		w |= unansweredBit
	}
	return w
}

// finishLocked restores the parts of a session that its word does not hold. The caller holds the lock of the shard.
func (t *Table) finishLocked(slot uint32, e *entry, r *Record) {
	if r.Inbound && !r.Unanswered {
		t.inbound.answer(e, r.Proto)
	}
	if all := t.policy.Load().windows; all != nil {
		for side, w := range r.Windows {
			all.at(slot)[side].Store(w)
		}
	}
}
