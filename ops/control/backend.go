package control

import (
	"context"
	"net/netip"
)

// Backend is the running gateway that the server shows and changes. Its methods must be safe for concurrent use. If a
// method that changes something returns an error, nothing was changed. The server sends the error text to the
// operator, and the hint of an *Error in its chain.
type Backend interface {
	Version() Version
	Status() Status

	Pool4() []Pool4Entry
	// Pool4Usage returns the use of each address, and that many clients with most ports.
	Pool4Usage(clients int) Pool4Usage
	// Clients returns the clients that use most of something. While it is called at least every ten seconds, the traffic of
	// clients is counted.
	Clients(ClientQuery) ClientList
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
	// of yield if there is one, and stops when ctx is done. The caller applies the limit and the order of the filter.
	Bindings(ctx context.Context, f Filter, yield func(Binding) error) error
	// Sessions is like Bindings, for sessions.
	Sessions(ctx context.Context, f Filter, yield func(Session) error) error
	// CountSessions returns the number of sessions that match the filter.
	CountSessions(ctx context.Context, f Filter) (SessionCount, error)
	// FollowSessions calls yield with nil as soon as it misses no event, and then with the events of sessions that match the
	// filter. It returns the error of yield, or that of ctx when it is done. The caller applies the limit of the filter.
	FollowSessions(ctx context.Context, f Filter, yield func([]SessionEvent) error) error
	// RemoveSessions ends the sessions that match a filter.
	RemoveSessions(f Filter) (SessionResult, error)

	// Explain returns what would become of a packet, and changes nothing.
	Explain(Question) (Explanation, error)
	// Trace begins a trace, and Capture a capture. The caller applies the limit of the filter, and closes them.
	Trace(TraceFilter) (Recording[Traced], error)
	Capture(TraceFilter) (CaptureStart, Recording[Captured], error)

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

// Error is a refusal and its JSON form.
type Error struct {
	Message string `json:"error"`          // what is wrong
	Hint    string `json:"hint,omitempty"` // what would be right
}

// Error returns the message without the hint.
func (e *Error) Error() string { return e.Message }
