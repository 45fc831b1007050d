package gateway

import (
	"nat64d/packet"
)

// owns reports whether an IPv4 transport address belongs to the gateway: a packet to it is translated if it comes
// from IPv4, and hairpinned if it comes from IPv6.
func (w *worker) owns(p packet.Proto, e packet.Endpoint4) bool {
	return w.g.Pool4.Contains(p, e) || w.g.Bindings.Find4(p, e) != 0
}

// pooled reports whether pool4 contains the address for any protocol.
func (w *worker) pooled(a packet.Addr4) bool { return w.g.Pool4.Has(a) }

// hosts reports whether the host owns a.
func (w *worker) hosts(a packet.Addr4) bool { return w.g.routes.Local4(a) }
