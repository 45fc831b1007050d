package session

import (
	"nat64d/packet"
	"nat64d/table"
)

// Flow is one conversation as both sides see it, and the name of its session. A look-up fills in what a packet does not
// tell; logs, traces and side tables then speak of the session by this value alone. It holds no pointers and may be kept:
// Table.Alive reports whether it still names a session.
//
// Ports of ICMP are Identifiers; the remote of an ICMP flow has port 0 (RFC 6146 section 3.2). A packet that goes through
// a binding without making a session, such as a TCP segment after the end of its connection, has a Flow that names no
// session.
type Flow struct {
	Client packet.Endpoint6 // (X',x) of RFC 6146
	Mapped packet.Endpoint4 // (T,t)
	Remote packet.Endpoint4 // (Z,z)
	Proto  packet.Proto
	Prefix uint8 // number of the NAT64 prefix that makes (Y',y) of (Z,z)

	slot       uint32 // 0: it names no session
	generation uint64
}

// Packet contains the fields of a packet that the tables need, apart from its addresses and ports.
type Packet struct {
	Event   packet.TCPEvent // of TCP only
	Now     table.Time
	Segment *Segment // for Config.CheckSequence; nil: the packet's sequence numbers do not matter
	Hint    *Hint    // made in this batch, by Ahead6 or Ahead4; nil: there is none
}

// Slot returns an index, lower than Table.Slots, under which a side table can store data about the flow's session, or
// 0 if the flow has no session. The data belongs to the session only if Generation equals the one that it was stored
// with.
func (f *Flow) Slot() uint32 { return f.slot }

// Generation returns what tells apart the sessions that a slot has in the course of time: no two have the same.
func (f *Flow) Generation() uint64 { return f.generation }

// Slots returns the number that all slots will ever be below.
func (t *Table) Slots() int { return t.entries.Cap() }

// Alive reports whether the session that a flow names is still in the table. One whose lifetime is over is there until the
// sweep has come to it. It takes no lock and may be called by any goroutine.
func (t *Table) Alive(f *Flow) bool {
	if f.slot == 0 || int(f.slot) >= t.entries.Cap() {
		return false
	}
	e := t.entries.At(f.slot)
	w := word(e.word.Load()) // before cycle, which only grows: an older word cannot then meet a newer cycle
	return w.state() != Closed && generation(e.cycle.Load(), w) == f.generation
}

// generation joins the two parts of an entry's generation. 48 bits last for 178 years at 50,000 sessions a second in one
// slot, more than the quiescence between two of them allows.
func generation(cycle uint32, w word) uint64 { return uint64(cycle)<<16 | uint64(w>>48) }

// identify makes q name a session whose word is w. The caller has found the session in its batch.
func (q *event) identify(slot uint32, e *entry, w word) {
	q.slot, q.generation = slot, generation(e.cycle.Load(), w)
}

// name returns the name of the session in a slot, without its prefix. The caller is in a batch or holds the shard's lock.
func (t *Table) name(slot uint32, e *entry, w word) Flow {
	return Flow{
		Client: *t.bib.Client(e.binding), Mapped: t.bib.Mapped(e.binding),
		Remote: packet.Endpoint4{Addr: e.remote, Port: e.port}, Proto: e.proto, Prefix: w.prefix(),
		slot: slot, generation: generation(e.cycle.Load(), w),
	}
}
