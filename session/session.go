// Package session holds the conversations that go on through bindings, their lifetimes and the TCP state machine
// (RFC 6146 section 3.5).
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

// Table is the three session tables. A session is unique by its binding and its remote transport address, which is
// the same as by its IPv6 and by its IPv4 5-tuple.
//
// Concurrency: any number of workers may call From6 and From4 at once, each in a batch (between Enter and Leave of
// the table.Epochs given to New). A packet of an existing session takes no lock: it finds the session by atomic
// loads, and writes, one CAS, only if the state, the prefix or the coarse time has changed. A packet that makes a
// session takes the lock of one shard, chosen by a keyed hash of the session's key; so does the end of a session.
// Locks are taken in the order: session shard, then one of peers, of bib's subscribers or of inbound. The other methods may be
// called by any goroutine, Sweep by one.
//
// Memory: 36 bytes a session and 11 to 22 for its place in the index; a TCP connection with a binding of its own
// takes about 110 in all. Address-dependent filtering adds about 30 for each pair of a binding and an IPv4 address,
// limits about 50 for each client prefix, a session that IPv4 has begun about 100, the check of sequence numbers 16 for each session.
type Table struct {
	bib     *bib.Table
	epochs  *table.Epochs
	key     table.Key
	max     int64
	policy  atomic.Pointer[policy]
	peers   atomic.Pointer[peers] // nil without address-dependent filtering
	entries *table.Slab[entry]
	index   *table.Index

	_       [64]byte // what follows is written for every new session, what precedes is read for every packet
	total   atomic.Int64
	count   [packet.Protos]atomic.Int64
	syns    SYNs
	inbound inbound

	cursor      uint32 // of Sweep
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

	inbound uint32 // record of a session that IPv4 has begun, or 0; guarded by the lock of inbound
}

// New returns an empty table for at most max sessions through the bindings of b, which it configures as well. A client may
// meet the SYNs in s, which may be nil.
func New(b *bib.Table, e *table.Epochs, max int, s SYNs, c Config) *Table {
	if s == nil {
		s = noSYNs{}
	}
	t := &Table{
		syns:    s,
		bib:     b,
		epochs:  e,
		key:     b.Key(),
		max:     int64(max),
		entries: table.NewSlab[entry](max, e),
		index:   table.NewIndex(max, e),
	}
	t.Configure(c)
	return t
}

// Len returns the number of sessions of a protocol, those included whose lifetime is over and that the sweep has not
// come to.
func (t *Table) Len(p packet.Proto) int { return int(t.count[p].Load()) }

// From6 updates the tables for a packet from IPv6 source (X',x) to the IPv4 destination (Z,z) that its prefix,
// number pref, contains (RFC 6146 sections 3.5.1 to 3.5.3). It returns the packet's IPv4 source (T,t). For ICMP,
// ports are Identifiers, and that of dst does not matter; ev counts for TCP only. src is not kept. A V6 SYN that meets
// a stored V4 SYN makes an ESTABLISHED session.
func (t *Table) From6(p packet.Proto, src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, ev packet.TCPEvent, now table.Time) (packet.Endpoint4, drop.Reason) {
	return t.With(nil).From6(p, src, dst, pref, ev, now)
}

// TCP6 is From6 for a TCP segment. If Config.CheckSequence is on, a RST or FIN outside of the window changes nothing.
func (t *Table) TCP6(src *packet.Endpoint6, dst packet.Endpoint4, pref uint8, s *Segment, now table.Time) (packet.Endpoint4, drop.Reason) {
	return t.With(nil).TCP6(src, dst, pref, s, now)
}

// closed6 takes a packet from IPv6 on that has no session, but a binding unless id is 0.
func (t *Table) closed6(id bib.ID, src *packet.Endpoint6, q *event) (packet.Endpoint4, drop.Reason) {
	switch {
	case q.proto != packet.TCP || q.tcp == packet.SYN:
		return t.open6(src, q)
	case id == 0:
		return packet.Endpoint4{}, drop.NoSession
	}
	return t.bib.Mapped(id), drop.None
}

// From4 updates the tables for a packet from IPv4 source (W,w) to (T,t), the IPv4 side of a binding (RFC 6146
// sections 3.5.1 to 3.5.3). It returns the packet's IPv6 destination (X',x) and the number of the prefix for its IPv6
// source, which is the prefix that the client used last, or 0 if the client has not spoken yet; the destination is in the
// table's own memory, to be read in the same batch, and only if the reason is drop.None. For ICMP, ports are Identifiers,
// and that of src does not matter; ev counts for TCP only. The reason drop.StoredSYN asks the caller to store
// the packet for SYNs.
func (t *Table) From4(p packet.Proto, src, dst packet.Endpoint4, ev packet.TCPEvent, now table.Time) (*packet.Endpoint6, uint8, drop.Reason) {
	return t.With(nil).From4(p, src, dst, ev, now)
}

// TCP4 is From4 for a TCP segment. If Config.CheckSequence is on, a RST or FIN outside of the window changes nothing.
func (t *Table) TCP4(src, dst packet.Endpoint4, s *Segment, now table.Time) (*packet.Endpoint6, uint8, drop.Reason) {
	return t.With(nil).TCP4(src, dst, s, now)
}

// closed4 takes a packet from IPv4 on that has no session, but a binding unless id is 0.
func (t *Table) closed4(id bib.ID, dst packet.Endpoint4, q *event) (*packet.Endpoint6, uint8, drop.Reason) {
	if id == 0 {
		return nil, 0, t.unbound(q.proto, dst, q.tcp)
	}
	if r := t.policy.Load().admit(id, q); r != drop.None {
		return nil, 0, r
	}
	if q.proto == packet.TCP && q.tcp != packet.SYN {
		return t.bib.Client(id), 0, drop.None
	}
	return t.open4(id, q)
}

// Peek4 returns the client behind mapped, a (T,t), and the number of the prefix that it uses towards remote, a (Z,z):
// that of their session, or 0 if there is none. Nothing changes by it, so it serves ICMP errors (RFC 6146 section
// 3.5). For ICMP the port of remote does not matter. It is for workers in a batch.
func (t *Table) Peek4(p packet.Proto, mapped, remote packet.Endpoint4) (client packet.Endpoint6, pref uint8, ok bool) {
	id := t.bib.Find4(p, mapped)
	if id == 0 {
		return packet.Endpoint6{}, 0, false
	}
	remote = peer(p, remote)
	if _, e := t.find(t.index.Find(t.hash(id, remote)), id, remote); e != nil {
		pref = word(e.word.Load()).prefix()
	}
	return *t.bib.Client(id), pref, true
}

// Known reports whether a session goes on between mapped, a (T,t), and remote, a (Z,z). One whose lifetime is over is
// known until the sweep has come to it. Nothing changes by it; for ICMP the port of remote does not matter. It takes no
// lock and is for workers in a batch.
func (t *Table) Known(p packet.Proto, mapped, remote packet.Endpoint4) bool {
	id := t.bib.Find4(p, mapped)
	if id == 0 {
		return false
	}
	remote = peer(p, remote)
	_, e := t.find(t.index.Find(t.hash(id, remote)), id, remote)
	return e != nil && word(e.word.Load()).state() != Closed
}

// unbound says why a packet to a transport address without a binding goes no further.
func (t *Table) unbound(p packet.Proto, dst packet.Endpoint4, ev packet.TCPEvent) drop.Reason {
	switch c := t.policy.Load(); {
	case !t.bib.Contains(p, dst):
		return drop.NotPool4
	case p == packet.TCP && ev == packet.SYN && c.inbound && c.stores:
		return drop.StoredSYN
	}
	return drop.NoBinding
}

// event is a packet as the tables see it.
type event struct {
	proto  packet.Proto
	remote packet.Endpoint4
	from   side
	prefix uint8 // of a packet from IPv6
	tcp    packet.TCPEvent
	now    table.Time

	segment *Segment // nil if its numbers do not matter
	hint    *Hint    // nil if there is none

	room    uint8            // how often makeRoom was asked
	met     bool             // a V6 SYN that meets a stored V4 SYN
	counted table.Generation // of bib's subscribers that count the session to come
	inbound uint32           // the record of the session to come, if it comes from IPv4
}

// peer returns the remote side of a session's key: an ICMP session has only an address there (RFC 6146 section
// 3.2).
func peer(p packet.Proto, e packet.Endpoint4) packet.Endpoint4 {
	if p == packet.ICMP {
		e.Port = 0
	}
	return e
}

// pass takes a packet through its session, if there is one that lives, and returns the session's prefix.
func (t *Table) pass(id bib.ID, q *event) (prefix uint8, ok bool) {
	slot, e := t.hinted(q.hint, id, q.remote)
	if e == nil {
		slot, e = t.find(t.index.Find(t.hash(id, q.remote)), id, q.remote)
	}
	if e == nil {
		return 0, false
	}
	if q.segment != nil {
		q.tcp = t.examine(slot, e, q)
	}
	return t.update(e, q)
}

// update changes a session as a packet demands. It fails if the session's lifetime is over: to a packet, it does not
// exist then.
func (t *Table) update(e *entry, q *event) (prefix uint8, ok bool) {
	c := t.policy.Load()
	for {
		old := word(e.word.Load())
		w := old.settle(q.now, &c.limits)
		if w.state() == Closed || w.expired(q.now, &c.limits) {
			return 0, false
		}
		state := w.state()
		w = w.after(c.steps[state][q.from][q.tcp], q.now)
		if q.from == v6 {
			w = w.used(q.prefix).answer(state, q.tcp)
		}
		if w == old || e.word.CompareAndSwap(uint64(old), uint64(w)) {
			if old.unanswered() && !w.unanswered() {
				t.inbound.answer(e, q.proto)
			}
			return w.prefix(), true
		}
	}
}

// key returns what a session is found by.
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
