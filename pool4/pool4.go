// Package pool4 owns the IPv4 transport addresses that bindings are made of and chooses a free one for each new
// binding (RFC 6146 section 3.5.1.1, RFC 6056, RFC 6888).
package pool4

import (
	"nat64d/drop"
	"nat64d/packet"
)

// Pool is the set of IPv4 transport addresses.
type Pool struct{}

// New returns an empty pool.
func New(key [16]byte) *Pool { return &Pool{} }

// Add adds entries.
func (p *Pool) Add(entries []Entry) (added, merged []Entry, err error) { return nil, nil, nil }

// Remove removes entries.
func (p *Pool) Remove(entries []Entry) (removed []Entry, err error) { return nil, nil }

// Flush removes everything.
func (p *Pool) Flush() {}

// Entries lists.
func (p *Pool) Entries() []Usage { return nil }

// Contains reports whether a transport address is in the pool.
func (p *Pool) Contains(proto packet.Proto, e packet.Endpoint4) bool { return false }

// Allocate chooses a free transport address.
func (p *Pool) Allocate(proto packet.Proto, c packet.Endpoint6, remote packet.Endpoint4) (packet.Endpoint4, drop.Reason) {
	return packet.Endpoint4{}, drop.PoolEmpty
}
