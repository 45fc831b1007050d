package session

import (
	"nat64d/packet"
)

// Event is the beginning or the end of a binding or a session, for a log of who had which transport address (RFC 6888
// section 4).
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
