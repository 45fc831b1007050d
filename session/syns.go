package session

import (
	"time"

	"nat64d/packet"
)

// SYNs holds the SYNs from IPv4 that wait for the client's own (RFC 6146 section 3.5.2.2): a synstore.Store. Any number
// of goroutines call its methods, but no packet of an existing session does.
type SYNs interface {
	// Wanted returns the transport addresses of pool4 at which SYNs of a remote wait.
	Wanted(remote packet.Endpoint4) []packet.Endpoint4
	// Claim removes the SYN from remote to mapped and reports whether there was one that had not expired.
	Claim(mapped, remote packet.Endpoint4, now time.Duration) bool
	// Waits reports whether Claim would find such a SYN.
	Waits(mapped, remote packet.Endpoint4, now time.Duration) bool
	// Forget removes the SYNs that wait at a transport address of pool4.
	Forget(mapped packet.Endpoint4)
}

// noSYNs is the SYNs of a table without a store.
type noSYNs struct{}

func (noSYNs) Wanted(packet.Endpoint4) []packet.Endpoint4                   { return nil }
func (noSYNs) Claim(packet.Endpoint4, packet.Endpoint4, time.Duration) bool { return false }
func (noSYNs) Waits(packet.Endpoint4, packet.Endpoint4, time.Duration) bool { return false }
func (noSYNs) Forget(packet.Endpoint4)                                      {}

// AddStatic is AddStatic of the bindings. It discards a stored SYN for the transport address: the binding answers when the
// SYN comes again.
func (t *Table) AddStatic(p packet.Proto, c packet.Endpoint6, m packet.Endpoint4) error {
	if err := t.bib.AddStatic(p, c, m); err != nil {
		return err
	}
	if p == packet.TCP {
		t.syns.Forget(m)
	}
	return nil
}
