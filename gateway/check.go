package gateway

import (
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
)

// quotes reports whether a packet is an ICMP error, or a fragment that may belong to one. Access lists and source
// classes do not apply to its source: the flow in the quote is checked, after reassembly.
func quotes(v *packet.View, bad drop.Reason, icmp uint8) bool {
	return v.Error || bad == drop.Fragment && v.Number == icmp
}

// check6 checks the headers of an IPv6 packet to pool6, except the IPv4 address in its destination. bad is the result
// of Headers6.
func (w *worker) check6(v *packet.View, bad drop.Reason) drop.Reason {
	src, quotes := v.IP6().Src(), quotes(v, bad, packet.NumICMPv6)
	if r := w.verify6(v, quotes); r != drop.None {
		return r
	}
	switch {
	case bad == drop.ExtensionHeaders:
		return bad
	case !quotes && !w.conf.allows(src):
		return drop.Client6
	case w.paused:
		return drop.Paused
	case v.IP6().HopLimit() <= 1:
		return drop.HopLimit
	case v.Routing != 0:
		return drop.RoutingHeader
	}
	return drop.None
}

// check4 checks the headers of an IPv4 packet to pool4. bad is the result of Transport4 or of reading the error.
func (w *worker) check4(p *inflight, bad drop.Reason) drop.Reason {
	v := &p.view
	src, quotes := *v.IP4().Src(), quotes(v, bad, packet.NumICMP)
	if r := w.verify4(p, quotes); r != drop.None {
		return r
	}
	switch {
	case !quotes && w.conf.denies(src):
		return drop.Denied4
	case w.paused:
		return drop.Paused
	case v.SourceRouted():
		return drop.SourceRoute
	case v.IP4().TTL() <= 1:
		return drop.HopLimit
	}
	return drop.None
}

// checkQuoted applies the access lists to the flow that an ICMP error is about. Errors about refused flows are not
// translated either.
func (w *worker) checkQuoted(p *inflight, f *session.Flow) drop.Reason {
	switch {
	case !w.conf.allows(&f.Client.Addr):
		return drop.Client6
	case w.conf.deniesPort(f.Proto, f.Remote):
		return drop.Denied4
	}
	return w.far(p, f.Remote.Addr, f.Prefix)
}

// far checks the IPv4 destination of an IPv6 client, in the prefix with the given number.
func (w *worker) far(p *inflight, a packet.Addr4, prefix uint8) drop.Reason {
	switch class := pool6.ClassOf4(a); {
	case class == pool6.Unusable:
		return drop.Destination4
	case class == pool6.LinkLocal && !w.pooled(a): // clients with a link-local pool4 address can reach each other
		return drop.LinkLocal4
	case w.conf.denies(a):
		return drop.Denied4
	case w.private(p, a, prefix):
		return drop.WellKnown
	}
	return drop.None
}

// private reports whether an IPv4 address must not be combined with the prefix with the given number (RFC 6052
// section 3.1).
func (w *worker) private(p *inflight, a packet.Addr4, prefix uint8) bool {
	return w.conf.refuses[prefix] && !pool6.Global4(a) && !p.hairpin
}

// ours4 reports whether an IPv4 packet is for the gateway and not for the host, which may own the same address. It
// decides by the transport address or, if bad means that there is none, by the address if the host does not own it.
// The host answers echo requests to its own address, unless the administrator has bound the Identifier.
func (w *worker) ours4(v *packet.View, bad drop.Reason) bool {
	dst := packet.Endpoint4{Addr: *v.IP4().Dst(), Port: v.DstPort}
	switch {
	case bad == drop.Fragment: // the ports, and with them the owner, show when the datagram is whole
		return w.pooled(dst.Addr)
	case bad != drop.None:
		return w.pooled(dst.Addr) && !w.hosts(dst.Addr)
	case v.Proto == packet.ICMP && v.ICMPType == packet.EchoRequest4 && w.hosts(dst.Addr):
		id := w.g.Bindings.Find4(v.Proto, dst)
		return id != 0 && w.g.Bindings.At(id).Static
	}
	return w.owns(v.Proto, dst)
}

// oursByQuote decides the same for an ICMP error, by the packet that it quotes. An unreadable error counts as the
// gateway's, so that a counter shows it, unless its transport protocol is one that only the host uses.
func (w *worker) oursByQuote(v *packet.View, m *message, bad drop.Reason) bool {
	if bad != drop.None {
		dst := *v.IP4().Dst()
		return w.pooled(dst) && (!m.foreign() || !w.hosts(dst))
	}
	return w.owns(m.quote.Proto, packet.Endpoint4{Addr: *m.quote.IP4().Src(), Port: m.quote.SrcPort})
}
