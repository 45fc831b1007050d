package session

import (
	"nat64d/bib"
	"nat64d/packet"
)

// Event is the beginning or the end of a binding or a session, for a log of who had which transport address (RFC 6888
// section 4). Its receiver is called by whoever makes or ends the thing, many workers at once, in a batch but outside of
// all locks that packets wait for; it must neither block nor call the tables. The end of a binding comes before the
// beginning of the next one with the same transport address. Only when a purge meets a binding that is being made, its
// end may come before its beginning.
type Event struct {
	Kind   EventKind
	Proto  packet.Proto
	Client packet.Endpoint6 // (X',x) of RFC 6146
	Mapped packet.Endpoint4 // (T,t)
	Remote packet.Endpoint4 // (Z,z) of a session; RFC 6888 REQ-12 asks not to log it by default
	Static bool             // of a binding: made by the administrator
}

// EventKind is what an Event is about.
type EventKind uint8

// The kinds of events.
const (
	BindingMade EventKind = iota
	BindingEnded
	SessionMade
	SessionEnded
)

// String returns the kind in two words.
func (k EventKind) String() string {
	return [...]string{"binding made", "binding ended", "session made", "session ended"}[k]
}

// log tells of a session that has begun or ended, if that is wanted. The caller is in a batch or holds the binding.
func (t *Table) log(k EventKind, id bib.ID, remote packet.Endpoint4) {
	log := t.policy.Load().log
	if log == nil {
		return
	}
	b := t.bib.At(id)
	log(Event{Kind: k, Proto: b.Proto, Client: b.Client, Mapped: b.Mapped, Remote: remote, Static: b.Static})
}
