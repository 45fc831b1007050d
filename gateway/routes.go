package gateway

import (
	"nat64d/egress"
	"nat64d/packet"
)

// Routes knows the host's routes, neighbours and addresses; it is implemented by nexthop.Table. All methods are for any
// number of goroutines.
type Routes interface {
	// Generation grows with every change that can alter an answer of Hops.
	Generation() uint64
	// Resolve6 and Resolve4 make the next hop's link address known, some time after they have returned. How much is
	// looked for at a time on behalf of one client is bounded: ask again for what stays unknown.
	Resolve6(f packet.Selector6, client packet.Client)
	Resolve4(f packet.Selector4, client packet.Client)
	// Local4 reports whether an IPv4 address is the host's own.
	Local4(a packet.Addr4) bool
	// Source6 and Source4 return the address of the host that an ICMP error to dst comes from.
	Source6(dst packet.Addr6) (packet.Addr6, bool)
	Source4(dst packet.Addr4) (packet.Addr4, bool)
}

// Hops is one worker's view of Routes, implemented by nexthop.Cache. Pending means that the answer is on its way: ask
// again when the generation has changed. One goroutine uses it.
type Hops interface {
	egress.Hops
	// ByDestination reports whether the last answer was the same for all flows to the destination.
	ByDestination() bool
}
