package control

import (
	"context"
	"net/netip"
	"slices"
)

// Backend is what the server shows and changes: the running gateway. Its methods are called by many goroutines at
// once. An error of a method that changes something means that nothing was changed; it is told to the operator as it
// is, with a hint if it is (or wraps) an *Error that has one.
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
	// Address returns the IPv6 addresses that stand for an IPv4 one, or the IPv4 one that an IPv6 address stands for.
	Address(netip.Addr) ([]AddressPair, error)

	// Bindings hands every binding that the filter matches to yield, without holding up traffic. It stops with
	// the error that yield returns, or when ctx is done. The limit of the filter is kept by the caller.
	Bindings(ctx context.Context, f Filter, yield func(Binding) error) error
	// Sessions does for sessions what Bindings does for bindings.
	Sessions(ctx context.Context, f Filter, yield func(Session) error) error

	// AddBinding adds static bindings, all that the change asks for or none.
	AddBinding(BindingChange) (BindingResult, error)
	// RemoveBinding removes static bindings and ends dynamic ones, with their sessions.
	RemoveBinding(BindingChange) (BindingResult, error)

	// GetConfig returns the key of that name, which may be its name in Jool; without a name it returns all keys.
	GetConfig(key string) ([]ConfigKey, error)
	SetConfig(ConfigChange) (ConfigResult, error)
	// Reload reads the configuration file again and makes all of its changes, or none.
	Reload() (ReloadResult, error)

	// Stats returns every counter, those that are zero included, in a fixed order.
	Stats() []Counter

	Pause() error
	Resume() error
}

// Filter selects bindings and sessions. The zero Filter selects all.
type Filter struct {
	Protocols []string     // of tcp, udp and icmp; empty: all
	Client    netip.Prefix // the IPv6 address lies in it; zero: any
	Peer      netip.Prefix // the peer's IPv4 address lies in it; zero: any. Sessions only
	Limit     int          // at most so many; 0: no limit
}

// Match reports whether the filter selects an entry of that protocol, client and peer. A binding has no peer, and a
// stored SYN no client: these are the zero Addr, which lies in no prefix.
func (f *Filter) Match(protocol string, client, peer netip.Addr) bool {
	return (len(f.Protocols) == 0 || slices.Contains(f.Protocols, protocol)) &&
		(!f.Client.IsValid() || f.Client.Contains(client)) &&
		(!f.Peer.IsValid() || f.Peer.Contains(peer))
}

// Error is a refusal as it travels.
type Error struct {
	Message string `json:"error"`          // what was wrong
	Hint    string `json:"hint,omitempty"` // what would be right
}

// Error returns the message; the hint is for those who look for it.
func (e *Error) Error() string { return e.Message }
