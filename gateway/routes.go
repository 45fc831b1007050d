package gateway

import (
	"nat64d/egress"
	"nat64d/packet"
)

// Routes are the host's routes, neighbours and addresses; nexthop.Table implements it. All methods are safe for
// concurrent use.
type Routes interface {
	// Generation increases with every change that can alter an answer of Hops.
	Generation() uint64
	// Resolve6 and Resolve4 request the next hop's link address, which becomes known later. The number of concurrent
	// searches per client is limited: repeat the request while it stays unknown.
	Resolve6(f packet.Selector6, client packet.Client)
	Resolve4(f packet.Selector4, client packet.Client)
	// Local4 reports whether an IPv4 address is the host's own.
	Local4(a packet.Addr4) bool
	// Source6 and Source4 return the address of the host that an ICMP error to dst comes from.
	Source6(dst packet.Addr6) (packet.Addr6, bool)
	Source4(dst packet.Addr4) (packet.Addr4, bool)
}

// Hops is one worker's view of Routes; nexthop.Cache implements it. Pending means that the answer is not known yet:
// query again when the generation has changed. It need not be safe for concurrent use.
type Hops interface {
	egress.Hops
	// ByDestination reports whether the last answer was the same for all flows to the destination.
	ByDestination() bool
}
