package gateway

import (
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
)

// from6 takes one IPv6 packet through RFC 6146 section 3.
func (w *worker) from6(f *packet.Frame) drop.Reason {
	var v packet.View
	if r := v.Parse6(f.Data); r != drop.None {
		return r
	}
	pref, ok := pool6.Match(w.conf.prefixes, v.IP6().Dst())
	if !ok {
		return drop.NotPool6
	}
	if w.conf.bypassed(v.IP6().Dst()) {
		return drop.Bypassed
	}
	bad := v.Headers6() // before any refusal: an error is never answered, wherever its headers hide it
	if r := w.check6(&v, bad); r != drop.None {
		return w.refuse6(&v, r, 0)
	}
	prefix := &w.conf.prefixes[pref]
	peer := prefix.Extract(v.IP6().Dst())
	switch {
	case v.Error:
		return w.error6(&v, f.Offload, uint8(pref))
	case quotes(&v, bad, packet.NumICMPv6):
		return w.assemble6(&v)
	}
	if r := w.far(peer, uint8(pref)); r != drop.None {
		return w.refuse6(&v, r, 0)
	}
	switch {
	case bad == drop.Fragment:
		return w.assemble6(&v)
	case bad != drop.None:
		return w.refuse6(&v, bad, 0)
	case v.Proto == packet.ICMP && w.conf.NoEcho:
		return drop.Informational
	}
	dst := packet.Endpoint4{Addr: peer, Port: v.DstPort} // 3.4 incoming tuple
	flow := session.Flow{Remote: dst, Proto: v.Proto, Prefix: uint8(pref)}
	flow.Client.Addr, flow.Client.Port = *v.IP6().Src(), v.SrcPort
	if w.conf.deniesPort(v.Proto, dst) {
		return w.refuse6(&v, drop.Denied4, 0)
	}
	if r := w.state6(&v, &flow); r != drop.None { // 3.5 filtering and updating
		return w.refuse6(&v, r, 0)
	}
	o := w.out.Next4()
	t := packet.Tuple4{Src: flow.Mapped, Dst: dst}                               // 3.6 outgoing tuple
	r := w.conf.Xlat.To4(o, &v, f.Offload, &t, w.out.ID(&t, v.Proto, f.Offload)) // 3.7 translate
	if r != drop.None {
		return w.refuse6(&v, r, 0)
	}
	if w.turns(v.Proto, &t) {
		return w.turn(o) // 3.8 hairpin
	}
	return w.leave4(&v, o)
}

// from4 takes one IPv4 packet through RFC 6146 section 3.
func (w *worker) from4(f *packet.Frame) drop.Reason {
	var v packet.View
	if r := v.Parse4(f.Data); r != drop.None {
		return r
	}
	bad := v.Transport4()
	if v.Error {
		bad = w.message.read4(&v, f.Offload)
	}
	if !w.ours4(&v, bad) {
		return drop.NotPool4
	}
	if bad == drop.Fragment {
		return w.assemble4(&v)
	}
	if r := w.check4(&v, bad); r != drop.None {
		return w.refuse4(&v, r, 0)
	}
	if bad != drop.None {
		return w.refuse4(&v, bad, 0)
	}
	if v.Error {
		return w.error4(&v, &w.message)
	}
	src := packet.Endpoint4{Addr: *v.IP4().Src(), Port: v.SrcPort} // 3.4 incoming tuple
	dst := packet.Endpoint4{Addr: *v.IP4().Dst(), Port: v.DstPort}
	if w.conf.deniesPort(v.Proto, src) {
		return w.refuse4(&v, drop.Denied4, 0)
	}
	flow := session.Flow{Mapped: dst, Remote: src, Proto: v.Proto}
	r := w.state4(&v, &flow) // 3.5 filtering and updating
	if r == drop.StoredSYN {
		return w.g.SYNs.Add(src, dst, w.arrived(&v), w.now)
	}
	if r != drop.None {
		return w.refuse4(&v, r, 0)
	}
	pref := w.conf.number(flow.Prefix)
	if w.private(src.Addr, pref) {
		return w.refuse4(&v, drop.WellKnown, 0)
	}
	o := w.out.Next6()
	var t packet.Tuple6 // 3.6 outgoing tuple, field by field: To6 would wait for the two overlapping halves of an Endpoint6
	t.Src.Addr, t.Src.Port = w.conf.prefixes[pref].Embed(src.Addr), src.Port
	t.Dst.Addr, t.Dst.Port = flow.Client.Addr, flow.Client.Port
	if r := w.conf.Xlat.To6(o, &v, f.Offload, &t); r != drop.None { // 3.7 translate
		return w.refuse4(&v, r, 0)
	}
	return w.leave6(&v, o)
}

// quotes reports whether a packet is an ICMP error or a fragment that may be one's. Lists and source classes are not
// applied to the source of either: the flow that the error quotes is judged, when it is whole.
func quotes(v *packet.View, bad drop.Reason, icmp uint8) bool {
	return v.Error || bad == drop.Fragment && v.Number == icmp
}

// check6 checks the headers of an IPv6 packet to pool6, but not the IPv4 address in its destination. bad is the result of
// Headers6.
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
func (w *worker) check4(v *packet.View, bad drop.Reason) drop.Reason {
	src, quotes := *v.IP4().Src(), quotes(v, bad, packet.NumICMP)
	if r := w.verify4(v, quotes); r != drop.None {
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

// flow checks what an ICMP error quotes against the lists: a flow between client and peer, behind the prefix of that
// number. Packets of a flow that is refused get no errors translated either.
func (w *worker) flow(p packet.Proto, client *packet.Addr6, peer packet.Endpoint4, prefix uint8) drop.Reason {
	switch {
	case !w.conf.allows(client):
		return drop.Client6
	case w.conf.deniesPort(p, peer):
		return drop.Denied4
	}
	return w.far(peer.Addr, prefix)
}

// far checks the IPv4 address that an IPv6 client sends to, behind the prefix of that number.
func (w *worker) far(a packet.Addr4, prefix uint8) drop.Reason {
	switch class := pool6.ClassOf4(a); {
	case class == pool6.Unusable:
		return drop.Destination4
	case class == pool6.LinkLocal && !w.pooled(a): // a client behind a link-local pool4 may be reached
		return drop.LinkLocal4
	case w.conf.denies(a):
		return drop.Denied4
	case w.private(a, prefix):
		return drop.WellKnown
	}
	return drop.None
}

// private reports whether an IPv4 address must not be paired with the prefix of that number (RFC 6052 section 3.1).
func (w *worker) private(a packet.Addr4, prefix uint8) bool {
	return w.conf.refuses[prefix] && !pool6.Global4(a) && !w.hairpin
}

// ours4 reports whether an IPv4 packet is for us and not for the host, which may own the same address: by its transport
// address (of an ICMP error that of the packet it quotes), or, where bad says that it has none, by its address alone if
// the host has not got it. An error that cannot be read is counted as ours in any case, so that its counter shows why it
// is of no use. An echo request to the host's own address is the host's to answer, unless the administrator has bound the
// Identifier.
func (w *worker) ours4(v *packet.View, bad drop.Reason) bool {
	dst := packet.Endpoint4{Addr: *v.IP4().Dst(), Port: v.DstPort}
	switch {
	case bad == drop.Fragment: // whose it is shows when the datagram is whole
		return w.pooled(dst.Addr)
	case bad != drop.None:
		return w.pooled(dst.Addr) && (v.Error && !w.message.foreign() || !w.hosts(dst.Addr))
	case v.Error:
		q := &w.message.quote
		return w.owns(q.Proto, packet.Endpoint4{Addr: *q.IP4().Src(), Port: q.SrcPort})
	case v.Proto == packet.ICMP && v.ICMPType == packet.EchoRequest4 && w.hosts(dst.Addr):
		id := w.g.Bindings.Find4(v.Proto, dst)
		return id != 0 && w.g.Bindings.At(id).Static
	}
	return w.owns(v.Proto, dst)
}

// owns says whether an IPv4 transport address is one of ours: from outside a packet to it is translated, from inside it
// turns round.
func (w *worker) owns(p packet.Proto, e packet.Endpoint4) bool {
	return w.g.Pool4.Contains(p, e) || w.g.Bindings.Find4(p, e) != 0
}

// pooled reports whether pool4 has the address for any protocol.
func (w *worker) pooled(a packet.Addr4) bool { return w.g.Pool4.Has(a) }

// hosts reports whether the host owns a.
func (w *worker) hosts(a packet.Addr4) bool { return w.g.routes.Local4(a) }
