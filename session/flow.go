package session

import (
	"nat64d/packet"
	"nat64d/table"
)

// Flow is a conversation with the addresses of both sides, and the name of its session. A look-up completes it from the
// fields of a packet; logs, traces and side tables refer to the session by this value. It holds no pointers and may be
// kept: Table.Alive reports whether it still names a session.
//
// Ports of ICMP are Identifiers; the remote of an ICMP flow has port 0 (RFC 6146 section 3.2). The Flow of a packet
// that passes through a binding without a session, such as a TCP segment after the end of its connection, names no
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

// Packet holds the properties of a packet, besides its addresses and ports, that the tables use.
type Packet struct {
	Event   packet.TCPEvent // of TCP only
	Now     table.Time
	Segment *Segment // for Config.CheckSequence; nil: the packet's sequence numbers do not matter
	Hint    *Hint    // made in this batch by Ahead6 or Ahead4; may be nil
	Outcome *Outcome // From6 and From4 write it; may be nil
}

// Outcome is what a packet has done to the tables.
type Outcome struct {
	Bound         bool  // there was a binding before; of a packet from IPv6 without one, the packet has made it unless it was refused
	Made          bool  // the packet has made the session
	Before, After State // of the session; Closed: there was none before the packet, or none was made
}

// outcome stores the result of a packet in o, if it is not nil.
func (q *event) outcome(o *Outcome) {
	if o != nil {
		*o = Outcome{Bound: q.bound, Made: q.made, Before: q.before, After: q.after}
	}
}

// begun records that the packet has made the session with word w.
func (q *event) begun(w word) { q.made, q.before, q.after = true, Closed, w.state() }

// Slot returns the index of the flow's session in side tables, lower than Table.Slots, or 0 if the flow names no
// session. An entry of a side table belongs to the session only if it was stored with the same Generation.
func (f *Flow) Slot() uint32 { return f.slot }

// Generation returns the generation of the flow's session: no two sessions in a slot have the same.
func (f *Flow) Generation() uint64 { return f.generation }

// Slots returns a number higher than all slots.
func (t *Table) Slots() int { return t.entries.Cap() }

// Alive reports whether the session that a flow names is still in the table. An expired session is in the table until
// the sweep removes it. Alive takes no lock; any goroutine may call it.
func (t *Table) Alive(f *Flow) bool {
	if f.slot == 0 || int(f.slot) >= t.entries.Cap() {
		return false
	}
	e := t.entries.At(f.slot)
	w := word(e.word.Load()) // before cycle, which only grows: an older word cannot then meet a newer cycle
	return w.state() != Closed && generation(e.cycle.Load(), w) == f.generation
}

// generation joins the two parts of an entry's generation. 48 bits last 178 years at 50,000 sessions a second in one
// slot, more than the batch that must end between two sessions allows.
func generation(cycle uint32, w word) uint64 { return uint64(cycle)<<16 | uint64(w>>48) }

// identify stores the name of the session with word w in q. The caller has found the session in its batch.
func (q *event) identify(slot uint32, e *entry, w word) {
	q.slot, q.generation = slot, generation(e.cycle.Load(), w)
}

// name returns the Flow of the session in a slot. Its batch, or the lock of the shard, keeps the slot from being reused.
func (t *Table) name(slot uint32, e *entry, w word) Flow {
	return Flow{
		Client: *t.bib.Client(e.binding), Mapped: t.bib.Mapped(e.binding),
		Remote: packet.Endpoint4{Addr: e.remote, Port: e.port}, Proto: e.proto, Prefix: w.prefix(),
		slot: slot, generation: generation(e.cycle.Load(), w),
	}
}
