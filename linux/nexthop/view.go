//go:build linux

package nexthop

import (
	"net/netip"

	"nat64d/drop"
	"nat64d/packet"
)

// View answers like a Cache that remembers nothing. It marks no neighbour as used, so that neither packets nor the kernel notice the
// question. Any goroutine may use it.
type View struct{ t *Table }

// NewView returns a view of t.
func NewView(t *Table) View { return View{t} }

// Hop6 and Hop4 return what those of a Cache return.
func (v View) Hop6(f *packet.Selector6) (h packet.Hop, pending bool, r drop.Reason) {
	a := v.t.state.Load().answer(v6, flow6(f))
	return a.hop, a.pending, a.reason
}

func (v View) Hop4(f *packet.Selector4) (h packet.Hop, pending bool, r drop.Reason) {
	a := v.t.state.Load().answer(v4, flow4(f))
	return a.hop, a.pending, a.reason
}

// ByDestination reports false: each flow asks for itself.
func (View) ByDestination() bool { return false }

// Via6 and Via4 return the address whose link address a packet is sent to: that of a router, or the destination itself. It is the
// zero Addr if there is no route out of the interface.
func (v View) Via6(f *packet.Selector6) netip.Addr { return v.t.state.Load().via(v6, flow6(f)) }
func (v View) Via4(f *packet.Selector4) netip.Addr { return v.t.state.Load().via(v4, flow4(f)) }

func (s *snapshot) via(d side, f flow) netip.Addr {
	w := s.way(d, &f)
	if w.reason != drop.None {
		return netip.Addr{}
	}
	return w.hop.target(f.dst)
}
