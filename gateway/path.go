package gateway

import (
	"nat64d/drop"
	"nat64d/egress"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
)

// take processes a packet, and again after reassembly or for the second half of a hairpin.
func (w *worker) take(p *inflight) (r drop.Reason) {
	if w.tap = w.tracer; w.tap != nil {
		w.tap.begin(p)
	}
	for p.again = true; p.again; {
		p.again = false
		if w.side == packet.V6 && !p.hairpin {
			r = w.from6(p)
		} else {
			r = w.from4(p)
		}
	}
	if w.tap != nil {
		w.tap.end(w, p, r)
	}
	full := p.whole.Data != nil && w.reassembler.Held() > maxHeld
	if p.hairpin || full { // the next packet that hairpins uses the same memory
		w.out.Flush()
	}
	if full {
		w.reassembler.Release()
	}
	return r
}

// settle counts what take has made of a packet. A packet that waits is counted when it has finished waiting.
func (w *worker) settle(p *inflight, r drop.Reason) {
	switch {
	case r != drop.None:
		w.count.Dropped(r, uint64(p.frames()))
		if r >= drop.PoolEmpty && r <= drop.PoolResting {
			w.count.NoPort(metrics.Protocol(p.view.Proto))
		}
	case p.left:
		w.left += uint64(p.frames())
	}
}

// from6 processes one IPv6 packet by RFC 6146 section 3.
func (w *worker) from6(p *inflight) drop.Reason {
	v := &p.view
	if r := v.Parse6(p.frame.Data); r != drop.None {
		return r
	}
	pref, ok := pool6.Match(w.conf.prefixes, v.IP6().Dst())
	if !ok {
		return drop.NotPool6
	}
	if w.conf.bypassed(v.IP6().Dst()) {
		return drop.Bypassed
	}
	bad := v.Headers6() // before any refusal, because an error is never answered, whatever headers precede it
	if r := w.check6(v, bad); r != drop.None {
		return w.refuse6(p, r, 0)
	}
	prefix := &w.conf.prefixes[pref]
	peer := prefix.Extract(v.IP6().Dst())
	switch {
	case v.Error:
		return w.errorFrom6(p, uint8(pref))
	case quotes(v, bad, packet.NumICMPv6):
		return w.assemble6(p)
	}
	if r := w.far(p, peer, uint8(pref)); r != drop.None {
		return w.refuse6(p, r, 0)
	}
	switch {
	case bad == drop.Fragment:
		return w.assemble6(p)
	case bad != drop.None:
		return w.refuse6(p, bad, 0)
	case v.Proto == packet.ICMP && w.conf.NoEcho:
		return drop.Informational
	}
	dst := packet.Endpoint4{Addr: peer, Port: v.DstPort} // 3.4 incoming tuple
	flow := session.Flow{Remote: dst, Proto: v.Proto, Prefix: uint8(pref)}
	flow.Client.Addr, flow.Client.Port = *v.IP6().Src(), v.SrcPort
	if w.conf.deniesPort(v.Proto, dst) {
		return w.refuse6(p, drop.Denied4, 0)
	}
	switch r := w.state6(p, &flow); r { // 3.5 filtering and updating
	case drop.None:
	case drop.NoSession:
		return w.reset6(p)
	default:
		return w.refuse6(p, r, 0)
	}
	o := w.out.Next4()
	t := packet.Tuple4{Src: flow.Mapped, Dst: dst}                                          // 3.6 outgoing tuple
	r := w.conf.Xlat.To4(o, v, p.frame.Offload, &t, w.out.ID(&t, v.Proto, p.frame.Offload)) // 3.7 translate
	if r != drop.None {
		return w.refuse6(p, r, 0)
	}
	if w.turns(v.Proto, &t) {
		w.tapTurned(p, &flow)
		return w.charge(p, &flow.Client.Addr, metrics.From6To4, w.turn(p, o)) // 3.8 hairpin
	}
	return w.charge(p, &flow.Client.Addr, metrics.From6To4, w.leave4(p, o))
}

// from4 processes one IPv4 packet by RFC 6146 section 3.
func (w *worker) from4(p *inflight) drop.Reason {
	v := &p.view
	if r := v.Parse4(p.frame.Data); r != drop.None {
		return r
	}
	bad := v.Transport4()
	if v.Error {
		return w.errorFrom4(p)
	}
	if !w.ours4(v, bad) {
		return drop.NotPool4
	}
	if bad == drop.Fragment {
		return w.assemble4(p)
	}
	if r := w.check4(p, bad); r != drop.None {
		return w.refuse4(p, r, 0)
	}
	if bad != drop.None {
		return w.refuse4(p, bad, 0)
	}
	src := packet.Endpoint4{Addr: *v.IP4().Src(), Port: v.SrcPort} // 3.4 incoming tuple
	if w.conf.deniesPort(v.Proto, src) {
		return w.refuse4(p, drop.Denied4, 0)
	}
	flow := session.Flow{Proto: v.Proto} // field by field: a copy of an Endpoint4 would wait for its two halves
	flow.Mapped.Addr, flow.Mapped.Port = *v.IP4().Dst(), v.DstPort
	flow.Remote.Addr, flow.Remote.Port = src.Addr, src.Port
	r := w.state4(p, &flow) // 3.5 filtering and updating
	if r == drop.StoredSYN {
		return w.store(p, src, flow.Mapped)
	}
	if r != drop.None {
		return w.refuse4(p, r, 0)
	}
	if v.Proto == packet.ICMP && flow.Client.Addr == w.g.pings.client {
		return w.pong(p)
	}
	pref := w.conf.number(flow.Prefix)
	if w.private(p, src.Addr, pref) {
		return w.refuse4(p, drop.WellKnown, 0)
	}
	o := w.out.Next6()
	var t packet.Tuple6 // 3.6 outgoing tuple, field by field: To6 would wait for the two overlapping halves of an Endpoint6
	t.Src.Addr, t.Src.Port = w.conf.prefixes[pref].Embed(src.Addr), src.Port
	t.Dst.Addr, t.Dst.Port = flow.Client.Addr, flow.Client.Port
	if r := w.conf.Xlat.To6(o, v, p.frame.Offload, &t); r != drop.None { // 3.7 translate
		return w.refuse4(p, r, 0)
	}
	return w.charge(p, &flow.Client.Addr, metrics.From4To6, w.leave6(p, o))
}

// store keeps a SYN that waits for the client's (RFC 6146 section 3.5.2.2).
func (w *worker) store(p *inflight, src, dst packet.Endpoint4) drop.Reason {
	if w.trial != nil {
		return w.g.SYNs.Would(src, dst)
	}
	return w.g.SYNs.Add(src, dst, p.received(), w.now)
}

// errorFrom6 translates an ICMPv6 error of an IPv6 node for the IPv4 host that sent the quoted packet. It neither
// creates nor refreshes state (RFC 6146 section 3.5).
func (w *worker) errorFrom6(p *inflight, pref uint8) drop.Reason {
	var m message
	if r := m.read6(&p.view, p.frame.Offload); r != drop.None {
		return r
	}
	f, r := w.quoted6(p, &m, pref)
	w.quoted(p, &f, r)
	if r != drop.None {
		return r
	}
	if r := w.checkQuoted(p, &f); r != drop.None {
		return r
	}
	o, r := w.error6(p, &m, &f)
	switch {
	case r != drop.None:
		return r
	case w.turns(f.Proto, &packet.Tuple4{Src: f.Mapped, Dst: f.Remote}):
		w.tapTurned(p, &f)
		return w.turn(p, o)
	}
	return w.leave4(p, o)
}

// errorFrom4 translates an ICMP error from the IPv4 network for the client that sent the quoted packet, as errorFrom6
// does.
func (w *worker) errorFrom4(p *inflight) drop.Reason {
	var m message
	bad := m.read4(&p.view, p.frame.Offload)
	if !w.oursByQuote(&p.view, &m, bad) {
		return drop.NotPool4
	}
	if r := w.check4(p, bad); r != drop.None {
		return w.refuse4(p, r, 0)
	}
	if bad != drop.None {
		return w.refuse4(p, bad, 0)
	}
	f, r := w.quoted4(p, &m)
	w.quoted(p, &f, r)
	if r != drop.None {
		return r
	}
	if f.Client.Addr == w.g.pings.client {
		return w.refusedPing(p, &m)
	}
	if r := w.checkQuoted(p, &f); r != drop.None {
		return r
	}
	o, r := w.error4(p, &m, &f)
	if r != drop.None {
		return r
	}
	return w.leave6(p, o)
}

// leave4 sends the translation of a packet into the IPv4 network.
func (w *worker) leave4(p *inflight, o *packet.Out) drop.Reason {
	f := w.out.Leaving4(o)
	hop, wait, r := w.hop4(p, f)
	switch {
	case wait:
		return w.park(p, way{side: packet.V4, four: *f})
	case r != drop.None:
		return w.refuse6(p, r, 0)
	}
	if w.tap != nil {
		w.tap.leaves(&hop)
	}
	mtu, r := w.out.Send4(&egress.Packet{Out: o, From: &p.view, Pieces: p.pieces(), Hop: hop, Direction: p.direction(metrics.From6To4)})
	if mtu != 0 {
		return w.refuse6(p, r, mtu)
	}
	p.left = r == drop.None
	return r
}

// leave6 sends the translation of a packet into the IPv6 network.
func (w *worker) leave6(p *inflight, o *packet.Out) drop.Reason {
	f := w.out.Leaving6(o)
	hop, wait, r := w.hop6(p, f)
	switch {
	case wait:
		return w.park(p, way{side: packet.V6, six: *f})
	case r != drop.None:
		return w.refuse4(p, r, 0)
	}
	if w.tap != nil {
		w.tap.leaves(&hop)
	}
	mtu, r := w.out.Send6(&egress.Packet{Out: o, From: &p.view, Pieces: p.pieces(), Hop: hop, Direction: p.direction(metrics.From4To6)})
	if mtu != 0 {
		return w.refuse4(p, r, mtu)
	}
	p.left = r == drop.None
	return r
}
