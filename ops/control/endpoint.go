package control

import (
	"encoding/json"
	"net/netip"
)

// bindingWire and sessionWire are the JSON forms of Binding and Session. Addresses and ports are separate values, so
// that scripts need not parse them.
type bindingWire struct {
	Protocol   string     `json:"protocol"`
	Client     netip.Addr `json:"client"`
	ClientPort uint16     `json:"client_port"`
	Mapped     netip.Addr `json:"mapped"`
	MappedPort uint16     `json:"mapped_port"`
	Static     bool       `json:"static"`
	Sessions   int        `json:"sessions"`
}

// flowWire is what a session and its events have in common.
type flowWire struct {
	Protocol   string     `json:"protocol"`
	Client     netip.Addr `json:"client,omitzero"`
	ClientPort *uint16    `json:"client_port,omitempty"` // a pointer, because 0 is a valid Identifier
	Mapped     netip.Addr `json:"mapped"`
	MappedPort uint16     `json:"mapped_port"`
	Peer       netip.Addr `json:"peer"`
	PeerPort   uint16     `json:"peer_port"`
	Peer6      netip.Addr `json:"peer6"`
	Peer6Port  uint16     `json:"peer6_port"`
	State      string     `json:"state,omitempty"`
}

type sessionWire struct {
	flowWire
	Expires Seconds `json:"expires_seconds"`
	Idle    Seconds `json:"idle_seconds"`
}

func flowOf(s *Session) flowWire {
	w := flowWire{
		Protocol: s.Protocol, Peer6: s.Peer6.Addr(), Peer6Port: s.Peer6.Port(), Mapped: s.Mapped.Addr(), MappedPort: s.Mapped.Port(),
		Peer: s.Peer.Addr(), PeerPort: s.Peer.Port(), State: s.State,
	}
	if s.Client.IsValid() {
		port := s.Client.Port()
		w.Client, w.ClientPort = s.Client.Addr(), &port
	}
	return w
}

func (w *flowWire) session() Session {
	s := Session{
		Protocol: w.Protocol, Peer6: netip.AddrPortFrom(w.Peer6, w.Peer6Port), Mapped: netip.AddrPortFrom(w.Mapped, w.MappedPort),
		Peer: netip.AddrPortFrom(w.Peer, w.PeerPort), State: w.State,
	}
	if w.ClientPort != nil {
		s.Client = netip.AddrPortFrom(w.Client, *w.ClientPort)
	}
	return s
}

// wire is a row as JSON has it. A listing decodes it directly, which takes 40 % less time than UnmarshalJSON of the row.
type wire[T any] interface{ row() T }

func (w bindingWire) row() Binding {
	return Binding{w.Protocol, netip.AddrPortFrom(w.Client, w.ClientPort), netip.AddrPortFrom(w.Mapped, w.MappedPort), w.Static, w.Sessions}
}

func (w sessionWire) row() Session {
	s := w.session()
	s.Expires, s.Idle = w.Expires, w.Idle
	return s
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Binding) UnmarshalJSON(text []byte) (err error) {
	*b, err = decoded[bindingWire](text)
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Session) UnmarshalJSON(text []byte) (err error) {
	*s, err = decoded[sessionWire](text)
	return err
}

func decoded[W wire[T], T any](text []byte) (T, error) {
	var w W
	err := json.Unmarshal(text, &w)
	return w.row(), err
}
