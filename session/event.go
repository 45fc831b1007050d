package session

import (
	"encoding/binary"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// Event is the beginning, a change or the end of a binding, a session or a port block. Deliver passes it to observers.
//
// The end of a binding comes before the beginning of the next one with the same transport address. Only when a purge meets
// a binding that is being made may its end come before its beginning.
type Event struct {
	Flow              // of a binding without Remote, Prefix and name; of a port block see LastPort
	At     table.Time // of the packet or the sweep that caused it, or of the last one before a purge
	Kind   EventKind
	Cause  Cause // of an end
	Before State // of a SessionChanged
	State  State // after it; of a SessionEnded the last one
	Static bool  // of a binding: made by the administrator

	// LastPort is that of a port block. Its Mapped has the address and the first port, the address of its Client the
	// prefix of the client that has it.
	LastPort uint16
}

// EventKind is what an Event is about.
type EventKind uint8

// The kinds of events. RFC 6888 REQ-12 asks not to log the remotes of sessions by default.
const (
	BindingMade EventKind = iota
	BindingEnded
	SessionMade
	SessionEnded
	SessionChanged // a TCP session has changed its state
	BlockMade
	BlockEnded
	eventKinds
)

// String returns the kind in words.
func (k EventKind) String() string {
	return [eventKinds]string{
		"binding made", "binding ended", "session made", "session ended", "session changed", "port block made", "port block ended",
	}[k]
}

// Kinds is a set of EventKinds.
type Kinds uint32

// KindsOf returns the set of these kinds.
func KindsOf(kinds ...EventKind) (s Kinds) {
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// Has reports whether a kind is in the set.
func (s Kinds) Has(k EventKind) bool { return s&(1<<k) != 0 }

// Cause is the reason for an end.
type Cause uint8

// The causes.
const (
	NoCause  Cause = iota // nothing has ended
	Expired               // the lifetime is over; a binding has lost its last session, or a block its last port
	Finished              // the lifetime after FINs of both sides is over
	Reset                 // the lifetime after a RST is over
	Purged                // by an administrator or a change of the configuration
	Evicted               // for a newer session: a limit or a quota was reached
	Replaced              // a packet has restarted an expired session before the sweep removed it
	causes
)

// String returns the cause in words.
func (c Cause) String() string {
	return [causes]string{"none", "expired", "finished", "reset", "purged", "evicted", "replaced"}[c]
}

// causeOf returns the cause for the end of an expired session with this word.
func causeOf(w word) Cause {
	switch {
	case w.lifetime() != lifeTransitory:
		return Expired
	case w.state() == V4FinV6FinRcv:
		return Finished
	}
	return Reset
}

// changed reports a transition of a session from word old to w.
func (t *Table) changed(slot uint32, e *entry, old, w word, at table.Time) {
	if old.state() == w.state() || !t.observers.wants(SessionChanged) {
		return
	}
	t.observers.emit(&Event{Kind: SessionChanged, Flow: t.name(slot, e, w), At: at - origin, Before: old.state(), State: w.state()})
}

// made counts and reports that a session of word w has begun.
func (t *Table) made(slot uint32, e *entry, w word, at table.Time) {
	t.begun[e.proto].Add(1)
	if t.observers.wants(SessionMade) {
		t.observers.emit(&Event{Kind: SessionMade, Flow: t.name(slot, e, w), At: at - origin, State: w.state()})
	}
}

// ended counts and reports that a session whose last word was w has ended.
func (t *Table) ended(slot uint32, e *entry, w word, c Cause, at table.Time) {
	t.over[c].Add(1)
	if t.observers.wants(SessionEnded) {
		t.observers.emit(&Event{Kind: SessionEnded, Flow: t.name(slot, e, w), At: at - origin, Cause: c, State: w.state()})
	}
}

// bindingChanged reports that a binding has begun or ended: bib.Config.Log.
func (t *Table) bindingChanged(b bib.Binding, what bib.Change) {
	e := Event{Kind: BindingEnded, Static: b.Static}
	switch what {
	case bib.Made:
		e.Kind = BindingMade
	case bib.Idle:
		e.Cause = Expired
	case bib.Unlinked:
		e.Cause = Purged
	}
	if !t.observers.wants(e.Kind) {
		return
	}
	e.At = t.observers.now() - origin
	e.Proto, e.Client, e.Mapped = b.Proto, b.Client, b.Mapped
	t.observers.emit(&e)
}

// blockChanged reports that a port block has got or lost its client: pool4.Config.LogBlock.
func (t *Table) blockChanged(b pool4.Block, ended bool) {
	e := Event{Kind: BlockMade, LastPort: b.Hi}
	if ended {
		e.Kind, e.Cause = BlockEnded, Expired
	}
	if !t.observers.wants(e.Kind) {
		return
	}
	e.At = t.observers.now() - origin
	e.Proto, e.Client.Addr = b.Proto, b.Client
	e.Mapped = packet.Endpoint4{Addr: b.Addr.As4(), Port: b.Lo}
	t.observers.emit(&e)
}

// ringOf returns the index of the ring for events of a transport address, which keeps them in order.
func ringOf(m packet.Endpoint4) uint32 {
	h := (binary.BigEndian.Uint32(m.Addr[:]) ^ uint32(m.Port)) * 2654435769
	return h >> (32 - ringBits)
}
