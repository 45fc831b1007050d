// Package session holds the session tables, the lifetimes of sessions and the TCP state machine (RFC 6146 section 3.5).
package session

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// Table is the three session tables. The key of a session is its binding and its remote transport address, which is
// equivalent to its IPv6 and to its IPv4 5-tuple.
//
// Concurrency: any number of workers may call From6 and From4 at once, each in a batch (between Enter and Leave of the
// table.Epochs given to New). A packet of an existing session takes no lock: it finds the session by atomic loads, and
// writes, by one CAS, only if the state, the prefix or the coarse time has changed. A packet that makes a session takes
// the lock of one shard, chosen by a keyed hash of the session's key; so does the end of a session. Locks are taken in
// the order: session shard, then one of peers, of bib's subscribers or of inbound. Any goroutine may call the other
// methods, one goroutine Sweep.
//
// Memory: 36 bytes a session and 11 to 22 for its place in the index; a TCP connection with a binding of its own takes
// about 110 in all. Address-dependent filtering adds about 30 for each pair of a binding and an IPv4 address, limits
// about 50 for each client prefix, a session of an IPv4 host about 100, the check of sequence numbers 16 for each
// session.
type Table struct {
	bib     *bib.Table
	epochs  *table.Epochs
	key     table.Key
	max     int64        // sessions for which there is room
	limit   int64        // on new sessions; at most max
	room    atomic.Int64 // limit, or fewer sessions while Confine is in effect
	policy  atomic.Pointer[policy]
	peers   atomic.Pointer[peers] // nil without address-dependent filtering
	entries *table.Slab[entry]
	index   *table.Index
	files   table.Files   // for windows
	cycles  atomic.Uint32 // the highest cycle of entries whose memory was given back

	restoring atomic.Bool // sessions of an earlier process are missing

	_         [64]byte // the fields below are written for every new session, those above are read for every packet
	total     atomic.Int64
	count     [packet.Protos]atomic.Int64
	begun     [packet.Protos]atomic.Uint64
	over      [causes]atomic.Uint64
	syns      SYNs
	inbound   inbound
	reclaimer reclaimer

	observers observers

	round       round // of Sweep
	configuring sync.Mutex
	generation  table.Generation // of the last peers; guarded by configuring
	prepared    *peers           // for Configure, by Prepare; without a generation, guarded by configuring
}

// entry is a session in its slot: 32 bytes without pointers, so that none lies in two cache lines. The key is written
// before the slot is published in the index, and stays until the slot has been retired and every batch of that time has
// ended.
type entry struct {
	word    atomic.Uint64
	binding bib.ID
	remote  packet.Addr4
	port    uint16 // of the remote; 0 for ICMP
	proto   packet.Proto

	peers  table.Generation // of the peers that count it; guarded by the shard's lock
	client table.Generation // of bib's subscribers that count it; guarded by the shard's lock

	inbound uint32        // record of a session of an IPv4 host, or 0; guarded by inbound.mu
	cycle   atomic.Uint32 // the upper part of the generation: counts the wraps of that in word; written with the key
}

// New returns an empty table with room for max sessions of the bindings of b, which it configures, too. s holds the
// stored SYNs for simultaneous opens and may be nil. f keeps the sessions in files; it may be nil.
func New(b *bib.Table, e *table.Epochs, max int, s SYNs, c Config, f table.Files) *Table {
	if s == nil {
		s = noSYNs{}
	}
	t := &Table{
		syns:    s,
		bib:     b,
		epochs:  e,
		key:     b.Key(),
		max:     int64(max),
		entries: table.NewKeptSlab[entry](max, e, f, keptName),
		files:   f,
		index:   table.NewIndex(max, e),
	}
	t.entries.OnGive(t.forget)
	if t.limit = t.max; c.Max > 0 {
		t.limit = min(t.max, int64(c.Max))
	}
	t.room.Store(t.limit)
	t.Configure(c)
	return t
}

// forget prepares for the loss of entries that no one uses: their generations must not be used again.
func (t *Table) forget(from, to uint32) {
	last := t.cycles.Load()
	for slot := from; slot < to; slot++ {
		last = max(last, t.entries.At(slot).cycle.Load())
	}
	t.cycles.Store(last)
	if p := t.policy.Load(); p.windows != nil {
		p.windows.forget(from, to)
	}
}

// Len returns the number of sessions of a protocol, including expired ones that the sweep has not removed yet.
func (t *Table) Len(p packet.Proto) int { return int(t.count[p].Load()) }

// From6 updates the tables for a packet from IPv6 (RFC 6146 sections 3.5.1 to 3.5.3). The caller fills in the protocol,
// the client, the remote that the destination's prefix contains and the number of that prefix; From6 fills in the mapped
// transport address, which is the packet's IPv4 source, and the name of the session. A V6 SYN that meets a stored V4 SYN
// makes an ESTABLISHED session. If Config.CheckSequence is on, a RST or FIN outside of the window changes nothing. The
// caller is a worker in a batch.
//
// From6 takes pointers because the 18 bytes of an Endpoint6 are copied by two overlapping stores: a load of such a copy
// stalls until all earlier instructions have retired, cache misses included, which could otherwise overlap with those
// of the next packet.
func (t *Table) From6(f *Flow, p *Packet) drop.Reason {
	var q event // assigned by field: a composite literal is copied by larger loads, which stall
	q.proto, q.from, q.remote, q.prefix = f.Proto, v6, peer(f.Proto, f.Remote), f.Prefix
	q.tcp, q.now, q.segment, q.hint = p.Event, p.Now+origin, p.Segment, p.Hint
	id, r := t.enter6(&f.Client, &q)
	f.slot, f.generation, f.Remote = q.slot, q.generation, q.remote
	q.outcome(p.Outcome)
	if r != drop.None {
		return t.missed(r)
	}
	f.Mapped = t.bib.Mapped(id)
	return r
}

// enter6 passes a packet from IPv6 through its binding and its session, and makes them if need be.
func (t *Table) enter6(src *packet.Endpoint6, q *event) (bib.ID, drop.Reason) {
	id := t.bib.Confirm6(q.hint.guessed(), q.proto, src)
	if q.trial != nil {
		id = q.trial.bib.Find6(q.proto, src)
	}
	q.bound = id != 0
	switch {
	case id != 0 && t.pass(id, q):
		return id, drop.None
	case q.proto != packet.TCP || q.tcp == packet.SYN:
		return t.open6(src, q)
	case id == 0:
		return 0, drop.NoSession
	}
	return id, drop.None
}

// From4 updates the tables for a packet from IPv4 (RFC 6146 sections 3.5.1 to 3.5.3). The caller fills in the protocol, the
// mapped transport address that is the packet's destination and the remote that is its source; From4 fills in the client,
// which is the packet's IPv6 destination, the number of the prefix for its IPv6 source, and the name of the session. The
// prefix is the one that the client used last, or 0 if the client has not sent yet. The reason drop.StoredSYN asks the
// caller to store the packet for SYNs. If Config.CheckSequence is on, a RST or FIN outside of the window changes nothing.
// The caller is a worker in a batch.
func (t *Table) From4(f *Flow, p *Packet) drop.Reason {
	var q event // as in From6
	q.proto, q.from, q.remote = f.Proto, v4, peer(f.Proto, f.Remote)
	q.tcp, q.now, q.segment, q.hint = p.Event, p.Now+origin, p.Segment, p.Hint
	id, r := t.enter4(f.Mapped, &q)
	f.slot, f.generation, f.Remote, f.Prefix = q.slot, q.generation, q.remote, q.prefix
	q.outcome(p.Outcome)
	if r != drop.None {
		return t.missed(r)
	}
	client := t.bib.Client(id)
	f.Client.Addr, f.Client.Port = client.Addr, client.Port
	return r
}

// enter4 passes a packet from IPv4 through its binding and its session, which it makes if the configuration allows it.
func (t *Table) enter4(dst packet.Endpoint4, q *event) (bib.ID, drop.Reason) {
	id := t.bib.Confirm4(q.hint.guessed(), q.proto, dst)
	if q.trial != nil {
		if id = q.trial.bib.Find4(q.proto, dst); q.trial.meets(t, id, q) {
			q.bound = true
			return id, drop.None
		}
	}
	q.bound = id != 0
	switch {
	case id == 0:
		return 0, t.unbound(q.proto, dst, q.tcp)
	case t.pass(id, q):
		return id, drop.None
	}
	if r := t.policy.Load().admit(id, q); r != drop.None {
		return 0, r
	}
	if q.proto == packet.TCP && q.tcp != packet.SYN {
		return id, drop.None
	}
	return id, t.open4(id, q)
}

// Peek4 looks up a flow by its protocol, its mapped transport address and its remote, as From4 does, but changes
// nothing, as ICMP errors require (RFC 6146 section 3.5). It reports whether there is a binding, and then fills in the
// client, and the prefix and the name of the session if there is one. The caller is a worker in a batch.
func (t *Table) Peek4(f *Flow) (bound bool) {
	id := t.bib.Find4(f.Proto, f.Mapped)
	if id == 0 {
		return false
	}
	f.Client, f.Remote = *t.bib.Client(id), peer(f.Proto, f.Remote)
	f.Prefix, f.slot, f.generation = 0, 0, 0
	if slot, e := t.find(t.index.Find(t.hash(id, f.Remote)), id, f.Remote); e != nil {
		w := word(e.word.Load())
		f.Prefix = w.prefix()
		if w.state() != Closed {
			f.slot, f.generation = slot, generation(e.cycle.Load(), w)
		}
	}
	return true
}

// Known reports whether Peek4 finds a session for a flow, also an expired one that the sweep has not removed yet. The
// caller is a worker in a batch.
func (t *Table) Known(f Flow) bool { return t.Peek4(&f) && f.slot != 0 }

// unbound returns the reason to drop a packet to a transport address without a binding.
func (t *Table) unbound(p packet.Proto, dst packet.Endpoint4, ev packet.TCPEvent) drop.Reason {
	switch c := t.policy.Load(); {
	case !t.bib.Pool().Contains(p, dst):
		return drop.NotPool4
	case p == packet.TCP && ev == packet.SYN && c.inbound && c.stores:
		return drop.StoredSYN
	}
	return drop.NoBinding
}

// event is a packet that passes through the tables.
type event struct {
	proto  packet.Proto
	remote packet.Endpoint4
	from   side
	prefix uint8 // of a packet from IPv6, or of the session of one from IPv4
	tcp    packet.TCPEvent
	now    table.Time

	segment *Segment // nil if the check of sequence numbers does not apply
	hint    *Hint    // may be nil

	slot       uint32 // of its session
	generation uint64 // of its session

	bound, made   bool  // as in Outcome
	before, after State // as in Outcome

	room         uint8            // number of calls of makeRoom
	simultaneous bool             // a V6 SYN that meets a stored V4 SYN
	counted      table.Generation // of bib's subscribers that count the new session
	inbound      uint32           // the record of the new session, if the packet comes from IPv4

	restored *Record // from which the new session is restored, or nil
	trial    *Trial  // where to note what the packet would change, or nil: it changes the table
}

// peer returns the remote side of a session's key: that of an ICMP session has no port (RFC 6146 section 3.2).
func peer(p packet.Proto, e packet.Endpoint4) packet.Endpoint4 {
	if p == packet.ICMP {
		e.Port = 0
	}
	return e
}

// pass passes a packet through its session and reports whether it has one that is alive.
func (t *Table) pass(id bib.ID, q *event) (ok bool) {
	slot, e := t.hinted(q.hint, id, q.remote)
	if e == nil {
		slot, e = t.find(t.index.Find(t.hash(id, q.remote)), id, q.remote)
	}
	if e == nil {
		return false
	}
	if q.segment != nil {
		q.tcp = t.examine(slot, e, q)
	}
	return t.update(slot, e, q)
}

// update applies a packet to a session. It reports false if the session has expired: a packet then treats it as absent.
func (t *Table) update(slot uint32, e *entry, q *event) (ok bool) {
	c := t.policy.Load()
	for {
		old := word(e.word.Load())
		w := old.settle(q.now, &c.limits)
		if w.state() == Closed || w.expired(q.now, &c.limits) {
			return false
		}
		state := w.state()
		if c.shortens && q.proto == packet.UDP && shortLived(e.port) {
			w = w.answered(q.from, q.now)
		}
		if !c.shortens || q.from == v6 || w.lifetime() != lifeAnswered {
			w = w.after(c.steps[state][q.from][q.tcp], q.now)
		}
		if q.from == v6 {
			w = w.used(q.prefix).answer(state, q.tcp)
		}
		if q.trial != nil {
			return q.trial.found(slot, e, state, w, &c.limits, q)
		}
		if w == old || e.word.CompareAndSwap(uint64(old), uint64(w)) {
			if old.unanswered() && !w.unanswered() {
				t.inbound.answer(e, q.proto)
			}
			if c.reclaims && w.closed() && !old.closed() {
				t.noteClosed(slot, e, w, q.now)
			}
			if old.state() != w.state() {
				t.changed(slot, e, old, w, q.now)
			}
			q.prefix, q.before, q.after = w.prefix(), state, w.state()
			q.identify(slot, e, w)
			return true
		}
	}
}

// key returns the key of a session.
func (e *entry) key() (bib.ID, packet.Endpoint4) {
	return e.binding, packet.Endpoint4{Addr: e.remote, Port: e.port}
}

// is reports whether a session has this key.
func (e *entry) is(id bib.ID, remote packet.Endpoint4) bool {
	return e.binding == id && e.remote == remote.Addr && e.port == remote.Port
}

func (t *Table) find(p table.Probe, id bib.ID, remote packet.Endpoint4) (slot uint32, e *entry) {
	for slot = p.Next(); slot != 0; slot = p.Next() {
		e = t.entries.At(slot)
		if e.is(id, remote) {
			return slot, e
		}
	}
	return 0, nil
}

func (t *Table) hash(id bib.ID, remote packet.Endpoint4) uint64 {
	return t.key.Hash(uint64(id), uint64(binary.BigEndian.Uint32(remote.Addr[:]))<<16|uint64(remote.Port), 0)
}
