package control

import (
	"context"
	"net/netip"
	"slices"
)

// Backend is the running gateway that the server shows and changes. Its methods must be safe for concurrent use. If a
// method that changes something returns an error, nothing was changed. The server sends the error text to the
// operator, and the hint of an *Error in its chain.
type Backend interface {
	Version() Version
	Status() Status

	Pool4() []Pool4Entry
	AddPool4(Pool4Change) (Pool4Result, error)
	RemovePool4(Pool4Change) (Pool4Result, error)
	FlushPool4() (Pool4Result, error)
	Pool6() []Pool6Entry
	AddPool6(Pool6Change) (Pool6Result, error)
	RemovePool6(Pool6Change) (Pool6Result, error)
	// Address returns the IPv6 addresses that represent an IPv4 address, or the IPv4 address that an IPv6 address
	// represents.
	Address(netip.Addr) ([]AddressPair, error)

	// Bindings calls yield for every binding that matches the filter, without blocking traffic. It returns the error
	// of yield if there is one, and stops when ctx is done. The caller applies the limit of the filter.
	Bindings(ctx context.Context, f Filter, yield func(Binding) error) error
	// Sessions is like Bindings, for sessions.
	Sessions(ctx context.Context, f Filter, yield func(Session) error) error

	// Trace begins a trace, and Capture a capture. The caller applies the limit of a trace, and closes both.
	Trace(TraceFilter) (Tracing, error)
	Capture(TraceFilter) (Capturing, error)

	// AddBinding adds all static bindings of the change, or none.
	AddBinding(BindingChange) (BindingResult, error)
	// RemoveBinding removes static bindings and ends dynamic ones, with their sessions.
	RemoveBinding(BindingChange) (BindingResult, error)

	// GetConfig returns the key with that name or that name in Jool. Without a name it returns all keys.
	GetConfig(key string) ([]ConfigKey, error)
	SetConfig(ConfigChange) (ConfigResult, error)
	// Reload reads the configuration file again and applies all of its changes, or none.
	Reload() (ReloadResult, error)

	// Stats returns all counters, including those that are zero, in a fixed order.
	Stats() []Counter

	Pause() error
	Resume() error

	Diagnosis
}

// Filter selects bindings and sessions. The zero Filter selects all.
type Filter struct {
	Protocols []string     // tcp, udp and icmp; empty: all
	Client    netip.Prefix // contains the IPv6 address; zero: any
	Peer      netip.Prefix // contains the IPv4 address of the peer; zero: any. Sessions only
	Limit     int          // maximum number of entries; 0: no limit
}

// Match reports whether the filter selects an entry with the given protocol, client and peer. A binding has no peer,
// and a stored SYN no client; these are the zero Addr, which is in no prefix.
func (f *Filter) Match(protocol string, client, peer netip.Addr) bool {
	return (len(f.Protocols) == 0 || slices.Contains(f.Protocols, protocol)) &&
		(!f.Client.IsValid() || f.Client.Contains(client)) &&
		(!f.Peer.IsValid() || f.Peer.Contains(peer))
}

// Error is a refusal and its JSON form.
type Error struct {
	Message string `json:"error"`          // what is wrong
	Hint    string `json:"hint,omitempty"` // what would be right
}

// Error returns the message without the hint.
func (e *Error) Error() string { return e.Message }
